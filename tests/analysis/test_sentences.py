"""One text read twice, against the model run by hand with hooks and caches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.analysis.sentences import read_sentence
from interp.errors import InterpError

TEXT = "In 1905 Einstein"
WHERE = {"all": (None, None), "L0": ([0], None), "L1H2": ([1], [2])}


@pytest.fixture(params=["learned", "rope"])
def model(request, make_model):
    return make_model(positional=request.param, n_ctx=24).double()


def received(pattern):
    """Mean attention of each key over itself and later queries; pattern is [head_index, query_pos, key_pos]."""
    return np.stack([pattern[:, key:, key].mean(1) for key in range(pattern.shape[-1])], 1)


def plane(model, sentence, column):
    return sentence.scores[column].to_numpy().reshape(model.cfg.n_layers, model.cfg.n_heads, -1)


def patterns(cache, model):
    return [cache["pattern", layer][0].numpy() for layer in range(model.cfg.n_layers)]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("scale", [0.0, 0.4, 2.0])
def test_both_readings_agree_with_runs_by_hand(model, where, scale):
    sentence = read_sentence(model, TEXT, ["surface"], scale=scale, where=where, top=7)
    ids = model.to_tokens(TEXT)
    with torch.no_grad():
        logits, cache = model.run_with_cache(ids)
        with model.bias(scale, *WHERE[where]):
            changed_logits, changed_cache = model.run_with_cache(ids)
    for column, one in (("attention_unchanged", cache), ("attention", changed_cache)):
        expected = np.stack([received(pattern) for pattern in patterns(one, model)])
        np.testing.assert_allclose(plane(model, sentence, column), expected, atol=1e-12)
    scores = np.stack([cache[f"blocks.{layer}.attn.hook_bias_scores"][0].numpy() for layer in range(2)])
    np.testing.assert_allclose(plane(model, sentence, "bias_score"), scores, atol=1e-12)
    for column, one in (("loss_unchanged", logits), ("loss", changed_logits)):
        expected = model.loss_fn(one, ids, per_token=True)[0]
        np.testing.assert_allclose(sentence.tokens[column][1:], expected, atol=1e-6)
        assert np.isnan(sentence.tokens[column][0])
    before, after = (one[0].log_softmax(-1) for one in (logits, changed_logits))
    np.testing.assert_allclose(sentence.tokens["kl"][1:], (before.exp() * (before - after)).sum(-1)[:-1], atol=1e-6)
    for column, one in (("unchanged", before), ("", after)):
        suffix = f"_{column}" if column else ""
        for place, rows in sentence.predictions.groupby("place"):
            row = one[place].exp()
            np.testing.assert_allclose(rows[f"probability{suffix}"], row[rows["token_index"].tolist()], rtol=1e-5)
            best = rows.sort_values(f"rank{suffix}").head(7)
            assert best["token_index"].tolist() == row.argsort(descending=True)[:7].tolist()
            assert best[f"rank{suffix}"].tolist() == list(range(1, 8))


def test_attention_without_bias_is_that_of_a_run_whose_bias_scores_are_removed_in_this_layer_only(model):
    sentence = read_sentence(model, TEXT, ["surface"])
    for layer in range(model.cfg.n_layers):
        hooks = [(f"blocks.{layer}.attn.hook_bias_scores", lambda scores, hook: scores * 0)]
        with torch.no_grad(), model.hooks(hooks):
            _, cache = model.run_with_cache(TEXT)
        found = plane(model, sentence, "attention_unbiased")[layer]
        np.testing.assert_allclose(found, received(cache["pattern", layer][0].numpy()), atol=1e-12)


def test_with_the_dial_at_1_both_readings_are_the_same(model):
    sentence = read_sentence(model, TEXT, ["surface"], scale=1, where="L1")
    assert (sentence.scores["attention"] == sentence.scores["attention_unchanged"]).all()
    assert (sentence.tokens["difference"][1:] == 0).all() and (sentence.tokens["kl"][1:].abs() == 0).all()
    assert (sentence.predictions["rank"] == sentence.predictions["rank_unchanged"]).all()


def test_with_the_dial_at_0_the_changed_reading_is_that_without_biases(model):
    dialled = read_sentence(model, TEXT, ["surface"], scale=0)
    without = read_sentence(model, TEXT, ["surface"], bias="none")
    np.testing.assert_allclose(dialled.tokens["loss"][1:], without.tokens["loss_unchanged"][1:], atol=1e-6)
    np.testing.assert_allclose(dialled.scores["attention"], without.scores["attention_unchanged"], atol=1e-12)
    assert (without.scores["bias_score"] == 0).all()


@pytest.mark.parametrize(("part", "kept"), [("q", 1), ("v", 0)])
def test_one_of_the_two_biases_can_be_scaled_alone(model, part, kept):
    sentence = read_sentence(model, TEXT, ["surface"], scale=0, part=part)
    replaced = [torch.zeros_like(bias) for bias in model.biases_in_force()]
    replaced[kept] = model.biases_in_force()[kept]
    with torch.no_grad(), model.bias(bias=tuple(replaced)):
        expected = model(TEXT, return_type="loss", loss_per_token=True)[0]
    np.testing.assert_allclose(sentence.tokens["loss"][1:], expected, atol=1e-6)


def test_what_an_outer_block_puts_in_force_is_what_is_read_and_scaled(model):
    replaced = torch.randn(model.cfg.d_head, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with model.bias(bias=(replaced, torch.zeros_like(replaced))):
        sentence = read_sentence(model, TEXT, ["surface"], scale=0)
        _, cache = model.run_with_cache(TEXT)
    scores = np.stack([cache[f"blocks.{layer}.attn.hook_bias_scores"][0].numpy() for layer in range(2)])
    np.testing.assert_allclose(plane(model, sentence, "bias_score"), scores, atol=1e-12)
    without = read_sentence(model, TEXT, ["surface"], bias="none")
    np.testing.assert_allclose(sentence.tokens["loss"][1:], without.tokens["loss_unchanged"][1:], atol=1e-6)


def test_shares_are_the_mean_attention_of_all_queries_to_the_tokens_of_a_class(model):
    sentence = read_sentence(model, TEXT, ["surface"], scale=2)
    _, cache = model.run_with_cache(TEXT)
    shares = sentence.shares("surface").set_index(["layer", "head", "token_class"])
    for (layer, head, token_class), row in shares.iterrows():
        inside = torch.tensor((sentence.tokens["surface"] == token_class).tolist())
        assert row["n_tokens"] == int(inside.sum())
        expected = cache["pattern", layer][0, head][:, inside].sum(-1).mean().item() if inside.any() else np.nan
        np.testing.assert_allclose(row["share_unchanged"], expected, atol=1e-12)
    for column in ("share", "share_unchanged", "share_unbiased"):
        np.testing.assert_allclose(shares[column].groupby(level=["layer", "head"]).sum(), 1)
    known = shares.dropna()
    np.testing.assert_allclose(known["log2_change"], np.log2(known["share"] / known["share_unchanged"]))
    np.testing.assert_allclose(known["log2_amplification"], np.log2(known["share_unchanged"] / known["share_unbiased"]))


def test_a_sentence_is_tagged_as_a_document_of_a_corpus_is(make_model):
    sentence = read_sentence(make_model(n_ctx=24), "The dog sleeps.", ["pos", "function"])
    assert "".join(sentence.tokens["token_string"][1:]) == "The dog sleeps."
    assert sentence.schemes == ["pos", "function"]
    words = sentence.tokens.groupby("pos", observed=True)["token_string"].sum().to_dict()
    assert {name: words[name] for name in ("DET", "PUNCT", "NOUN")} == {"DET": "The", "PUNCT": ".", "NOUN": " dog"}


def test_the_rows_of_a_head_stand_beside_its_tokens(model):
    sentence = read_sentence(model, TEXT, ["surface"])
    rows = sentence.of_head(1, 2)
    assert rows["token_string"].tolist() == sentence.tokens["token_string"].tolist()
    np.testing.assert_allclose(rows["bias_score"], plane(model, sentence, "bias_score")[1, 2])
    np.testing.assert_allclose(rows["bias_score_contrast"][1:].mean(), 0, atol=1e-12)


def test_reading_leaves_the_model_as_it_was(make_model):
    model = make_model(n_ctx=24).train()
    before = model.biases_in_force()
    read_sentence(model, TEXT, ["surface"], scale=0)
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.biases_in_force(), strict=True))
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (" \n", {}, "no text"),
        ("fox " * 40, {}, "at most 20"),
        ("fox", {"where": "heads"}, "one: all, a layer"),
        ("fox", {"where": "L9"}, "There is no L9"),
        ("fox", {"scale": float("nan")}, "cannot be scaled by nan"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(make_model, text, options, said):
    with pytest.raises(InterpError, match=said):
        read_sentence(make_model(), text, ["surface"], **options)


def test_a_head_or_scheme_that_is_not_there_is_refused(make_model):
    sentence = read_sentence(make_model(), "fox", ["surface"])
    with pytest.raises(InterpError, match="2 layers of 3 heads"):
        sentence.of_head(2, 0)
    with pytest.raises(InterpError, match="did you mean 'surface'"):
        sentence.shares("surfaces")

"""Head scores against loops over explicit patterns, and against heads built by hand, so that their kind is known."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.measurement import Context
from interp.analysis.measurements import head_scores
from interp.analysis.measurements.head_scores import IN_TEXT, SCORES, random_sequences
from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.open import bridge_of
from interp.analysis.readers.own import OwnReader
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.contexts import pack
from interp.model.config import BiasConfig
from tests.analysis.readers.families import CONTEXT, HEADS, LAYERS, made
from tests.analysis.reference import observe, rows_of

NO_BIAS = BiasConfig(mode="none")
LENGTHS = [30, 7, 25]
FAST = Settings(nulls=0, shifts=0, passages=0, fit_tokens=0)


def one_by_one(patterns, rows):
    """The scores in text of one head, query by query, and how many they are means of; patterns are arrays of each row."""
    found = {name: [] for name in IN_TEXT}
    for pattern, row in zip(patterns, rows, strict=True):
        for i in range(1, len(row)):
            p, tokens = np.asarray(pattern[i][: i + 1], float), [int(token) for token in row]
            found["previous_token"].append(p[i - 1])
            found["first_token"].append(p[0])
            of_tokens = p / p.sum()
            found["entropy"].append(-sum(x * np.log(x) for x in of_tokens if x > 0))
            found["distance"].append(sum(x * (i - j) for j, x in enumerate(of_tokens)))
            before = [j for j in range(i) if tokens[j] == tokens[i]]
            if before:
                found["same_token"].append(sum(p[j] for j in before))
    return {name: np.mean(values) for name, values in found.items()}, {name: len(of) for name, of in found.items()}


def even(rows):
    return [np.tril(np.ones((len(row), len(row)))) / np.arange(1, len(row) + 1)[:, None] for row in rows]


def tables(model, documents, scheme, **more):
    return measure(model, documents, [scheme], Settings(**{**vars(FAST), **more})).tables["head_scores"]


def test_scores_equal_means_over_explicit_patterns_in_blocks_of_queries(
    make_model, make_documents, make_scheme, monkeypatch
):
    monkeypatch.setattr(head_scores, "BLOCK", 7)
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], 12, LENGTHS)  # twelve tokens, so that most occurred before
    table = tables(model, documents, scheme, batch_size=2)
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    by_chance, n = one_by_one(even(rows), rows)
    for row in table.to_dict("records"):
        seen = observe(model.double(), rows, row["layer"], row["head"])
        model.float()
        for reading, suffix in enumerate(("", "_unbiased")):
            expected, _ = one_by_one([each[reading] for each in seen], rows)
            assert {name: row[name + suffix] for name in IN_TEXT} == pytest.approx(expected, abs=2e-5, rel=2e-5)
        assert {name: row[f"{name}_uniform"] for name in IN_TEXT} == pytest.approx(by_chance)
    assert set(table["n_queries"]) == {n["entropy"]} == {sum(map(len, rows)) - len(rows)}
    assert set(table["n_same_token"]) == {n["same_token"]} and 0 < n["same_token"] < n["entropy"]
    assert (table["previous_token"] - table["previous_token_unbiased"]).abs().max() > 0.01


def test_induction_equals_the_mean_over_explicit_patterns_of_the_random_tokens(make_model, make_documents, make_scheme):
    model, scheme = make_model(n_ctx=40), make_scheme("s", 3)
    table = tables(model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), scheme, seed=3)
    sequences = random_sequences(Context.of(OwnReader(model), [scheme], Settings(seed=3)))
    assert sequences.shape == (4, 39) and len({tuple(row) for row in sequences}) == 4
    for row in sequences:
        assert len(set(row)) == 20 and list(row[1:20]) == list(row[20:])
    with model.bias(bias="mean"):
        _, cache = model.run_with_cache(torch.from_numpy(sequences))
    for row in table.to_dict("records"):
        pattern = cache[f"blocks.{row['layer']}.attn.hook_pattern"][:, row["head"]]
        attention = []
        for tokens, of_sequence in zip(sequences, pattern, strict=True):
            for i in range(20, 39):
                after = list(tokens).index(tokens[i]) + 1  # of the first occurrence
                attention.append(float(of_sequence[i, after]))
        assert row["induction"] == pytest.approx(np.mean(attention), abs=1e-6)
        assert row["n_induction"] == len(attention) == 4 * 19
        assert row["induction_uniform"] == pytest.approx(np.mean([1 / (i + 1) for i in range(20, 39)]))
    other = tables(model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), scheme, seed=4)
    assert (other["induction"] != table["induction"]).all()
    pd.testing.assert_series_equal(other["entropy"], table["entropy"])  # text is read alike


def by_hand(make_model):
    """L0H0 attends to the previous token, L1H0 is an induction head that reads what L0H0 wrote; the others attend evenly.

    The residual stream holds the token in its first 64 dimensions, the position in the next 41, and in the last 64, once
    L0H0 has written, the token before.
    """
    model = make_model(n_ctx=41, d_model=192, q=NO_BIAS, v=NO_BIAS, std=0.0)
    token, place, before = slice(0, 64), slice(64, 105), slice(128, 192)
    generator, own = torch.Generator().manual_seed(0), torch.eye(64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, parameter in model.named_parameters():
            if "ln" in name and name.endswith("w"):
                parameter.fill_(1.0)
        model.W_E[:, token] = torch.randn(model.cfg.d_vocab, 64, generator=generator).sign() / 8
        model.W_pos[:, place] = torch.eye(41)
        first, second = (block.attn for block in model.blocks)
        first.W_Q[0, place, :41] = 100 * torch.eye(41).roll(-1, 1)  # asks for the position before
        first.W_K[0, place, :41] = torch.eye(41)
        first.W_V[0, token] = own
        first.W_O[0, :, before] = own
        second.W_Q[0, token] = 100 * own
        second.W_K[0, before] = own
    return model


def test_hand_made_heads_have_the_scores_of_their_kind(make_model, make_documents, make_scheme):
    model, scheme = by_hand(make_model), make_scheme("s", 2)
    documents = make_documents([scheme], model.cfg.d_vocab, [200, 90])
    table = tables(model, documents, scheme).set_index(["layer", "head"])
    previous, induction = table.loc[(0, 0)], table.loc[(1, 0)]
    assert previous["previous_token"] > 0.99 and previous["distance"] == pytest.approx(1, abs=0.01)
    assert previous["entropy"] < 0.05 and previous["induction"] < 0.01
    assert induction["induction"] > 0.97 and induction["previous_token"] < 0.2
    for place in [(0, 1), (0, 2), (1, 1), (1, 2)]:  # without weights: even attention, which is the control
        for name in SCORES:
            assert table.loc[place, name] == pytest.approx(table.loc[place, f"{name}_uniform"], rel=1e-5)
    with torch.no_grad():
        model.blocks[0].attn.W_O.zero_()  # nothing is written for the induction head to read
    without = tables(model, documents, scheme).set_index(["layer", "head"])
    assert without.loc[(0, 0), "previous_token"] > 0.99
    assert without.loc[(1, 0), "induction"] < 2 * without.loc[(1, 0), "induction_uniform"]


def test_random_models_attend_to_what_followed_no_more_than_by_chance(make_model, make_documents, make_scheme):
    scheme, found = make_scheme("s", 2), []
    for seed in range(6):
        model = make_model(seed=seed, n_ctx=60, std=0.02, q=NO_BIAS, v=NO_BIAS)
        table = tables(model, make_documents([scheme], 30, [60]), scheme)
        found.append(table["induction"].mean() / table["induction_uniform"].iloc[0])
    assert np.mean(found) == pytest.approx(1, abs=0.05)


def test_only_the_first_contexts_are_scored_whatever_the_batch_size(
    make_model, make_documents, make_scheme, monkeypatch
):
    monkeypatch.setattr(head_scores, "SAMPLE", 45)  # three contexts of twenty tokens
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], 12, [20] * 9)
    found = [tables(model, documents, scheme, batch_size=size) for size in (1, 2, 9)]
    found.append(tables(model, documents[:3], scheme))
    for table in found[1:]:
        pd.testing.assert_frame_equal(table, found[0], rtol=1e-5, atol=1e-7)
    assert set(found[0]["n_queries"]) == {3 * 19}
    assert (tables(model, documents[1:], scheme)["entropy"] != found[0]["entropy"]).all()


def test_without_a_bias_nothing_changes_and_a_context_without_room_has_no_induction(
    make_model, make_documents, make_scheme
):
    model, scheme = make_model(n_ctx=2, q=NO_BIAS), make_scheme("s", 3)
    table = tables(model, [*make_documents([scheme], 12, [2, 2]), *make_documents([scheme], 12, [3])[:0]], scheme)
    for name in IN_TEXT:
        pd.testing.assert_series_equal(table[name], table[f"{name}_unbiased"], check_names=False, check_exact=True)
    assert table["induction"].isna().all() and (table["n_induction"] == 0).all()
    assert table["previous_token"].equals(table["first_token"])  # of two tokens they are one


@pytest.mark.parametrize("family", ["qwen2-window", "gpt-oss", "qwen3-bias"])
def test_scores_of_a_bridged_model_are_those_of_the_patterns_it_shows(family, make_documents, make_scheme, tokenizer):
    """Windows, sinks and norms of queries included."""
    scheme = make_scheme("s", 3)
    documents = make_documents([scheme], 12, [CONTEXT] * 3)
    table = tables(BridgeReader(bridge_of(made(family), tokenizer), CONTEXT), documents, scheme, direction="effective")
    rows = torch.cat([contexts.tokens for contexts in pack(documents, CONTEXT, 1, 0)])
    with torch.no_grad():
        shown = made(family)(rows, output_attentions=True, use_cache=False).attentions
    for layer in range(LAYERS):
        for head in range(HEADS):
            expected, _ = one_by_one(shown[layer][:, head].numpy(), rows)
            [row] = table.query("layer == @layer and head == @head").to_dict("records")
            assert {name: row[name] for name in IN_TEXT} == pytest.approx(expected, abs=1e-5, rel=1e-5)
            assert row["entropy"] != row["entropy_unbiased"] and 0 <= row["induction"] < 1

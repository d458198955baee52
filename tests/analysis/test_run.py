import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.reference import auroc, hedges_g, observe, rows_of, shares
from tests.model.cases import LLAMA, MIXED, QWEN3

LENGTHS = [33, 7, 50, 21, 64]


SHAPES = [
    {"seed": 1},
    {"seed": 2, "positional": "rope", "activation": "prelu"},
    {"seed": 3, "n_layers": 1, "n_heads": 4, "d_model": 16, "n_ctx": 9},
    {"seed": 4, "q": BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)},
    {"seed": 5, **LLAMA, "q": BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)},
    {"seed": 6, **QWEN3},
    {"seed": 7, **MIXED, "qk_norm": True},
]


@pytest.mark.parametrize(
    ("changes", "n_classes"),
    [*((changes, 3) for changes in SHAPES), *((changes, 12) for changes in (SHAPES[0], SHAPES[2], SHAPES[-2]))],
    ids=str,
)  # 12 classes need several pieces of values at these head sizes
def test_every_number_equals_a_slow_reference_from_explicit_patterns(
    make_model, make_documents, make_scheme, changes, n_classes
):
    model, scheme = make_model(**changes), make_scheme("s", n_classes)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    settings = Settings(batch_size=3, nulls=0, shifts=0, passages=0)
    heads = measure(model, documents, [scheme], settings).heads
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    reference = model.double()
    layer, head = model.cfg.n_layers - 1, model.cfg.n_heads - 1
    seen = observe(reference, rows, layer, head)
    table = heads[(heads["layer"] == layer) & (heads["head"] == head)]
    expected = shares(seen, labels, n_classes)
    np.testing.assert_allclose(table["share"], expected[0], atol=1e-5)
    np.testing.assert_allclose(table["share_unbiased"], expected[1], atol=1e-5)
    np.testing.assert_allclose(table["log2_amplification"], np.log2(expected[0] / expected[1]), atol=1e-4)
    scores, cosines = (np.concatenate([s[place] for s in seen]) for place in (2, 3))
    flat = np.concatenate(labels)
    for c, row in enumerate(table.itertuples()):
        own, others = scores[flat == c], scores[flat != c]
        assert row.n_tokens == len(own)
        assert row.bias_score_mean == pytest.approx(own.mean(), abs=1e-5)
        assert row.bias_score_contrast == pytest.approx(own.mean() - scores.mean(), abs=1e-5)
        assert row.alignment == pytest.approx(cosines[flat == c].mean(), abs=1e-5)
        assert row.hedges_g == pytest.approx(hedges_g(own, others), abs=1e-4)
        assert abs(row.auroc - auroc(own, others)) <= row.auroc_error_bound + 1e-9
        assert row.auroc_error_bound < 0.03
    model.float()


@pytest.mark.parametrize("changes", SHAPES[-3:], ids=str)
@torch.no_grad()
def test_amplification_is_that_of_the_patterns_with_and_without_the_bias(
    make_model, make_documents, make_scheme, changes
):
    model, scheme = make_model(**changes), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    heads = measure(model, documents, [scheme], Settings(nulls=0, replicates=2)).heads
    heads = heads.set_index(["layer", "head", "token_class"])
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    for layer in range(model.cfg.n_layers):
        name, sums = f"blocks.{layer}.attn.hook_pattern", np.zeros((2, model.cfg.n_heads, 3))
        for row, label in zip(rows, labels, strict=True):
            with_bias = model.run_with_cache(row[None], names_filter=name)[1][name][0]
            with model.bias(scale=0, layers=[layer]):  # what reaches the layer stays
                without = model.run_with_cache(row[None], names_filter=name)[1][name][0]
            for place, pattern in enumerate((with_bias, without)):
                np.add.at(sums[place], (slice(None), label), pattern.sum(1).numpy())
        expected = np.log2(sums[0] / sums[1])
        assert np.abs(expected).max() > 0.02
        for head, c in np.ndindex(expected.shape):
            found = heads.loc[(layer, head, f"s{c}"), "log2_amplification"]
            assert found == pytest.approx(expected[head, c], abs=1e-4)


def test_token_and_position_tables_equal_a_plain_groupby(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], 30, LENGTHS)
    result = measure(model, documents, [scheme])
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    seen = observe(model.double(), rows, 1, 2)
    model.float()
    together = pd.DataFrame(
        {
            "score": np.concatenate([s[2] for s in seen]),
            "token": torch.cat(rows).numpy(),
            "pos": np.concatenate([np.arange(len(r)) for r in rows]),
            "label": [scheme.classes[c] for c in np.concatenate(labels)],
        }
    )
    tokens = result.tokens[(result.tokens["layer"] == 1) & (result.tokens["head"] == 2)].set_index("token_index")
    by_token = together.groupby("token")["score"].agg(["size", "mean", "std"])
    assert list(tokens.index) == list(by_token.index)
    np.testing.assert_array_equal(tokens["count"], by_token["size"])
    np.testing.assert_allclose(tokens["bias_score_mean"], by_token["mean"], atol=1e-5)
    half = 1.959964 * by_token["std"] / np.sqrt(by_token["size"])
    np.testing.assert_allclose(tokens["ci_high"] - tokens["bias_score_contrast"], half, atol=1e-5)
    usual = together.groupby("token")["label"].agg(lambda x: set(x.mode()))
    assert all(tokens["s"][token] in usual[token] for token in tokens.index)
    positions = result.positions[(result.positions["layer"] == 1) & (result.positions["head"] == 2)]
    by_pos = together.groupby("pos")["score"].agg(["size", "mean", "std"])
    np.testing.assert_array_equal(positions["n_tokens"], by_pos["size"])
    np.testing.assert_allclose(positions["bias_score_mean"], by_pos["mean"], atol=1e-5)
    np.testing.assert_allclose(positions["bias_score_sd"], by_pos["std"], atol=1e-5)


def test_passage_scores_equal_the_reference_patterns(make_model, make_documents, make_scheme, monkeypatch):
    monkeypatch.setattr("interp.analysis.measurements.passages.LENGTH", 8)
    monkeypatch.setattr(
        "interp.analysis.measurements.passages.at_words", lambda texts, first, last, focus: (first, last)
    )
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, [scheme], Settings(passages=3))
    assert result.passages.groupby("passage").size().tolist() == [8, 8, 8]
    rows, _ = rows_of(documents, 20, "s")
    for number, passage in result.passages.groupby("passage"):
        [row] = [r for r in rows if r[5:13].tolist() == passage["token_index"].tolist()]
        with_bias, without, scores, _ = observe(model.double(), [row], 0, 1)[0]
        model.float()
        scores_of = result.passage_scores.set_index(["layer", "head", "passage"])
        table = scores_of.loc[[(0, 1, number)]]
        visible = np.arange(20, 0, -1)
        np.testing.assert_allclose(table["attention"], (with_bias.sum(0) / visible)[5:13], atol=1e-5)
        np.testing.assert_allclose(table["attention_unbiased"], (without.sum(0) / visible)[5:13], atol=1e-5)
        np.testing.assert_allclose(table["bias_score"], scores[5:13], atol=1e-5)


def test_amplification_does_not_depend_on_batch_size(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 5)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    one, many = (measure(model, documents, [scheme], Settings(batch_size=b)) for b in (1, 7))
    for name in ("heads", "tokens", "positions", "passages", "passage_scores"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(many, name), rtol=1e-4, atol=1e-5)


def test_the_same_call_gives_the_same_bytes(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 5)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    first, second = (measure(model, documents, [scheme]).heads.to_csv() for _ in range(2))
    assert first == second


def test_two_schemes_at_once_equal_each_alone(make_model, make_documents, make_scheme):
    model, schemes = make_model(), [make_scheme("a", 5), make_scheme("b", 9)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    both = measure(model, documents, schemes).heads
    for scheme in schemes:
        only = [
            type(d)(d.index, d.document, d.tokens, d.offsets, {scheme.name: d.classes[scheme.name]}) for d in documents
        ]
        alone = measure(model, only, [scheme]).heads
        part = both[both["scheme"] == scheme.name].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("how", ["none in force", "no bias in the model"])
def test_without_a_bias_amplification_is_exactly_zero(make_model, make_documents, make_scheme, how):
    model = make_model(**({"q": BiasConfig()} if how.startswith("no ") else {}))
    scheme = make_scheme("s", 5)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    heads = measure(model, documents, [scheme], Settings(bias="none" if how == "none in force" else "mean")).heads
    assert (heads["log2_amplification"] == 0).all()
    assert (heads["bias_score_mean"] == 0).all()
    assert (heads["share"] == heads["share_unbiased"]).all()


def test_shares_of_a_partition_sum_to_one_and_a_class_of_all_tokens_is_not_amplified(
    make_model, make_documents, make_scheme
):
    model, schemes = make_model(), [make_scheme("some", 5), make_scheme("all", 1)]
    heads = measure(model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes).heads
    for share in ("share", "share_unbiased"):
        sums = heads[heads["scheme"] == "some"].groupby(["layer", "head"])[share].sum()
        np.testing.assert_allclose(sums, 1, atol=1e-6)
    everything = heads[heads["scheme"] == "all"]
    np.testing.assert_allclose(everything["log2_amplification"], 0, atol=1e-6)
    assert everything["bias_score_contrast"].abs().max() < 1e-12


def test_an_empty_class_has_no_tokens_and_missing_values(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    for document in documents:
        document.classes["s"][document.classes["s"] == 2] = 1
    heads = measure(model, documents, [scheme]).heads
    empty = heads[heads["token_class"] == "s2"]
    assert (empty["n_tokens"] == 0).all()
    assert (empty["share"] == 0).all()
    for column in ("log2_amplification", "ci_low", "bias_score_mean", "hedges_g", "auroc", "alignment"):
        assert empty[column].isna().all(), column


def test_a_given_direction_is_what_a_model_with_that_bias_would_do(make_model, make_documents, make_scheme):
    scheme = make_scheme("s", 4)
    broken = make_model(n_layers=1, v=BiasConfig())
    symmetric = make_model(n_layers=1, q=BiasConfig(), v=BiasConfig())
    documents = make_documents([scheme], broken.cfg.d_vocab, LENGTHS)
    own = measure(broken, documents, [scheme]).heads
    given = measure(symmetric, documents, [scheme], Settings(direction=broken.biases_in_force()[0])).heads
    pd.testing.assert_frame_equal(own, given, rtol=1e-6, atol=1e-7)


def test_the_effective_direction_adds_the_learned_query_bias(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    heads = measure(model, documents, [scheme], Settings(direction="effective")).heads
    rows, labels = rows_of(documents, 20, "s")
    effective = model.biases_in_force()[0] + model.b_Q
    with_bias = shares(observe(model, rows, 0, 1), labels, 4)[0]
    model.b_Q[0, 1] = 0  # layer 0 sees the same input whatever its own biases are
    without = shares(observe(model, rows, 0, 1, bias=effective), labels, 4)[1]
    table = heads[(heads["layer"] == 0) & (heads["head"] == 1)]
    np.testing.assert_allclose(table["share"], with_bias, atol=1e-5)
    np.testing.assert_allclose(table["share_unbiased"], without, atol=1e-5)
    assert abs(with_bias - without).max() > 0.01


def test_effective_with_rope_a_wrong_shape_and_no_document_are_refused(make_model, make_documents, make_scheme):
    scheme = make_scheme("s", 4)
    documents = make_documents([scheme], 30, LENGTHS)
    with pytest.raises(InterpError, match="RoPE"):
        measure(make_model(positional="rope"), documents, [scheme], Settings(direction="effective"))
    with pytest.raises(InterpError, match="norm of queries takes in the learned query bias"):
        measure(make_model(qk_norm=True), documents, [scheme], Settings(direction="effective"))
    with pytest.raises(InterpError, match=r"shape \[5\], expected \[2, 3, 8\]"):
        measure(make_model(), documents, [scheme], Settings(direction=torch.ones(5)))
    with pytest.raises(InterpError, match="no document"):
        measure(make_model(), [], [scheme])


def test_max_tokens_ends_at_a_document_border_and_the_model_is_left_as_it_was(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    model.train()
    result = measure(model, make_documents([scheme], 30, LENGTHS), [scheme], Settings(max_tokens=100))
    assert result.run["n_tokens"] == 33 + 7 + 50
    assert result.run["n_documents"] == 3
    assert model.training
    assert not any(hook.has_hooks() for hook in model.hook_points())
    model.eval()

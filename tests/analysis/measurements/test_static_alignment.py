import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from interp.analysis.measurements.static_alignment import (
    StaticAlignment,
    agreement,
    extremes_table,
    static_alignment,
    with_static_alignment,
)
from interp.analysis.measurements.top_tokens import enrichment, enrichment_table, extreme_tokens
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.config import BiasConfig
from interp.spelling import token_strings
from tests.analysis.reference import observe, rows_of
from tests.model.cases import QWEN3
from tests.model.reference import normed

LENGTHS = [33, 7, 50, 21, 64]


CASES = [{}, {"positional": "rope"}, {"n_layers": 1, "n_heads": 4, "d_model": 16}, QWEN3]


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_static_alignment_is_the_cosine_of_each_embedding_key_and_the_mean_bias(make_model, changes):
    model = make_model(**changes).train()  # its last draw is in force, and the mean is meant all the same
    found = static_alignment(model)
    assert model.training
    for layer, head in np.ndindex(model.cfg.n_layers, model.cfg.n_heads):
        bias = model.bias_q.mean.expand(model.cfg.d_head).double().numpy()
        for row in (0, 7, model.cfg.d_vocab - 1):
            key = model.W_E[row].double() @ model.W_K[layer, head].double()
            if model.cfg.qk_norm:
                key = normed(model.blocks[layer].attn.k_norm, key, model.cfg.eps)
            key = key.detach().numpy()
            expected = key @ bias / np.sqrt((key @ key) * (bias @ bias))
            assert float(found.tokens[layer, head, row]) == pytest.approx(expected, abs=1e-5)
    if model.cfg.positional == "rope":
        assert found.positions is None
    elif not model.cfg.qk_norm:
        key = (model.W_pos[3].double() @ model.W_K[-1, -1].double()).detach().numpy()
        expected = key @ bias / np.sqrt((key @ key) * (bias @ bias))
        assert float(found.positions[-1, -1, 3]) == pytest.approx(expected, abs=1e-5)
    assert static_alignment(make_model(q=BiasConfig(), **changes)).tokens.isnan().all()


def test_static_alignment_along_another_models_bias_and_along_its_negative(make_model):
    symmetric, broken = make_model(q=BiasConfig()), make_model()
    along = static_alignment(symmetric, broken).tokens
    assert not along.isnan().any() and along.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(static_alignment(symmetric, -broken.mean_biases()[0]).tokens, -along)


def test_extreme_tokens_are_frequent_enough_and_in_order(make_model):
    values = torch.tensor([0.5, -0.9, 0.9, 0.1, 0.7, -0.2, torch.nan])
    count = np.array([10, 99, 9, 10, 10, 10, 99])
    top, bottom = extreme_tokens(values, count, k=2)
    assert (top.tolist(), bottom.tolist()) == ([4, 0], [1, 5])
    with pytest.raises(InterpError, match="Only 5 tokens occur at least 10 times, and 6 are needed"):
        extreme_tokens(values, count, k=3)
    model = make_model()
    alignment = static_alignment(model).tokens
    table = extremes_table(model, alignment, np.full(model.cfg.d_vocab, 10), k=4)
    assert len(table) == 2 * 3 * 2 * 4
    one = table[(table["layer"] == 1) & (table["head"] == 2) & (table["end"] == "bottom")]
    order = alignment[1, 2].argsort()[:4]
    assert one["token_index"].tolist() == order.tolist()
    assert one["token_string"].tolist() == token_strings(model.tokenizer, order.tolist())
    assert extremes_table(model, torch.full_like(alignment, torch.nan), np.full(model.cfg.d_vocab, 10)).empty


@given(st.integers(0, 1000), st.integers(1, 30))
def test_enrichment_is_the_log_odds_of_its_table_with_halves_added(seed, k):
    random = np.random.default_rng(seed)
    classes, pool = random.integers(4, size=80), random.permutation(80)[:40]
    table = enrichment(pool[:k], pool, classes, list("abcde")).set_index("token_class")
    for c, name in enumerate("abcde"):
        a, n = (classes[pool[:k]] == c).sum(), (classes[pool] == c).sum()
        cells = np.array([[a, k - a], [n - a, 40 - k - n + a]]) + 0.5
        if n == 0:
            assert table.loc[name, ["log2_odds", "ci_low", "ci_high"]].isna().all()
            continue
        expected = stats.contingency.odds_ratio(np.ones((2, 2), dtype=int)).statistic  # 1, to be scaled by the cells
        expected *= cells[0, 0] / cells[0, 1] * cells[1, 1] / cells[1, 0]
        half = stats.norm.ppf(0.975) * np.sqrt((1 / cells).sum())
        assert table.loc[name, "log2_odds"] == pytest.approx(np.log2(expected))
        assert table.loc[name, "ci_high"] == pytest.approx((np.log(expected) + half) / np.log(2))
        assert table.loc[name, "ci_low"] == pytest.approx((np.log(expected) - half) / np.log(2))
    rest = enrichment(pool[k:], pool, classes, list("abcde")).set_index("token_class")
    np.testing.assert_allclose(rest["log2_odds"], -table["log2_odds"])  # what is rich here is poor in the rest


def test_a_class_planted_along_the_bias_is_enriched_at_the_top_and_depleted_at_the_bottom(make_model):
    model = make_model(d_model=48)
    classes = np.arange(model.cfg.d_vocab) % 3
    bias = model.mean_biases()[0][0, 1]
    with torch.no_grad():  # tokens of class 2 get an embedding whose key in head L0H1 points along the bias
        model.W_E[torch.from_numpy(classes == 2)] += 3 * torch.linalg.pinv(model.W_K[0, 1].T) @ bias
    alignment = static_alignment(model).tokens
    table = enrichment_table(alignment, np.full(model.cfg.d_vocab, 20), classes, list("abc"), k=40)
    assert len(table) == 2 * 3 * 2 * 3
    planted = table[(table["layer"] == 0) & (table["head"] == 1)].set_index(["end", "token_class"])
    assert planted.loc[("top", "c"), "ci_low"] > 3
    assert planted.loc[("bottom", "c"), "ci_high"] < -1
    assert (planted["n_pool"] == 100).all()


def test_contextual_alignment_of_a_token_is_the_mean_cosine_of_its_keys(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], 30, LENGTHS)
    tokens = measure(model, documents, [scheme], Settings(nulls=0)).tokens
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    seen = observe(model.double(), rows, 1, 2)
    model.float()
    together = pd.DataFrame({"token": torch.cat(rows).numpy(), "cosine": np.concatenate([s[3] for s in seen])})
    table = tokens[(tokens["layer"] == 1) & (tokens["head"] == 2)].set_index("token_index")
    np.testing.assert_allclose(table["alignment"], together.groupby("token")["cosine"].mean(), atol=1e-5)


def test_agreement_correlates_both_alignments_over_frequent_tokens(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    tokens = measure(model, make_documents([scheme], 30, [900]), [scheme], Settings(nulls=0)).tokens
    static = static_alignment(model)
    table = with_static_alignment(tokens, static)
    found = agreement(table, min_count=30).set_index(["layer", "head"])
    one = table[(table["layer"] == 1) & (table["head"] == 0) & (table["count"] >= 30)]
    expected = static.tokens[1, 0, torch.tensor(one["token_index"].to_numpy())].detach()
    assert found.loc[(1, 0), "n_tokens"] == len(one)
    assert found.loc[(1, 0), "pearson"] == pytest.approx(np.corrcoef(expected, one["alignment"])[0, 1], abs=1e-5)
    assert found.loc[(1, 0), "spearman"] == pytest.approx(stats.spearmanr(expected, one["alignment"])[0], abs=1e-5)
    assert len(found) == 6
    assert found["pearson"].mean() > 0.2  # contexts change keys, and do not make others of them
    assert agreement(table, min_count=10_000)["pearson"].isna().all()
    with pytest.raises(InterpError, match="the same model"):
        with_static_alignment(tokens, StaticAlignment(static.tokens[:1], None))

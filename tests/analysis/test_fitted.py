"""A = A_position + A_beyond, from explicit patterns and from means fitted on the other documents."""

import numpy as np
import pytest
import torch

from interp.analysis import fitted
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.contexts import pack
from tests.analysis.reference import observe, rows_of

LENGTHS = [33, 7, 50, 21, 64, 12]
ALL = 10**6  # tokens to fit on: everything


def parts_written_out(model, documents, layer, head, groups_of):
    """log2 of class shares with fitted means over those without, [class], in float64 and pattern by pattern."""
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    seen = observe(model.double(), rows, layer, head)
    model.float()
    of = [c.documents[0][c.mask[0]].numpy() for c in pack(documents, model.cfg.n_ctx, 1, 0)]
    groups = [groups_of(row, np.arange(len(row))) for row in rows]
    flat = [np.concatenate(each) for each in ([s[2] for s in seen], of, groups)]
    totals = np.zeros((3, 3))
    for (with_bias, without, _, _), document, group, label in zip(seen, of, groups, labels, strict=True):
        mean = np.empty(len(label))
        for j, (d, g) in enumerate(zip(document, group, strict=True)):
            others = flat[0][(flat[1] % 2 != d % 2) & (flat[2] == g)]
            mean[j] = others.mean() if len(others) else flat[0][flat[1] % 2 != d % 2].mean()
        with_mean = without * np.exp(mean)
        patterns = with_bias, without, with_mean / with_mean.sum(-1, keepdims=True)
        for reading, pattern in enumerate(patterns):
            for c in range(3):
                totals[reading, c] += pattern[:, label == c].sum()
    with_bias, without, with_mean = np.log2(totals)
    return with_mean - without, with_bias - with_mean


@pytest.fixture
def everything_fitted(monkeypatch):
    """Whole documents, and every position by itself."""
    monkeypatch.setattr(fitted, "LEAST_DOCUMENTS", 1)
    monkeypatch.setattr(fitted, "LEAST_PER_POSITION", 0)


@pytest.mark.usefixtures("everything_fitted")
@pytest.mark.parametrize("batch_size", [1, 4])
def test_both_parts_equal_explicit_patterns_and_add_up_to_a(make_model, make_documents, make_scheme, batch_size):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    asked = Settings(batch_size=batch_size, nulls=0, shifts=0, fit_tokens=ALL, by_type=True)
    heads = measure(model, documents, [scheme], asked).heads
    for layer, head in ((0, 0), (1, 2)):
        rows = heads[(heads["layer"] == layer) & (heads["head"] == head)]
        for name, beyond, groups_of in (
            ("position", "beyond", lambda tokens, places: places),
            ("type", "beyond_type", lambda tokens, places: tokens.numpy()),
        ):
            explained, left = parts_written_out(model, documents, layer, head, groups_of)
            np.testing.assert_allclose(rows[f"log2_amplification_{name}"], explained, atol=2e-5)
            np.testing.assert_allclose(rows[f"log2_amplification_{beyond}"], left, atol=2e-5)
            added = rows[f"log2_amplification_{name}"] + rows[f"log2_amplification_{beyond}"]
            np.testing.assert_allclose(added, rows["log2_amplification"], atol=1e-12)


def test_a_head_without_bias_has_no_part_and_no_interval_around_anything_else(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    heads = measure(model, documents, [scheme], Settings(bias="none", nulls=0)).heads
    for column in ("log2_amplification", "log2_amplification_position", "log2_amplification_beyond"):
        np.testing.assert_array_equal(heads[column].dropna(), 0)


def test_a_bias_score_that_knows_only_the_position_leaves_nothing_beyond_it(
    make_model, make_documents, make_scheme, monkeypatch
):
    monkeypatch.setattr(fitted, "LEAST_DOCUMENTS", 1)
    model, scheme = make_model(n_layers=1), make_scheme("s", 3)
    with torch.no_grad():
        model.embed.weight.zero_()  # keys know the position alone
    documents = make_documents([scheme], model.cfg.d_vocab, [400, 400, 400, 400])
    heads = measure(model, documents, [scheme], Settings(nulls=0, shifts=0, fit_tokens=ALL)).heads
    np.testing.assert_allclose(heads["log2_amplification_beyond"], 0, atol=1e-6)
    assert heads["log2_amplification_position"].abs().max() > 1e-3


def test_positions_with_few_keys_share_a_mean_with_their_neighbours():
    alone = fitted._groups_of_positions(20, 20 * 2 * fitted.LEAST_PER_POSITION, torch.device("cpu"))
    together = fitted._groups_of_positions(200, 2000, torch.device("cpu"))
    assert alone.tolist() == list(range(20))
    assert together[:3].tolist() == [0, 1, 2] and together[160] == together[170] and together.diff().max() == 1

"""A = A_position + A_beyond, from explicit patterns and from means fitted on the other documents."""

import numpy as np
import pytest
import torch

from interp.analysis import fitted
from interp.analysis.findings import findings
from interp.analysis.fitted import frequent_types
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.contexts import pack
from tests.analysis.planted import documents_of, plant
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


LENGTH, DOCUMENTS, NATS, RISE = 40, 48, 1.2, 4.0
OFTEN = 0.1 + 0.5 * np.arange(LENGTH) / LENGTH  # how often class 1 stands at a position: it stands late


def planted_texts(random, number):
    """Tokens [document, pos] of which those below 10 are of class 1."""
    of_class = random.random((number, LENGTH)) < OFTEN
    return np.where(of_class, random.integers(0, 10, (number, LENGTH)), random.integers(10, 20, (number, LENGTH)))


def true_parts(nats, noise, number=40_000):
    """A_position and A_beyond of class 1 in endless text: bias scores rise along the context, with the class, by noise."""
    random = np.random.default_rng(9)
    of_class = planted_texts(random, number) < 10
    rise = RISE * np.arange(LENGTH) / LENGTH
    scores = rise + nats * of_class + noise * random.standard_normal((number, LENGTH))
    readings = scores, rise + nats * OFTEN + np.zeros_like(scores), np.zeros_like(scores)
    weights = [np.exp(each) for each in readings]
    sums = [((w * of_class).cumsum(1) / w.cumsum(1)).mean() for w in weights]
    return np.log2(sums[1] / sums[2]), np.log2(sums[0] / sums[1])


@pytest.mark.slow
def test_a_planted_class_effect_beside_a_planted_position_effect_is_split_within_its_intervals(
    make_model, make_scheme, monkeypatch
):
    """In heads 0 and 1 tokens of class 1 are 1.2 nats above others; in all heads bias scores rise by 4 nats."""
    model, scheme = make_model(n_layers=1, n_heads=4, d_model=64, n_ctx=LENGTH), make_scheme("s", 2)
    vector = model.biases_in_force()[0][0]
    one_nat = vector / vector.square().sum(-1, keepdim=True) * model.cfg.d_head**0.5
    of_token = (np.arange(20) < 10).astype(np.int64)
    truth = [true_parts(nats, float(vector[0].norm()) / model.cfg.d_head**0.5) for nats in (NATS, 0.0)]
    assert truth[0][0] > 0.2 and truth[0][1] > 0.2  # both parts are there to be found
    inside, found = [], []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)

        def keys(tokens, generator=generator):
            scores = RISE * torch.arange(tokens.shape[1])[None, :, None] / LENGTH * torch.ones(*tokens.shape, 4)
            scores[..., :2] += NATS * torch.from_numpy(of_token)[tokens][..., None]
            return torch.randn(*tokens.shape, 4, 16, generator=generator) + scores[..., None] * one_nat

        plant(monkeypatch, keys)
        texts = planted_texts(np.random.default_rng(seed), DOCUMENTS)
        result = measure(
            model, documents_of(texts.ravel(), of_token, scheme, LENGTH), [scheme], Settings(nulls=0, seed=seed)
        )
        rows = result.heads.query("token_class == 's1'")
        for row in rows.to_dict("records"):
            position, beyond = truth[row["head"] > 1]
            half = row["beyond_ci_high"] - row["log2_amplification_beyond"]
            inside.append(row["beyond_ci_low"] < beyond < row["beyond_ci_high"])
            assert abs(row["log2_amplification_position"] - position) < max(4 * half, 0.1)
        pairs = findings(result).query("token_class == 's1'")
        found.append([(pairs["head"] == head).any() for head in range(4)])
    assert np.mean(inside) > 0.85
    assert np.all(np.array(found)[:, :2]) and np.mean(np.array(found)[:, 2:]) <= 0.15


def test_frequent_types_are_by_frequency_then_by_number_and_occur_twice(make_documents, make_scheme, monkeypatch):
    documents = make_documents([make_scheme("s", 2)], 30, [40, 25, 60], seed=3)
    tokens = np.concatenate([document.tokens for document in documents])
    expected = sorted((t for t in range(30) if (tokens == t).sum() > 1), key=lambda t: (-(tokens == t).sum(), t))
    np.testing.assert_array_equal(frequent_types(documents, 30), expected)
    monkeypatch.setattr("interp.analysis.fitted.FREQUENT", 5)
    np.testing.assert_array_equal(frequent_types(documents, 30), expected[:5])
    assert frequent_types([], 30).size == 0

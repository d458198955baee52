"""How often intervals over documents hold the truth, with the lengths and classes of the 12 held-out Wikipedia articles.

Every document has a level of its own, for all classes and for each, and tokens scatter around it with a standard deviation
of 1. Simulations stand in the axis of heads, so that each kind of interval is computed by the functions that make it.
`held_out_counts.csv` has the tokens of each class in each of those documents.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.accumulators import BootstrapSums, poisson_weights
from interp.analysis.comparison.paired import Pair, differences
from interp.analysis.interventions.measure import estimate
from interp.analysis.measurements.position import (
    Strata,
    StratifiedSums,
    contrasts_over_folds,
    position_profile,
)
from interp.analysis.significance import (
    LEAST_EFFECTIVE_DOCUMENTS,
    effective_documents,
    interval_over_documents,
    replicate_deviation,
    why_no_interval,
)
from interp.evals.held_out import DocumentRatios

TABLE = pd.read_csv(Path(__file__).parent / "held_out_counts.csv", keep_default_na=False)
COUNTS = TABLE.iloc[:, 2:].to_numpy().T  # [document, class]
SCHEMES = {name: list(rows) for name, rows in TABLE.groupby("scheme", sort=False).indices.items()}
LENGTHS = COUNTS[:, SCHEMES["function"]].sum(1)
EFFECTIVE = effective_documents(COUNTS)
GIVEN = EFFECTIVE >= LEAST_EFFECTIVE_DOCUMENTS
SHARED, OWN = 0.2, 0.3  # standard deviations of the documents' levels, for all of their classes and for each
DRAWS, REPLICATES = 150, 200  # simulations to one draw of the bootstrap's weights; replicates, as by default
SEEDS = range(8)


def means(random, counts, size, own=OWN):
    """Mean values of each document's tokens of each class around 0, [simulation, document, class]; 0 where it has none."""
    shape = (size, *counts.shape)
    levels = SHARED * random.standard_normal(shape[:2])[..., None] + own * random.standard_normal(shape)
    return (levels + random.standard_normal(shape) / np.sqrt(np.maximum(counts, 1))) * (counts > 0)


def assert_covered(held, given=GIVEN, at=EFFECTIVE):
    """`held` [simulation, class] counts intervals that hold the truth; refused ones are missing, never wrong."""
    rate = np.mean(held, axis=0)
    print(
        f"{given.sum()} with interval: {rate[given].min():.3f} to {rate[given].max():.3f}, mean {rate[given].mean():.3f}"
    )
    assert (rate[~given] == 0).all()
    error = 2 * np.sqrt(0.05 * 0.95 / len(held))
    wrong = given & ((rate < 0.93 - error) | (rate > 0.97 + error))
    assert not wrong.any(), np.stack([at[wrong], rate[wrong]]).round(3)
    assert 0.935 < rate[given].mean() < 0.965


def holds(low, high, truth):
    return (low <= truth) & (truth <= high)


def bootstrap(values, seed):
    """Sums and their replicates of what the documents give, [document, *shape]."""
    sums = BootstrapSums(values.shape[1:], REPLICATES)
    sums.add(slice(None), torch.as_tensor(values), poisson_weights(torch.arange(len(values)), REPLICATES, seed))
    return sums


def attention(random, size, level=2.0, own=OWN):
    """Attention of each document's queries to each class with the bias and without, [document, 2, simulation, class].

    It is `level` times as much with the bias, so A is log2 of it, and varies by a tenth of that as the values of tokens do.
    """
    without = np.broadcast_to(COUNTS[:, None], (len(COUNTS), size, COUNTS.shape[1])) * 1.0
    factor = level * (1 + 0.3 * np.moveaxis(means(random, COUNTS, size, own), 1, 0))
    return np.stack([without * factor, without], 1)


@pytest.mark.slow
def test_amplification():
    held = []
    for seed in SEEDS:
        sums = bootstrap(attention(np.random.default_rng(seed), DRAWS), seed)
        value, replicates = sums.total.log2(), sums.log2_replicates()
        change = replicates[:, 0] - replicates[:, 1]
        error = replicate_deviation(change.movedim(0, -1).numpy())
        held.append(holds(*interval_over_documents((value[0] - value[1]).numpy(), error, EFFECTIVE), 1))
    assert_covered(np.concatenate(held))


@pytest.mark.slow
def test_differences_of_amplification_of_two_models():
    held = []
    for seed in SEEDS:
        random, found = np.random.default_rng(seed), []
        for level in (2.0, 3.0):
            sums = bootstrap(attention(random, DRAWS, level), seed)
            replicates = sums.log2_replicates().numpy()
            values = sums.total.log2().numpy()
            found.append((values[0] - values[1], np.moveaxis(replicates[:, 0] - replicates[:, 1], 0, -1)))
        (a, of_a), (b, of_b) = found
        table = differences(Pair(a, b, of_a, of_b, EFFECTIVE, TABLE.iloc[:, :2]))
        held.append(holds(table["ci_low"], table["ci_high"], np.log2(1.5)))
        np.testing.assert_array_equal(table["p"] < 0.05, ~holds(table["ci_low"], table["ci_high"], 0) & GIVEN)
    assert_covered(np.concatenate(held))


@pytest.mark.slow
def test_interventions():
    """Mean differences of the loss, as of any value of predicted tokens, and log2 changes of attention."""
    held, attended = [], []
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        values = np.moveaxis(means(random, COUNTS, DRAWS) + 3, 1, 0) * COUNTS[:, None]
        count = bootstrap(np.broadcast_to(COUNTS[:, None, None], (len(COUNTS), 1, DRAWS, COUNTS.shape[1])) * 1.0, seed)
        mean, replicates = bootstrap(values[:, None], seed).mean_over(count, (0,))
        found = estimate("loss", mean.numpy(), replicates.numpy(), EFFECTIVE)
        held.append(holds(found["ci_low"], found["ci_high"], 3))
        sums = bootstrap(attention(random, DRAWS), seed)
        value, replicates = sums.total.log2().numpy(), sums.log2_replicates().numpy()
        found = estimate("log2_change", value[0] - value[1], replicates[:, 0] - replicates[:, 1], EFFECTIVE)
        attended.append(holds(found["ci_low"], found["ci_high"], 1))
    assert_covered(np.concatenate(held))
    assert_covered(np.concatenate(attended))


def test_held_out_loss():
    values = (means(np.random.default_rng(0), COUNTS, 4000) + 3) * COUNTS
    ratios = DocumentRatios(values[:, 0].size)
    counts = np.broadcast_to(COUNTS, values.shape)
    ratios.add_documents(np.stack([counts, values], 1).transpose(2, 1, 0, 3).reshape(len(COUNTS), 2, -1))
    table = ratios.table()
    np.testing.assert_allclose(table["effective_documents"], np.tile(EFFECTIVE, 4000))
    assert_covered(holds(table["low"], table["high"], 3).to_numpy().reshape(4000, -1))


def stratified(random, counts, size, n_strata, own):
    """Bias scores of tokens that lie in strata with levels of their own, as sums by fold, class and stratum."""
    sums = StratifiedSums(Strata("position", n_strata), 1, size, counts.shape[1])
    late = np.linspace(-1, 1, n_strata) * np.linspace(-1, 1, counts.shape[1])[:, None]  # classes prefer some strata
    rates = np.exp(late) / np.exp(late).sum(1, keepdims=True)
    count = np.stack([[random.multinomial(n, p) for n, p in zip(row, rates, strict=True)] for row in counts])
    shared = SHARED * random.standard_normal((size, len(counts), 1, 1))
    levels = shared + own * random.standard_normal((size, *counts.shape, 1)) + 2 * np.linspace(0, 1, n_strata)
    cells = levels * count + random.standard_normal((size, *count.shape)) * np.sqrt(count)
    sums.count[: len(counts)] = torch.from_numpy(count)
    sums.by_class[0, :, : len(counts)] = torch.from_numpy(cells.sum(3))
    sums.by_stratum[0, :, : len(counts)] = torch.from_numpy(cells.sum(2))
    return sums


@pytest.mark.parametrize("collapsed", [True, False])
def test_contrasts_as_measured_and_between_tokens_of_the_same_position(collapsed):
    held, given = [], []
    for scheme in SCHEMES.values():
        counts, parts = COUNTS[:, scheme], []
        for seed in range(4):
            random = np.random.default_rng(seed)
            sums = stratified(random, counts, 1000, 1 if collapsed else 6, OWN)
            found = contrasts_over_folds(sums, {"s": (0, len(scheme))}, collapsed)
            np.testing.assert_allclose(found.effective, EFFECTIVE[scheme])
            parts.append(holds(*interval_over_documents(found.value, found.error, found.effective), 0))
        held.append(np.concatenate(parts))
        given.append(GIVEN[scheme])
    order = np.concatenate(list(SCHEMES.values()))
    assert_covered(np.concatenate(held, 1), np.concatenate(given), EFFECTIVE[order])


def test_profiles_of_positions():
    """The documents lie one after the other in contexts of 128 tokens; each position meets each as often as it is long."""
    owner = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    count = np.stack([np.bincount(owner[place::128], minlength=len(LENGTHS)) for place in range(0, 128, 8)], 1)
    sums = StratifiedSums(Strata("position", count.shape[1]), 1, 4000, 1)
    values = (means(np.random.default_rng(0), count, 4000) + 3) * count
    sums.count[: len(count), 0] = torch.from_numpy(count)
    sums.by_stratum[0, :, : len(count)] = torch.from_numpy(values)
    profile = position_profile(sums, {"s": (0, 1)})
    effective = effective_documents(count)
    np.testing.assert_allclose(profile.effective, effective)
    low, high = interval_over_documents(profile.value, profile.error, profile.effective)
    assert_covered(holds(low, high, 3), effective >= LEAST_EFFECTIVE_DOCUMENTS, effective)


def test_two_documents_are_refused_because_student_s_t_of_them_is_not_what_it_says(monkeypatch):
    """It is exact for equal ones; the less equal, the more it holds, and anything else with it."""
    rates, widths = [], []
    monkeypatch.setattr("interp.analysis.significance.LEAST_EFFECTIVE_DOCUMENTS", 1)
    for lengths in ([500, 500], [700, 300], [900, 100]):
        n = np.array(lengths)
        values = (means(np.random.default_rng(0), n[:, None], 20_000) * n[:, None])[..., 0]
        mean = values.sum(1) / n.sum()
        error = np.sqrt(np.square(values - mean[:, None] * n).sum(1)) / n.sum()
        low, high = interval_over_documents(mean, error, effective_documents(n[:, None]))
        rates.append(holds(low, high, 0).mean())
        widths.append(np.median(high - low) / np.std(mean))
    print(rates, widths)
    assert rates[0] == pytest.approx(0.95, abs=0.005)
    assert rates[1] > 0.97 and rates[2] > 0.999 and widths[2] > 1000
    monkeypatch.undo()
    assert np.isnan(interval_over_documents(mean, error, effective_documents(n[:, None]))).all()


def test_the_reason_for_no_interval_is_a_sentence():
    assert "does not occur" in why_no_interval(0, 0.0)
    assert "2.4 documents" in why_no_interval(100, 2.38) and "needs 4" in why_no_interval(100, 2.38)
    assert "is not known" in why_no_interval(100, 7.0)

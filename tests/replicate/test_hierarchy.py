"""Intervals over seeds and documents: against sums done one by one, bootstraps drawn, and noise of known size."""

import numpy as np
import pytest
from scipy import stats

from interp.replicate.hierarchy import estimate, largest_sd, loss_replicates, ratio, seeds_needed


def drawn(random, seeds, documents, sizes, replicates=200):
    """Noise around 0: of seeds, of documents, and of both; the values and their replicates."""
    of_seed, of_document, of_both = (
        scale * random.normal(size=shape)
        for scale, shape in zip(sizes, ((seeds, 1), (1, documents), (seeds, documents)), strict=True)
    )
    cells = of_seed + of_document + of_both
    times = random.multinomial(documents, np.full(documents, 1 / documents), size=replicates)
    return cells.mean(1), cells @ times.T / documents


@pytest.mark.parametrize("sizes", [(1, 0, 0), (0, 3, 0), (0.3, 1, 1), (0, 1, 4)])
@pytest.mark.parametrize(("seeds", "documents"), [(3, 12), (5, 8)])
def test_intervals_hold_the_truth_as_often_as_they_say(sizes, seeds, documents):
    random, held = np.random.default_rng(0), 0
    for _ in range(300):
        found = estimate(*drawn(random, seeds, documents, sizes, 80), documents)
        held += found.low <= 0 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_the_variance_is_that_of_a_bootstrap_over_seeds_and_documents_with_each_part_counted_once():
    random, seeds, documents = np.random.default_rng(1), 4, 9
    values, replicates = drawn(random, seeds, documents, (1, 3, 1), 500)
    replicates = replicates - replicates.mean(1, keepdims=True) + values[:, None]
    boot = [
        np.mean([replicates[s, r] for s in random.integers(seeds, size=seeds)])
        for r in random.integers(500, size=10_000)
    ]
    between = sum((x - values.mean()) ** 2 for x in values) / (seeds - 1)
    common = [sum(replicates[:, r]) / seeds for r in range(500)]
    own = sum(np.var([replicates[s, r] - common[r] for r in range(500)], ddof=1) for s in range(seeds)) / (seeds - 1)
    v = np.var(common, ddof=1)
    assert np.var(boot) == pytest.approx((seeds - 1) / seeds**2 * (between + own) + v, rel=0.05)
    once = between / seeds + (v - own / seeds) * documents / (documents - 1)
    assert v > own / seeds
    assert estimate(values, replicates, documents).error == pytest.approx(np.sqrt(once))


def test_without_documents_it_is_student_s_interval_over_seeds():
    values = np.array([1.0, 2.0, 4.0])
    wanted = stats.ttest_1samp(values, 0)
    for found in (estimate(values), estimate(values, np.tile(values[:, None], 10), 4.1)):
        assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
        assert (found.p, found.over) == (pytest.approx(wanted.pvalue), "seeds")
    assert estimate(values, np.full((3, 5), np.nan), 12) == estimate(values)
    assert estimate(values[:1]).side == "unknown" and estimate(values[:0]).seeds == 0
    assert [estimate(values + c).side for c in (-20, -2, 20)] == ["below", "unsure", "above"]


def test_fieller_s_ends_are_the_ratios_that_cannot_be_told_apart():
    random = np.random.default_rng(2)
    x, y = 0.7 + 0.05 * random.normal(size=5), 1 + 0.05 * random.normal(size=5)
    found = ratio(x, y)
    t2 = stats.t.ppf(0.975, 4) ** 2 / 5
    cov = np.cov(x, y)
    a, b, c = (p * q - t2 * v for p, q, v in (
        (y.mean(), y.mean(), cov[1, 1]), (x.mean(), y.mean(), cov[0, 1]), (x.mean(), x.mean(), cov[0, 0])
    ))  # fmt: skip
    root = np.sqrt(b * b - a * c)
    assert (found.mean, found.low, found.high) == pytest.approx((x.mean() / y.mean(), (b - root) / a, (b + root) / a))
    assert np.isnan(ratio(x, y - 1).mean)  # a cost that is not there has no shares
    exact = ratio(0.5 * y, y, (np.tile(0.5 * y[:, None], 9), np.tile(y[:, None], 9)), 12)
    assert (exact.mean, exact.low, exact.high) == pytest.approx((0.5, 0.5, 0.5))


def test_replicates_of_a_loss_are_means_over_drawn_documents():
    n, loss = np.array([10.0, 20.0, 70.0]), np.array([1.0, 2.0, 3.0])
    found = loss_replicates(n, loss, 2000)
    possible = {
        round(sum(n[d] * loss[d] for d in own) / sum(n[d] for d in own), 9)
        for own in np.ndindex(3, 3, 3)
        for own in [list(own)]
    }
    assert {round(value, 9) for value in found} == possible
    assert (found == loss_replicates(n, loss, 2000)).all()


@pytest.mark.parametrize(("effect", "sd"), [(0.03, 0.02), (0.02, 0.03), (0.5, 1.0)])
def test_as_many_seeds_as_are_needed_find_the_effect_in_four_of_five_simulations(effect, sd):
    n, random = seeds_needed(effect, sd), np.random.default_rng(3)
    for count, enough in ((n, True), (n - 1, False)):
        noise = effect + sd * random.normal(size=(20_000, count))
        power = (stats.ttest_1samp(noise, 0, axis=1).pvalue < 0.05).mean()
        assert power >= 0.79 if enough else power < 0.81
    assert seeds_needed(1, 0) == 2


def test_the_largest_sd_is_rarely_below_the_true_one():
    random = np.random.default_rng(4)
    seen = random.normal(size=(2000, 3)).std(1, ddof=1)
    assert np.mean([largest_sd(sd, 3) > 1 for sd in seen]) == pytest.approx(0.975, abs=0.012)

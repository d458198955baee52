"""Means over runs, with intervals over seeds and documents together.

Runs of one kind differ in their seed and are all measured on the same documents, so seeds and documents are crossed; heads
belong to their run and are drawn with it. A bootstrap over both draws runs with replacement, and for all of them the same
replicate of the documents. With few seeds it is too narrow (its variance over S seeds is (S - 1) / S of what it should be, a
normal quantile leaves out that it is estimated) and it counts three times what varies from seed to seed and document to
document alike. So what is used is that bootstrap's variance in closed form, with each part counted once, and Student's t:

    V = s^2 / S + max(0, v - w / S) m / (m - 1),   v = var_r(mean_s x_sr),   w = sum_s var_r(x_sr - mean_s x_sr) / (S - 1)

x_sr is the value of seed s in replicate r, s^2 the variance of the values over seeds, m the effective number of documents.
The degrees of freedom are Satterthwaite's, of S - 1 and m - 1. For a difference, x are differences between runs of a seed.

Source: Owen, "The pigeonhole bootstrap", 2007; Cameron, Gelbach, Miller, "Robust inference with multiway clustering", 2011.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite, nan, sqrt
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from scipy import optimize, special, stats

from interp.analysis.significance import LEAST_EFFECTIVE_DOCUMENTS

DRAWS = 400  # replicates of losses, which are known of every document
POWER = 0.8
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    `low, high` are the ends of its 95% interval, missing with one seed, and `over` says over what it is; `error` is the
    standard error, `sd` the standard deviation between seeds, `p` that of a mean as far from 0 if there were nothing.
    """

    mean: float = nan
    low: float = nan
    high: float = nan
    seeds: int = 0
    sd: float = nan
    p: float = nan
    error: float = nan
    over: str = "seeds"

    @property
    def side(self) -> str:
        """Where the interval lies: "below" 0, "above" it, "unsure" if it holds 0, "unknown" if there is none."""
        if not isfinite(self.low):
            return "unknown"
        return "below" if self.high < 0 else "above" if self.low > 0 else "unsure"

    def __format__(self, form: str) -> str:
        """As "mean [low, high]"; the mean alone where there is no interval, a dash where there is nothing."""
        if not isfinite(self.mean):
            return "–"
        return f"{self.mean:{form}}" + (f" [{self.low:{form}}, {self.high:{form}}]" if isfinite(self.low) else "")


def estimate(
    values: Float[np.ndarray, " seed"],
    replicates: Float[np.ndarray, "seed replicate"] | None = None,
    documents: float = nan,
    level: float = 0.95,
) -> Estimate:
    """Return the mean over seeds with its interval.

    Args:
        values: what was measured of each seed's run.
        replicates: the same in replicates of a bootstrap over documents, replicate r with the same documents for all seeds.
        documents: m, their effective number. Below `LEAST_EFFECTIVE_DOCUMENTS`, or without replicates, the interval is over
            seeds alone, and holds for these documents.
        level: how often the interval shall hold the truth.
    """
    count = len(values)
    if not count:
        return Estimate()
    centre = float(np.mean(values))
    if count < 2:
        return Estimate(centre, seeds=count)
    sd = float(np.std(values, ddof=1))
    over, variance, freedom = "seeds", sd**2 / count, count - 1.0
    known = np.empty((count, 0)) if replicates is None else replicates[:, np.isfinite(replicates).all(0)]
    if known.shape[1] > 1 and documents >= LEAST_EFFECTIVE_DOCUMENTS:
        by_documents = _of_documents(known, documents)
        over = "seeds and documents"
        if (total := variance + by_documents) > 0:
            freedom = total**2 / (variance**2 / (count - 1) + by_documents**2 / (documents - 1))
        variance = total
    error = sqrt(variance)
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error  # much quicker than scipy.stats.t, and the same
    p = 2 * float(special.stdtr(freedom, -abs(centre) / error)) if error > 0 else float(centre == 0)
    return Estimate(centre, centre - half, centre + half, count, sd, p, error, over)


def _of_documents(replicates: Float[np.ndarray, "seed replicate"], documents: float) -> float:
    """The variance over documents of the mean over seeds, without what differs between the seeds."""
    common = replicates.mean(0)
    own = (replicates - common).var(1, ddof=1).sum() / (len(replicates) - 1)
    return max(0.0, float(common.var(ddof=1) - own / len(replicates))) * documents / (documents - 1)


def ratio(
    above: Float[np.ndarray, " seed"],
    below: Float[np.ndarray, " seed"],
    replicates: tuple[Float[np.ndarray, "seed replicate"], Float[np.ndarray, "seed replicate"]] | None = None,
    documents: float = nan,
) -> Estimate:
    """Return the ratio of two means over seeds, with Fieller's interval: every r for which that of above - r below holds 0.

    Missing where the interval of `below` holds 0 or there is one seed: of nothing there are no shares.
    """
    of = replicates or (None, None)
    divisor = estimate(below, of[1], documents)
    if divisor.side in ("unknown", "unsure"):
        return Estimate(seeds=divisor.seeds, over=divisor.over)
    value = float(np.mean(above) / divisor.mean)

    def beyond(r: float) -> float:
        """Above 0 where the interval does not hold 0."""
        paired = None if replicates is None else replicates[0] - r * replicates[1]
        found = estimate(above - r * below, paired, documents)
        return max(found.low, -found.high)

    ends = [_end(beyond, value, sign) for sign in (-1.0, 1.0)]
    sd = float(np.std(above - value * below, ddof=1) / abs(divisor.mean))
    return Estimate(value, ends[0], ends[1], divisor.seeds, sd, over=divisor.over)


def _end(beyond: Callable[[float], float], start: float, sign: float) -> float:
    """Where `beyond` turns positive, from `start` on; infinite where it does not."""
    step = 1e-3
    while beyond(start + sign * step) <= 0:
        step *= 2
        if step > 1e6:
            return sign * inf
    return _root(beyond, start, start + sign * step)


def _root(function: Callable[[float], float], one: float, other: float) -> float:
    found: Any = optimize.brentq(function, one, other, xtol=1e-9)
    return float(found)


def loss_replicates(
    n_tokens: Float64[np.ndarray, " document"], loss: Float64[np.ndarray, " document"], draws: int = DRAWS
) -> Float64[np.ndarray, " replicate"]:
    """Return the mean loss per token in replicates of the documents, the same for every run on as many documents."""
    times = np.random.default_rng(0).multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=draws)
    weights = times * n_tokens
    return (weights @ loss) / weights.sum(1)


def power(effect: float, sd: float, seeds: int) -> float:
    """Return how often so many seeds tell an effect from 0: paired differences, two-sided t test at 5%, documents fixed.

    Args:
        effect: the mean difference to be found.
        sd: the standard deviation of the difference between seeds.
        seeds: how many, at least two.
    """
    bound, shift = float(stats.t.ppf(0.975, seeds - 1)), abs(effect) / sd * sqrt(seeds)
    found = float(stats.nct.sf(bound, seeds - 1, shift))
    return found if isfinite(found) else float(shift > bound)  # so far from 0 that its sums overflow


def seeds_needed(effect: float, sd: float, wanted: float = POWER) -> int:
    """Return how many seeds find an effect with that `power`; `MOST_SEEDS` stands for that many and more."""
    low, high = 1, MOST_SEEDS  # of the first too few, of the second enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sd == 0 or power(effect, sd, middle) >= wanted else (middle, high)
    return high


def detectable(sd: float, seeds: int, wanted: float = POWER) -> float:
    """Return the smallest effect that so many seeds find with that `power`."""
    return sd * _root(lambda size: power(size, 1, seeds) - wanted, 1e-3, 1e3) if sd else 0.0


def largest_sd(sd: float, seeds: int) -> float:
    """Return the upper end of the 95% interval of a standard deviation that was seen with so many seeds."""
    return sd * sqrt((seeds - 1) / float(stats.chi2.ppf(0.025, seeds - 1)))


@dataclass(frozen=True)
class Runs:
    """A metric of the runs of one kind, by seed; of some metrics also in replicates of the documents that runs share."""

    values: Mapping[int, float] = field(default_factory=dict)
    replicates: Mapping[int, Float[np.ndarray, " replicate"]] = field(default_factory=dict)
    documents: float = nan  # their effective number

    def __sub__(self, other: "Runs") -> "Runs":
        """Differences between runs of the same seed, of the seeds that both have."""
        seeds = sorted(self.values.keys() & other.values.keys())
        drawn = [seed for seed in seeds if seed in self.replicates and seed in other.replicates]
        return Runs(
            {seed: self.values[seed] - other.values[seed] for seed in seeds},
            {seed: self.replicates[seed] - other.replicates[seed] for seed in drawn},
            min(self.documents, other.documents),
        )

    def of(self, other: "Runs") -> "Runs":
        """Return the runs of the seeds that the other has, too."""
        values = {seed: value for seed, value in self.values.items() if seed in other.values}
        return Runs(values, {seed: drawn for seed, drawn in self.replicates.items() if seed in values}, self.documents)

    @property
    def drawn(self) -> Float[np.ndarray, "seed replicate"] | None:
        """The replicates of all seeds, None where one has none."""
        complete = bool(self.values) and self.values.keys() == self.replicates.keys()
        return np.stack([self.replicates[seed] for seed in sorted(self.values)]) if complete else None

    @property
    def array(self) -> Float64[np.ndarray, " seed"]:
        """The values, in the order of seeds."""
        return np.array([self.values[seed] for seed in sorted(self.values)], dtype=np.float64)

    @cached_property
    def estimate(self) -> Estimate:
        """Their mean, with its interval over seeds and documents."""
        return estimate(self.array, self.drawn, self.documents)


def share_of(part: Runs, whole: Runs) -> Estimate:
    """Return the `ratio` of a part and the whole over the seeds that both have."""
    part, whole = part.of(whole), whole.of(part)
    drawn = (part.drawn, whole.drawn)
    both = None if drawn[0] is None or drawn[1] is None else (drawn[0], drawn[1])
    return ratio(part.array, whole.array, both, min(part.documents, whole.documents))

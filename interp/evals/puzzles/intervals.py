"""Intervals beside every number: Wilson's for shares, Student's for means, order statistics for medians."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy import stats

from interp.evals.ratios import DocumentRatios

Interval = tuple[float, float, float]


def share(values: Float64[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Return the mean of hits (1, 0, or a part of one in a tie) with the ends of its interval.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), which stays within 0 and 1 and is not empty where
    no or every hit was made. Source: Wilson, "Probable inference", JASA 1927.
    """
    n, p, z = len(values), float(values.mean()), float(stats.norm.ppf(0.5 + level / 2))
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (float((middle + side * half) / (1 + z**2 / n)) for side in (-1, 1))
    return p, 0.0 if p == 0 else low, 1.0 if p == 1 else high  # exactly, whatever the rounding


def mean(values: Float64[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Return the mean with the ends of its t interval; missing ends for one value."""
    centre = float(values.mean())
    if len(values) < 2:
        return centre, np.nan, np.nan
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values))
    return centre, centre - half, centre + half


def grouped_mean(values: Float64[np.ndarray, " n"], groups: Float64[np.ndarray, " n"]) -> Interval:
    """Return the mean with the ends of its t interval over groups of values, which need not be independent within one.

    In a comparison and its mirror image a liking for one of the words cancels; an interval over items would not know it.
    """
    order, cells = np.argsort(groups, kind="stable"), np.zeros((1, len(values)), dtype=np.int64)
    ratios = DocumentRatios(1)
    ratios.update(groups[order].astype(np.int64), cells, values[order])
    row = ratios.table().iloc[0]
    return float(row["loss"]), float(row["low"]), float(row["high"])


def median(values: Float64[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Return the median with the ends of its interval by order statistics; missing ends for too few values."""
    interval = stats.quantile_test(values, q=0, p=0.5).confidence_interval(confidence_level=level)
    return float(np.median(values)), float(interval.low), float(interval.high)

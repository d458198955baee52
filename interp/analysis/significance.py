"""p-values of a value against its null, and their correction for how many are looked at."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

Z95 = 1.959963984540054  # standard normal quantile of 0.975
Values = Float[np.ndarray, "*shape"]
Spread = Float[np.ndarray, "*#shape"]  # one that broadcasts to the values


def replicate_deviation(replicates: Float[np.ndarray, "*shape replicate"]) -> Values:
    """Return the standard deviation over replicates, leaving out those that drew no document of the class (nan)."""
    known = ~np.isnan(replicates)
    count = known.sum(-1)
    values = np.where(known, replicates, 0.0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = values.sum(-1) / count
        squares = np.where(known, np.square(values - mean[..., None]), 0.0).sum(-1)
        return np.sqrt(squares / np.where(count > 1, count - 1, np.nan))


def interval_over_documents(
    value: Values, sd: Values, effective_documents: Spread, level: float = 0.95
) -> tuple[Values, Values]:
    """Return the ends of the interval of a value whose bootstrap replicates have the standard deviation `sd`.

    value -+ t * sd * sqrt(m / (m - 1)), t the quantile of Student's distribution with m - 1 degrees of freedom, and m the
    effective number of documents: for few documents a plain percentile interval is too short. Missing where m is below 2.
    """
    freedom = np.where(effective_documents >= 2, effective_documents - 1, np.nan)
    half = stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(1 + 1 / freedom) * sd
    return value - half, value + half


def p_of_projection(cosine: Values, size: int | Spread) -> Values:
    """Return the exact two-sided p of a projection on a direction: P(|cosine of a random direction| >= |cosine|).

    In `size` dimensions the squared cosine of a fixed and an isotropic random direction is Beta(1/2, (size - 1) / 2);
    missing in fewer than two.
    """
    return stats.beta.sf(np.minimum(np.square(cosine), 1.0), 0.5, (size - 1) / 2)


def p_of_deviation(value: Values, mean: Values, sd: Values, freedom: float | Spread = np.inf) -> Values:
    """Return the two-sided p of (value - mean) / sd under Student's t (normal by default); missing where sd is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sd > 0, 2 * stats.t.sf(np.abs(value - mean) / sd, freedom), np.nan)


def p_of_rank(value: Values, draws: Float[np.ndarray, "draw *shape"], centre: float = 0.0) -> Values:
    """Return (1 + draws at least as far from `centre` as the value) / (1 + draws): valid for any null, but never small.

    Source: Phipson and Smyth, "Permutation p-values should never be zero", 2010.
    """
    further = (np.abs(draws - centre) >= np.abs(value - centre)).sum(0)
    return np.where(np.isnan(value) | np.isnan(draws).any(0), np.nan, (1 + further) / (1 + len(draws)))


def benjamini_hochberg(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Return q, the smallest false discovery rate at which each test is a discovery; missing p take no part.

    Source: Benjamini and Hochberg, 1995.
    """
    q = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    q[known] = stats.false_discovery_control(p[known]) if known.any() else q[known]
    return q


def corrected_within(frame: pd.DataFrame, by: list[str]) -> Float[np.ndarray, " row"]:
    """Return the q of the column p, corrected within the groups of `by`, for example over all heads of a scheme.

    Overlapping classes are schemes "name/class" (`interp.data.classes.spans`), and are corrected together as one scheme.
    """
    q = np.empty(len(frame))
    keys = frame[by].assign(**({"scheme": frame["scheme"].astype(str).str.split("/").str[0]} if "scheme" in by else {}))
    for rows in keys.groupby(by, sort=False).indices.values():
        q[rows] = benjamini_hochberg(np.asarray(frame["p"], dtype=np.float64)[rows])
    return q

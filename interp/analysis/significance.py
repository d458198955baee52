"""Intervals over documents, p-values of a value against its null, and their correction for how many are looked at."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int
from scipy import stats

Z95 = 1.959963984540054  # standard normal quantile of 0.975
Values = Float[np.ndarray, "*shape"]
Spread = Float[np.ndarray, "*#shape"]  # one that broadcasts to the values


LEAST_EFFECTIVE_DOCUMENTS = 4.2
"""Below so many effective documents there is no interval: it would hold the truth, but anything else with it.

With documents of very unequal length the true degrees of freedom are more than m - 1 for what varies from token to token and
fewer for what varies from document to document. From here on, either way, 95% intervals hold the truth in 93 to 97% of
simulations; below in up to 100%, as the quantile of t grows without bound.
"""


def effective_documents(counts: Int[np.ndarray, "document *column"]) -> Float64[np.ndarray, "*column"]:
    """Return the effective number of documents, m = (sum_d n_d)^2 / sum_d n_d^2; 0 without tokens.

    One long document among short ones counts for little more than one. Source: Kish, "Survey Sampling", 1965.
    """
    n = np.asarray(counts, dtype=np.float64)
    return n.sum(0) ** 2 / np.maximum(np.square(n).sum(0), 1)


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
    value: Values, error: Values, effective: Spread, level: float = 0.95
) -> tuple[Values, Values]:
    """Return the ends of the interval of a value over documents: value -+ t * error * sqrt(m / (m - 1)).

    t is the quantile of Student's distribution with m - 1 degrees of freedom, m the effective number of documents behind
    the value (`effective_documents`). Missing where m is below `LEAST_EFFECTIVE_DOCUMENTS`.

    Args:
        value: any estimate from documents, such as a ratio of sums over them.
        error: sqrt(sum_d e_d^2), where e_d is by how much document d moves the estimate, to first order: the standard
            deviation of bootstrap replicates (`BootstrapSums`), or the `jackknife_error` of estimates without a fold.
        effective: m.
        level: how often the interval shall hold the truth.
    """
    freedom, widened = _student(error, effective)
    half = stats.t.ppf(0.5 + level / 2, freedom) * widened
    return value - half, value + half


def p_over_documents(value: Values, error: Values, effective: Spread) -> Values:
    """Return the two-sided p of the value against 0 that belongs to `interval_over_documents`; missing where it is."""
    freedom, widened = _student(error, effective)
    return p_of_deviation(value, np.zeros_like(value), widened, freedom)


def _student(error: Values, effective: Spread) -> tuple[Spread, Values]:
    """Degrees of freedom, and the error of documents to come."""
    freedom = np.where(np.asarray(effective) >= LEAST_EFFECTIVE_DOCUMENTS, np.asarray(effective) - 1, np.nan)
    return freedom, error * np.sqrt(1 + 1 / freedom)


def jackknife_error(
    value: Float64[np.ndarray, "*shape"],
    without: Float64[np.ndarray, "fold *shape"],
    share: Float64[np.ndarray, "fold *#shape"],
) -> Float64[np.ndarray, "*shape"]:
    """Return sqrt(sum_g e_g^2), e_g = (1 - share_g) (value - value without fold g), for `interval_over_documents`.

    `share` is the fold's share of the tokens behind the value: without it a mean moves by e_g / (1 - share_g), so for a mean
    e_g = sum_{j in g} (x_j - mean) / n exactly, and unequal folds count as they should. Missing where leaving out one fold
    leaves nothing to estimate.
    """
    return np.sqrt(np.square((1 - share) * (value - without)).sum(0))


def why_no_interval(n_tokens: int, effective: float) -> str:
    """Return, as a sentence, why a value has no interval over documents where its `ci_low` is missing."""
    if not n_tokens:
        return "No interval: it does not occur in these documents."
    if effective < LEAST_EFFECTIVE_DOCUMENTS:
        return (
            f"No interval: its tokens are spread over documents as unevenly as over {effective:.1f} documents of equal "
            f"length, and an interval needs {LEAST_EFFECTIVE_DOCUMENTS}."
        )
    return "No interval: its spread is not known (too few replicates, or one document alone compares it with others)."


def p_of_projection(cosine: Values, size: int | Spread) -> Values:
    """Return the exact two-sided p of a projection on a direction: P(|cosine of a random direction| >= |cosine|).

    In `size` dimensions the squared cosine of a fixed and an isotropic random direction is Beta(1/2, (size - 1) / 2);
    missing in fewer than two.
    """
    return stats.beta.sf(np.minimum(np.square(cosine), 1.0), 0.5, (size - 1) / 2)


def reach_of_projection(size: int | Spread, level: float = 0.95) -> float | Spread:
    """Return the |cosine| at which `p_of_projection` is 1 - `level`: it holds `level` of the random directions."""
    return np.sqrt(stats.beta.ppf(level, 0.5, (np.asarray(size) - 1) / 2))


def p_of_deviation(value: Values, mean: Values, sd: Values, freedom: float | Spread = np.inf) -> Values:
    """Return the two-sided p of (value - mean) / sd under Student's t (normal by default); missing where sd is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sd > 0, 2 * stats.t.sf(np.abs(value - mean) / sd, freedom), np.nan)


def reach_of_deviation(sd: Values, freedom: float | Spread = np.inf, level: float = 0.95) -> Values:
    """Return the |value - mean| at which `p_of_deviation` is 1 - `level`: mean -+ it holds `level` of the null."""
    return stats.t.ppf(0.5 + level / 2, freedom) * sd


def reach_of_draws(sd: Values, draws: int | Int[np.ndarray, "*#shape"], level: float = 0.95) -> Values:
    """Return how far from the mean of draws one more lies with probability `level`, under Student's t; `draws` 0: exact.

    `sd` is that of the draws, so with few of them it is wide: mean -+ 1.96 sd of eight would leave out 10.7%.
    """
    n = np.where(np.asarray(draws) > 0, draws, np.inf)
    return reach_of_deviation(sd * np.sqrt(1 + 1 / n), np.maximum(n - 1, 1), level)


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
    keys = frame[by]
    if "scheme" in by:
        codes, names = pd.factorize(frame["scheme"])
        keys = keys.assign(scheme=np.array([str(name).split("/")[0] for name in names], dtype=object)[codes])
    for rows in keys.groupby(by, sort=False).indices.values():
        q[rows] = benjamini_hochberg(np.asarray(frame["p"], dtype=np.float64)[rows])
    return q

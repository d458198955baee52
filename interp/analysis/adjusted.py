"""Class or position? Contrasts of bias scores between tokens of the same position, by regression in closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse, stats


def adjusted_contrasts(
    count: Int64[np.ndarray, "token_class stratum"],
    by_class: Float64[np.ndarray, "head token_class"],
    by_stratum: Float64[np.ndarray, "head stratum"],
) -> Float64[np.ndarray, "head token_class"]:
    """Return each class's effect a_c in the least-squares fit of beta_j = a_class(j) + g_stratum(j), for many heads at once.

    Effects are relative to the average token: sum_c n_c a_c = 0. So a_c is the contrast Delta_c if there is one stratum, or
    if classes are spread over the strata alike; and 0 for a class that differs by its strata alone. With N the counts, n_c
    and n_s its margins, and the strata swept out (Frisch and Waugh, 1933; Lovell, 1963),

        (diag(n_c) - N diag(1 / n_s) N^T) a = sum_{j in c} beta_j - N diag(1 / n_s) sum_{j in s} beta_j.

    Classes that share no stratum, not even through other classes, with the largest group of tokens that do, cannot be
    compared with it: missing (nan), like empty ones.

    Args:
        count: tokens of each class in each stratum.
        by_class, by_stratum: sums of the bias scores, one row per head.
    """
    kept = _comparable(count)
    effects = np.full(by_class.shape, np.nan)
    effects[:, kept] = 0.0
    if kept.sum() < 2:  # nothing to compare with
        return effects
    within = count[kept].sum(0) > 0
    counts = count[np.ix_(kept, within)].astype(np.float64)
    n_class, n_stratum = counts.sum(1), counts.sum(0)
    rates = counts / n_stratum  # [token_class, stratum]
    laplacian = np.diag(n_class) - rates @ counts.T
    # it is singular along (1, ..., 1); what is added fixes sum_c n_c a_c = 0 and changes no difference
    system = laplacian + np.outer(n_class, n_class) / n_class.sum()
    swept = by_class[:, kept] - by_stratum[:, within] @ rates.T
    effects[:, kept] = np.linalg.solve(system, swept.T).T
    return effects


def _comparable(count: Int64[np.ndarray, "token_class stratum"]) -> np.ndarray:
    """Which classes belong to the connected part of the graph of classes and strata that holds the most tokens."""
    edges = sparse.csr_array(count > 0)
    graph = sparse.block_array([[None, edges], [edges.T, None]])
    _, part = sparse.csgraph.connected_components(graph, directed=False)
    tokens = np.bincount(part[: len(count)], weights=count.sum(1))
    return (part[: len(count)] == tokens.argmax()) & (count.sum(1) > 0)


class Estimate(NamedTuple):
    """Values with standard errors and the folds behind them; t has folds - 1 degrees of freedom."""

    value: Float64[np.ndarray, "head column"]
    error: Float64[np.ndarray, "head column"]
    folds: int

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the interval value -+ t * error."""
        half = stats.t.ppf(0.5 + level / 2, max(self.folds - 1, 1)) * self.error
        return self.value - half, self.value + half


def jackknife(value: Float64[np.ndarray, "head column"], without: Float64[np.ndarray, "fold head column"]) -> Estimate:
    """Return the estimate with the error of the delete-a-group jackknife: `without` holds it without each fold.

    error^2 = (G - 1) / G * sum_g (without_g - mean)^2 over G folds. Documents are what is independent here, not tokens.
    Missing where leaving out one fold leaves nothing to estimate, as for a class of one document.
    Source: Kott, "The delete-a-group jackknife", 2001.
    """
    folds = len(without)
    if folds < 2:
        return Estimate(value, np.full_like(value, np.nan), folds)
    return Estimate(value, np.sqrt((folds - 1) ** 2 / folds * without.var(0, ddof=1)), folds)

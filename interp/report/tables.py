"""Checks before drawing: the columns are there, the rows are unique, the scheme, class and head exist."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from interp.analysis.significance import Z95
from interp.errors import InterpError, nearest
from interp.report.metrics import FEW, SINK, Metric

KEYS = ["layer", "head", "scheme", "token_class"]


def require(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Raise an InterpError that names every column of `columns` which the table called `name` lacks."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise InterpError(
            f"The {name} table lacks the column(s) {', '.join(missing)}; make it with interp.amplification."
        )


def require_one_model(heads: pd.DataFrame) -> None:
    """Raise an InterpError if `heads` mixes models or repeats a (layer, head, scheme, class)."""
    require(heads, ["model", *KEYS], "heads")
    if heads.empty:
        raise InterpError("The heads table has no rows; there is nothing to draw.")
    if (models := len(set(heads["model"]))) > 1:
        raise InterpError(f"The heads table holds {models} models; draw one model at a time.")
    if repeated := int(heads.duplicated(KEYS).sum()):
        raise InterpError(
            f"{repeated} row(s) of the heads table repeat a (layer, head, scheme, class); each must be unique."
        )


def require_drawable(heads: pd.DataFrame, metric: Metric) -> None:
    """Raise an InterpError if `heads` lacks a column that a picture of `metric` needs, mixes models or repeats a row."""
    require(heads, ["model", *KEYS, "n_tokens", metric.name, "ci_low", "ci_high"], "heads")
    require_one_model(heads)


def rows_of_scheme(heads: pd.DataFrame, scheme: str) -> pd.DataFrame:
    """Return the rows of one scheme, or raise an InterpError that names the schemes there are."""
    known = [str(name) for name in heads["scheme"].unique()]
    if scheme not in known:
        raise InterpError(f"There is no scheme {scheme!r}; this result has {', '.join(known)}{nearest(scheme, known)}")
    return heads.loc[heads["scheme"] == scheme]


def rows_of_class(heads: pd.DataFrame, scheme: str, token_class: str) -> pd.DataFrame:
    """Return one row per head for a class of a scheme, or raise an InterpError that names the nearest class."""
    rows = rows_of_scheme(heads, scheme)
    known = [str(name) for name in rows["token_class"].unique()]
    if token_class not in known:
        raise InterpError(f"Scheme {scheme!r} has no class {token_class!r}{nearest(token_class, known)}")
    return rows.loc[rows["token_class"] == token_class]


def rows_of_head(table: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    """Return the rows of one head, or raise an InterpError that says which layers and heads there are."""
    rows = table.loc[(table["layer"] == layer) & (table["head"] == head)]
    if rows.empty:
        sizes = f"layers {_span(table['layer'].to_numpy())} and heads {_span(table['head'].to_numpy())}"
        raise InterpError(f"There is no head L{layer}H{head}; this result has {sizes}.")
    return rows


def indistinct(heads: pd.DataFrame, metric: Metric) -> np.ndarray:
    """True where a value cannot be told from no effect: hatched on the page and in figures, and never a finding.

    Its 95% interval (that of A, if the metric has none) covers no effect or is missing, or it lies in its null band, where
    the table has one: `null_band`.
    """
    own = metric.low in heads
    low, high, centre = (metric.low, metric.high, metric.centre) if own else ("ci_low", "ci_high", 0.0)
    sure = (heads[low].to_numpy(float) > centre) | (heads[high].to_numpy(float) < centre)
    if (band := null_band(heads, metric)) is not None:
        value = heads[metric.name].to_numpy(float)
        sure &= ~((value >= band[0]) & (value <= band[1]))
    return ~sure


def null_band(heads: pd.DataFrame, metric: Metric) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the ends of mean ± 1.96 sd of the metric under random directions, or None if the table lacks its null."""
    mean, sd = f"{metric.null}_null_mean", f"{metric.null}_null_sd"
    if not metric.null or mean not in heads or sd not in heads:
        return None
    middle, half = heads[mean].to_numpy(float), Z95 * heads[sd].to_numpy(float)
    return middle - half, middle + half


def rankable(heads: pd.DataFrame) -> np.ndarray:
    """True where a row may enter a ranking: enough tokens, and not the attention sink."""
    return (heads["n_tokens"].to_numpy() >= FEW) & (heads["token_class"].astype(str).to_numpy() != SINK)


def _span(values: np.ndarray) -> str:
    return f"{values.min()} to {values.max()}" if len(values) else "none"

"""Checks before drawing: the columns are there, the rows are unique, the scheme, class and head exist."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from interp.errors import InterpError, nearest
from interp.report.metrics import FEW, SINK

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


def covers_zero(heads: pd.DataFrame) -> np.ndarray:
    """True where the 95% interval of the amplification covers 0 or is missing: not distinguishable from no effect."""
    return ~((heads["ci_low"].to_numpy(float) > 0) | (heads["ci_high"].to_numpy(float) < 0))


def rankable(heads: pd.DataFrame) -> np.ndarray:
    """True where a row may enter a ranking: enough tokens, and not the attention sink."""
    return (heads["n_tokens"].to_numpy() >= FEW) & (heads["token_class"].astype(str).to_numpy() != SINK)


def _span(values: np.ndarray) -> str:
    return f"{values.min()} to {values.max()}" if len(values) else "none"

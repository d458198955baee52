"""Does it matter? What scaling or removing the bias does to attention and loss, beside a random change of the same size."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from interp.errors import InterpError
from interp.report.colours import Theme
from interp.report.figures.dots import dot_chart, dots
from interp.report.tables import require, rows_of_head, rows_of_scheme
from interp.report.text import escaped

PLACE = ["intervention", "scale", "direction", "draw", "scheme", "token_class", "n_tokens", "ci_low", "ci_high"]
KINDS = {"bias": "bias", "random": "random direction of the same size"}


def attention_change(
    attention: pd.DataFrame, layer: int, head: int, scheme: str, intervention: str = "all", scale: float = 0.0,
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw how the attention of one head to every class changes (doublings, 95% intervals) when the bias is scaled.

    Args:
        attention: the table of `result.interventions`.
        layer: of the head.
        head: its number.
        scheme: whose classes are drawn.
        intervention: where the bias is scaled: "all", "L3" or "L3H7".
        scale: what it is multiplied by; 0 removes it.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the head, the scheme, the place or the scale does not exist.
    """
    require(attention, [*PLACE, "layer", "head", "log2_change"], "attention")
    rows = rows_of_head(rows_of_scheme(_made(attention, intervention, scale), scheme), layer, head)
    title = f"L{layer}H{head} · {escaped(scheme)} · bias of {intervention} × {scale:g}"
    return _chart(rows, "log2_change", title, "change of attention (log₂ ratio)", theme)


def loss_change(
    loss: pd.DataFrame, scheme: str, intervention: str = "all", scale: float = 0.0, theme: Theme = "light"
) -> go.Figure:
    """Draw how the loss on every class of predicted token changes (nats, 95% intervals) when the bias is scaled.

    Args:
        loss: the table of `result.interventions`.
        scheme: whose classes are drawn; "overall" is all tokens together.
        intervention: where the bias is scaled: "all", "L3" or "L3H7".
        scale: what it is multiplied by; 0 removes it.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the scheme, the place or the scale does not exist.
    """
    require(loss, [*PLACE, "difference"], "loss")
    rows = rows_of_scheme(_made(loss, intervention, scale), scheme)
    title = f"{escaped(scheme)} of the predicted token · bias of {intervention} × {scale:g}"
    return _chart(rows, "difference", title, "change of loss (nats)", theme)


def mean_of_draws(rows: pd.DataFrame, values: list[str], keys: list[str]) -> pd.DataFrame:
    """Return one row per key: the mean of `values` over the random directions, if there are several."""
    return pd.DataFrame(rows.groupby(keys, sort=False, observed=True, dropna=False, as_index=False)[values].mean())


def _made(table: pd.DataFrame, intervention: str, scale: float) -> pd.DataFrame:
    rows = table.loc[(table["intervention"] == intervention) & (table["scale"] == scale)]
    if rows.empty:
        made = table[["intervention", "scale"]].drop_duplicates().itertuples(index=False)
        known = ", ".join(f"{place} × {number:g}" for place, number in list(made)[:12])
        raise InterpError(f"The bias of {intervention!r} was not scaled by {scale:g}; this result has {known} ...")
    return rows


def _chart(rows: pd.DataFrame, value: str, title: str, axis: str, theme: Theme) -> go.Figure:
    columns = [value, "ci_low", "ci_high"]
    both = mean_of_draws(rows, columns, ["direction", "token_class", "n_tokens"])
    found, control = (both.loc[both["direction"] == kind].set_index("token_class", drop=False) for kind in KINDS)
    found = found.sort_values(value, na_position="first")
    control = control.reindex(found.index)
    traces = [dots(control.assign(n_tokens=found["n_tokens"]), columns, KINDS["random"], "before", theme),
              dots(found, columns, KINDS["bias"], "after", theme)]  # fmt: skip
    return dot_chart(traces, found, title, axis, theme)

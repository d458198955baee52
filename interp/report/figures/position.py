"""Is it position, not class? The positional profile of a head, and its contrasts with position removed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.page.look import PAGE
from interp.report.colours import Theme
from interp.report.figures.dots import dot_chart, dots
from interp.report.figures.theme import layout
from interp.report.metrics import METRICS, SINK
from interp.report.tables import require, rows_of_head, rows_of_scheme
from interp.report.text import escaped

Removed = Literal["position", "frequency"]


def position_profile(
    positions: pd.DataFrame, layer: int, head: int, first_token: bool = True, theme: Theme = "light"
) -> go.Figure:
    """Draw a head's mean bias score (nats) at every position of a document, with the band of its 95% intervals.

    Args:
        positions: the result's table.
        layer: of the head.
        head: its number.
        first_token: False leaves out position 0, the attention sink, which often dwarfs all others.
        theme: "light" or "dark".

    Raises:
        InterpError: a column or the head does not exist.
    """
    require(positions, ["layer", "head", "pos", "n_tokens", "bias_score_mean", "ci_low", "ci_high"], "positions")
    rows = rows_of_head(positions, layer, head).sort_values("pos")
    rows = rows if first_token else rows.loc[rows["pos"] > 0]
    places, low, high = (rows[name].to_numpy() for name in ("pos", "ci_low", "ci_high"))
    known = np.isfinite(low) & np.isfinite(high)
    figure = go.Figure([
        go.Scatter(
            x=np.concatenate([places[known], places[known][::-1]]), y=np.concatenate([high[known], low[known][::-1]]),
            mode="lines", line={"width": 0}, fill="toself", fillcolor=PAGE["band"][theme], hoverinfo="skip",
            name="95% interval over documents",
        ),
        go.Scatter(
            x=places, y=rows["bias_score_mean"], mode="lines", line={"color": PAGE["accent"][theme], "width": 1.8},
            customdata=np.column_stack([low, high, rows["n_tokens"]]), name="mean bias score",
            hovertemplate="position %{x}: %{y:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}] nats"
            "<br>n = %{customdata[2]:,}<extra></extra>",
        ),
    ])  # fmt: skip
    line = PAGE["line"][theme]
    more = {
        "xaxis": {
            "title": {"text": "position in the context"},
            "zeroline": False,
            "gridcolor": line,
            "automargin": True,
        },
        "yaxis": {
            "title": {"text": "mean bias score (nats)"},
            "zeroline": False,
            "gridcolor": line,
            "automargin": True,
        },
        "showlegend": False,
    }
    return figure.update_layout(layout(f"L{layer}H{head} · positional profile", theme, 320, **more))


def adjusted_contrasts(
    heads: pd.DataFrame, layer: int, head: int, scheme: str, removed: Removed = "position", first_token: bool = True,
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw a head's contrasts as measured (rings) and between tokens at the same positions (diamonds), with 95% intervals.

    Args:
        heads: what `with_evidence` returns.
        layer: of the head.
        head: its number.
        scheme: whose classes are drawn.
        removed: "position", or "frequency" for position and token frequency.
        first_token: False leaves out the class `bos`.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the head or the scheme does not exist.
    """
    looks = METRICS["bias_score_contrast"], METRICS[f"contrast_{removed}"]
    require(heads, [column for look in looks for column in (look.name, look.low, look.high)], "heads with evidence")
    rows = rows_of_head(rows_of_scheme(heads, scheme), layer, head)
    rows = rows if first_token else rows.loc[rows["token_class"].astype(str) != SINK]
    rows = rows.sort_values(looks[0].name, ascending=True, na_position="first")
    before, after = ((look.name, look.low, look.high) for look in looks)
    traces = [dots(rows, before, "as measured", "before", theme),
              dots(rows, after, looks[1].title.removeprefix("contrast, "), "after", theme)]  # fmt: skip
    title = f"L{layer}H{head} · {escaped(scheme)} · {looks[1].title}"
    return dot_chart(traces, rows, title, f"{looks[0].title} ({looks[0].unit})", theme)

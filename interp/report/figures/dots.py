"""Values with intervals as dots, two to a class: as it was and as it is, or an intervention beside its control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.page.look import PAGE
from interp.report.colours import Theme
from interp.report.figures.theme import class_axis, layout
from interp.report.text import escaped

Kind = Literal["before", "after"]
"""Rings in a soft colour, or diamonds in the accent: told apart by shape."""


def dots(rows: pd.DataFrame, columns: Sequence[str], name: str, kind: Kind, theme: Theme) -> go.Scatter:
    """Return a dot per row, one under the other; `columns` are the value and the ends of its interval."""
    value, low, high = (rows[column].to_numpy(float) for column in columns)
    colour = PAGE["soft" if kind == "before" else "accent"][theme]
    marker = (
        {"symbol": "circle-open", "size": 8, "line": {"width": 1.6}}
        if kind == "before"
        else {"symbol": "diamond", "size": 9}
    )
    return go.Scatter(
        x=value, y=np.arange(len(rows)) + (0.16 if kind == "before" else -0.16), mode="markers", name=name,
        marker=marker | {"color": colour},
        error_x={
            "type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, "thickness": 1.4,
            "width": 2, "color": colour,
        },
        customdata=np.column_stack([low, high, rows["n_tokens"]]),
        hovertemplate="%{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>n = %{customdata[2]:,}<extra></extra>",
    )  # fmt: skip


def dot_chart(traces: list[go.Scatter], rows: pd.DataFrame, title: str, axis: str, theme: Theme) -> go.Figure:
    """Return the figure of `dots`, a named line per row of `rows` with its n, and a line at 0; titles are escaped."""
    names = [f"{escaped(str(name))} · n = {n:,}" for name, n in zip(rows["token_class"], rows["n_tokens"], strict=True)]
    more: dict[str, Any] = {
        "xaxis": {"title": {"text": axis}, "zeroline": False, "automargin": True, "gridcolor": PAGE["line"][theme]},
        "yaxis": class_axis(names),
        "shapes": [{"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1,
                    "line": {"width": 1, "color": PAGE["text"][theme]}}],
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 16, "r": 16, "t": 78, "b": 48},
        "showlegend": True,
    }  # fmt: skip
    return go.Figure(traces, layout(title, theme, 140 + 24 * len(names), **more))

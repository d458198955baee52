"""What does the bias score vary with? Eta squared of position, token type and class in every head, beside chance."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.measurements.explained import NUMBERS, overview
from interp.page.look import PAGE, Theme, layout, number_axis
from interp.report.look import class_axis
from interp.report.metrics import escaped, require, rows_of_head, rows_of_scheme
from interp.report.panels.packing import block
from interp.report.panels.panel import View

KINDS = {
    "eta2_position": "position", "eta2_type": "token type", "eta2_class": "class",
    "eta2_frequent_type": "frequent token types", "eta2_class_beyond_position": "class beyond position",
    "eta2_class_beyond_type": "class beyond type",
}  # fmt: skip
"""What may explain the bias score: columns of the table `explained`, and their names."""

CONTROLS = {
    "eta2_position": "eta2_position_control",
    "eta2_type": "eta2_type_chance",
    "eta2_class": "eta2_class_control",
    "eta2_frequent_type": "eta2_frequent_type_control",
}
"""What chance gives: the mean along directions of equal spread, and of so many types dealt at random."""


def explained_chart(
    explained: pd.DataFrame, layer: int, head: int, scheme: str, theme: Theme = "light"
) -> go.Figure:  # fmt: skip
    """Draw what explains the bias score: a ring per head, a diamond for one head, a line for what chance gives there.

    Args:
        explained: the result's table.
        layer: of the head that is marked.
        head: its number.
        scheme: whose classes are meant.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the head or the scheme does not exist.
    """
    require(explained, ["layer", "head", "scheme", "eta2_position", "eta2_type", "eta2_class"], "explained")
    rows = rows_of_scheme(_whole(explained), scheme)
    own = rows_of_head(rows, layer, head).iloc[0]
    values = rows[list(KINDS)].to_numpy(float)
    controls = [own.get(CONTROLS.get(kind, ""), np.nan) for kind in KINDS]
    lines = np.arange(len(KINDS))
    everywhere = lines + spread_out(len(rows))[:, None]
    colour = {name: PAGE[name][theme] for name in ("soft", "accent", "text")}
    traces = [
        _points(values.ravel(), everywhere.ravel(), "every head", "circle-open", 7, colour["soft"]),
        _points(own[list(KINDS)].to_numpy(float), lines, f"L{layer}H{head}", "diamond", 11, colour["accent"]),
        _points(controls, lines, "by chance", "line-ns-open", 22, colour["text"]),
    ]  # fmt: skip
    more: dict[str, Any] = {
        "xaxis": number_axis("share of variance (η²)", theme) | {"range": [-0.02, 1.02]},
        "yaxis": class_axis(list(KINDS.values())) | {"autorange": "reversed"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}, "showlegend": True,
        "margin": {"l": 16, "r": 16, "t": 78, "b": 48},
    }  # fmt: skip
    title = f"L{layer}H{head} · {escaped(scheme)} · what the bias score varies with"
    return go.Figure(traces, layout(title, theme, 340, **more))


def spread_out(n: int) -> np.ndarray:
    """Return offsets that keep the dots of heads apart: multiples of the golden ratio, modulo 1."""
    return ((np.arange(n) * 0.618034) % 1 - 0.5) * 0.5


def _points(x: Any, y: Any, name: str, symbol: str, size: int, colour: str) -> go.Scatter:
    marker = {"symbol": symbol, "size": size, "color": colour, "line": {"width": 1.6}}
    return go.Scatter(x=x, y=y, name=name, mode="markers", marker=marker, hovertemplate="%{x:.3f}<extra></extra>")


def available(view: View) -> bool:
    """Results of earlier versions have no such table."""
    return _table(view) is not None


def figures(view: View) -> dict[str, go.Figure]:
    """Return the chart of one head."""
    if (found := _table(view)) is None:
        return {}
    first = found.iloc[0]
    return {"explained": explained_chart(found, int(first["layer"]), int(first["head"]), str(first["scheme"]))}


def payload(view: View) -> dict[str, Any]:
    """Return for each scheme a block [head] of all numbers, and their medians over heads."""
    found = _table(view)
    assert found is not None
    medians = overview(found)
    axes = {"head_number": view.head_numbers}
    return {
        "kinds": KINDS,
        "controls": CONTROLS,
        "schemes": {
            name: block(view.numbered(rows_of_scheme(found, name)), axes, NUMBERS, "f4")
            | {"medians": {key: None if number != number else number for key, number in medians[name].items()}}
            for name in view.schemes
            if name in medians
        },
    }


def _table(view: View) -> pd.DataFrame | None:
    found = view.result.tables.get("explained")
    return None if found is None or found.empty else _whole(found.assign(scheme=found["scheme"].astype(str)))


def _whole(explained: pd.DataFrame) -> pd.DataFrame:
    """Add as missing what was not yet measured when a result was saved."""
    return explained.reindex(columns=list(dict.fromkeys([*explained.columns, *NUMBERS])))

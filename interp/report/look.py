"""Colours: diverging ones round "no effect", a colour-blind-safe alternative, and the range they span."""

from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from interp.analysis.findings import FEW_TOKENS, rankable
from interp.page.look import PAGE, Theme
from interp.report.metrics import Metric

# Five stops each, from most suppressed over no effect to most amplified, for a light and a dark page.
PALETTES = {
    "red-blue": {
        "light": ["#0b4a9e", "#7fb0e3", "#f5f5f3", "#f0967f", "#b0122b"],
        "dark": ["#6db3ff", "#2f639f", "#2a2e35", "#a8443f", "#ff8a78"],
    },
    "orange-purple": {
        "light": ["#47257f", "#a796d3", "#f5f5f3", "#f2ae5c", "#a14a00"],
        "dark": ["#c3acff", "#66549e", "#2a2e35", "#a0650f", "#ffb957"],
    },
}

PLAIN = {"light": ["#f5f5f3", "#8fb8a6", "#1f6650"], "dark": ["#2a2e35", "#3f7a66", "#8fdcbc"]}
GREY = "#b9bcc2"


def colorscale(metric: Metric, palette: str = "red-blue", theme: Theme = "light") -> list[list[float | str]]:
    """Return Plotly's colour scale for a metric: diverging if signed, sequential if not."""
    stops = PALETTES[palette][theme] if metric.signed else PLAIN[theme]
    return [[place / (len(stops) - 1), colour] for place, colour in enumerate(stops)]


def colour_range(rows: pd.DataFrame, metric: Metric) -> float:
    """Return the distance from the centre at which colours saturate: the 99th percentile of a scheme's rankable rows.

    One range per scheme and metric, so that the same colour means the same number for every head and class.
    """
    distance = np.abs(rows[metric.name].to_numpy(float) - metric.centre)
    chosen = distance[rankable(rows) & np.isfinite(distance)]
    chosen = chosen if len(chosen) else distance[np.isfinite(distance)]
    return float(np.quantile(chosen, 0.99)) or 1.0 if len(chosen) else 1.0


def colours_of(
    values: np.ndarray, metric: Metric, limit: float, palette: str = "red-blue", theme: Theme = "light"
) -> list[str]:
    """Return one colour per value; a missing value has none and is grey."""
    low, high = (metric.centre - limit, metric.centre + limit) if metric.signed else (0.0, limit)
    places = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    sampled = sample_colorscale(colorscale(metric, palette, theme), places.tolist())
    return [str(colour) if np.isfinite(value) else GREY for colour, value in zip(sampled, values, strict=True)]


def ranked(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return rows from the lowest line of a chart to the top one: those with few tokens lowest, then by `column`."""
    values = np.nan_to_num(rows[column].to_numpy(float), nan=-np.inf)
    return rows.iloc[np.lexsort((values, rows["n_tokens"].to_numpy() >= FEW_TOKENS))]


def bound(
    figure: go.Figure, ends: np.ndarray, rows: pd.DataFrame, theme: Theme, include: tuple[float, ...] = (),
    axis: Literal["x", "y"] = "x", places: np.ndarray | None = None,
) -> go.Figure:  # fmt: skip
    """Let the rows with enough tokens set an axis, so that a class of one token does not flatten the others.

    What goes on beyond the axis ends in a mark there, and the title of the horizontal axis says so. Where no row has enough
    tokens all count. `bound` of chart.js does the same on the page.

    Args:
        figure: a line a row; changed in place, and returned.
        ends: [number, row], all numbers that are drawn of each row.
        rows: with `n_tokens`.
        theme: "light" or "dark".
        include: what the axis shows in any case.
        axis: which one is bounded.
        places: of the rows on the other axis; by default their numbers.
    """
    enough = rows["n_tokens"].to_numpy() >= FEW_TOKENS
    reached = np.append(ends[:, enough] if enough.any() else ends, include)
    reached = reached[np.isfinite(reached)]
    if not len(reached):
        return figure
    least, most = float(reached.min()), float(reached.max())
    room = 0.06 * (most - least) or 1.0
    low, high = least - room, most + room
    figure.update_layout({f"{axis}axis": {"range": [low, high]}})
    with np.errstate(invalid="ignore"):
        beyond = [np.flatnonzero((ends < low).any(0)), np.flatnonzero((ends > high).any(0))]
    if not len(cut := np.concatenate(beyond)):
        return figure
    at = (np.arange(len(rows)) if places is None else places)[cut]
    edge = np.repeat([low, high], [len(found) for found in beyond])
    names = ("triangle-left", "triangle-right") if axis == "x" else ("triangle-down", "triangle-up")
    figure.add_scatter(
        x=edge if axis == "x" else at, y=at if axis == "x" else edge, mode="markers", cliponaxis=False, hoverinfo="skip",
        showlegend=False, name="goes on beyond the axis",
        marker={"symbol": np.repeat(names, [len(found) for found in beyond]), "size": 9, "color": PAGE["soft"][theme]},
    )  # fmt: skip
    said = f"{'◂ ▸' if axis == 'x' else '▴ ▾'} goes on (n < {FEW_TOKENS})"
    drawn: Any = figure
    return figure.update_xaxes(title_text=f"{drawn.layout.xaxis.title.text}<br>{said}")


def class_axis(names: list[str]) -> dict[str, Any]:
    """Return the axis that names one row each (already escaped)."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }


def centre_line(look: Metric, theme: Theme, axis: str = "x") -> dict[str, Any]:
    """Return the line at the value that means "no effect", across the whole figure."""
    other = "y" if axis == "x" else "x"
    line = {"width": 1, "color": PAGE["text"][theme]}
    return {"type": "line", f"{axis}0": look.centre, f"{axis}1": look.centre, f"{other}ref": "paper", f"{other}0": 0,
            f"{other}1": 1, "line": line}  # fmt: skip

"""Colours: diverging ones round "no effect", a colour-blind-safe alternative, and the range they span."""

from typing import Any

import numpy as np
import pandas as pd
from plotly.colors import sample_colorscale

from interp.analysis.findings import rankable
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

"""What all figures share: font, margins, and the page's colours, light or dark."""

from __future__ import annotations

from typing import Any

from interp.page.look import FONT, PAGE
from interp.report.colours import Theme
from interp.report.metrics import Metric


def layout(title: str, theme: Theme, height: int, **more: Any) -> dict[str, Any]:
    """Return a Plotly layout with `title` (already escaped) in the colours of `theme`; `more` adds to it."""
    return {
        "title": {"text": title},
        "height": height,
        "template": "none",
        "font": FONT | {"color": PAGE["text"][theme]},
        "paper_bgcolor": PAGE["panel"][theme],
        "plot_bgcolor": PAGE["panel"][theme],
        "margin": {"l": 16, "r": 16, "t": 48, "b": 48},
        **more,
    }


def value_axis(look: Metric, theme: Theme) -> dict[str, Any]:
    """Return the axis along which a metric is read."""
    title = {"text": f"{look.title} ({look.unit})"}
    return {"title": title, "zeroline": False, "automargin": True, "gridcolor": PAGE["line"][theme]}


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

"""The Python figures as Plotly JSON: the page keeps their look and puts in the numbers of the chosen head and class."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from interp.analysis.comparison import Comparison
from interp.analysis.result import Amplification
from interp.report.figures import (
    adjusted_contrasts,
    class_bars,
    class_differences,
    comparison_grids,
    head_grid,
    loss_change,
    position_profile,
)


def figures_payload(heads: pd.DataFrame, result: Amplification, comparison: Comparison | None) -> dict[str, Any]:
    """Return one figure of each kind, without its numbers; `heads` is what `with_evidence` returns of `result`."""
    positions = result.positions
    first = heads.iloc[0]
    scheme, layer, head = str(first["scheme"]), int(first["layer"]), int(first["head"])
    figures = {
        "grid": head_grid(heads, scheme, str(first["token_class"])),
        "bars": class_bars(heads, layer, head, scheme),
    }
    if len(positions) and "ci_low" in positions:
        figures["profile"] = position_profile(positions, layer, head)
    if "contrast_position" in heads:
        figures["adjusted"] = adjusted_contrasts(heads, layer, head, scheme)
    if result.interventions is not None:
        made = result.interventions.loss.iloc[0]
        figures["effect"] = loss_change(result.interventions.loss, "overall", made["intervention"], made["scale"])
    if comparison is not None:
        figures["differences"] = class_differences(comparison.classes, str(comparison.classes["scheme"].iloc[0]))
        if len(comparison.heads):
            row = comparison.heads.iloc[0]
            figures["comparison"] = comparison_grids(comparison.heads, str(row["scheme"]), str(row["token_class"]))
    return {name: _emptied(figure) for name, figure in figures.items()}


def _emptied(figure: go.Figure) -> dict[str, Any]:
    found = json.loads(figure.to_json() or "")
    kept = ({key: part for key, part in trace.items() if key not in NUMBERS} for trace in found["data"])
    return {"data": list(kept), "layout": found["layout"]}


NUMBERS = ("x", "y", "z", "base", "text", "hovertext", "customdata")

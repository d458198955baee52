"""An evaluation as one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from interp.page.document import panels_of, render, write_page
from interp.page.look import colour_of
from interp.report.evaluation.figures import TITLES, class_figure, position_figure, puzzle_figure

TEMPLATES = Path(__file__).parents[1] / "templates"


def evaluation_page(tables: Mapping[str, pd.DataFrame], runs: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Write the page to `path` and return the path; a reader never sees half a page.

    Args:
        tables: `families`, and `overall`, `positions` and `classes` where a held-out loss was measured; each with `model`.
        runs: one per model, in the same order: model, warnings, n_ctx, d_vocab.
        path: the page.

    Raises:
        InterpError: the place cannot be written.
    """
    losses = {row["model"]: row for row in tables["overall"].to_dict("records")} if "overall" in tables else {}
    panels = panels_of(figures(tables))
    html = render(TEMPLATES, "evaluation.html", runs=runs, losses=losses, colour_of=colour_of, panels=panels)
    return write_page(html, path)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Return every picture that has something to show, by name."""
    families = tables["families"]
    drawn = {name: puzzle_figure(families, name) for name in TITLES if len(families.dropna(subset=name))}
    if "positions" in tables:
        drawn["position"] = position_figure(tables["positions"])
        for scheme in tables["classes"]["scheme"].unique():
            drawn[f"class-{scheme}"] = class_figure(tables["classes"], str(scheme))
    return {name: figure.update_layout(title_x=0.01, title_xanchor="left") for name, figure in drawn.items()}

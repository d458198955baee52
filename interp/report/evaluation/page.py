"""An evaluation as one HTML file that needs no network and no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.files import writing
from interp.report.colours import PAGE
from interp.report.evaluation.figures import TITLES, class_figure, colour_of, position_figure, puzzle_figure

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
    page = render(tables, runs).encode("utf-8", errors="replace")
    with writing(path) as beside:
        beside.write_bytes(page)
    return Path(path)


def render(tables: Mapping[str, pd.DataFrame], runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    panels = {name: json.loads(figure.to_json() or "") for name, figure in figures(tables).items()}
    return environment.get_template("evaluation.html").render(
        runs=runs,
        losses={row["model"]: row for row in tables["overall"].to_dict("records")} if "overall" in tables else {},
        colour_of=colour_of,
        panels=panels,
        colours=PAGE,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Return every picture that has something to show, by name."""
    families = tables["families"]
    drawn = {name: puzzle_figure(families, name) for name in TITLES if len(families.dropna(subset=name))}
    if "positions" in tables:
        drawn["position"] = position_figure(tables["positions"])
        for scheme in tables["classes"]["scheme"].unique():
            drawn[f"class-{scheme}"] = class_figure(tables["classes"], str(scheme))
    return drawn

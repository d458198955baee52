"""A replication as one HTML file that needs no network and no other file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from interp.page import document
from interp.replicate.figures import FIGURES, loss_figure
from interp.replicate.jobs import TRAINED
from interp.replicate.plan import MATRIX, Plan
from interp.replicate.summaries import is_comparable, losses, state_of
from interp.train.curves.figures import late_loss_figure
from interp.train.curves.figures import loss_figure as curves_figure
from interp.train.curves.histories import read_history

TEMPLATES = Path(__file__).parent / "templates"


def write_page(plan: Plan, table: pd.DataFrame, root: Path) -> Path:
    """Write `report.html` into the replication's folder and return it."""
    return document.write_page(render(plan, table, figures_of(plan, table, root), root.name), root / "report.html")


def figures_of(plan: Plan, table: pd.DataFrame, root: Path) -> dict[str, go.Figure]:
    """Return every picture by name; curves are those of the matrix's runs with the first seed."""
    activation = str(plan.settings.get("activation", "prelu"))
    figures = {"loss": loss_figure(table, activation, is_comparable(plan))}
    figures |= {name: draw(table, activation) for name, draw in FIGURES.items()}
    first = [cell for cell in plan.cells() if cell.ablation == MATRIX and cell.seed == plan.seeds[0]]
    begun = [cell for cell in first if (root / "runs" / cell.name / TRAINED).is_file()]
    histories = {f"{cell.optimizer} {cell.variant}": read_history(root / "runs" / cell.name) for cell in begun}
    if histories:
        figures |= {"curves": curves_figure(histories), "late-curves": late_loss_figure(histories)}
    return figures


def render(plan: Plan, table: pd.DataFrame, figures: dict[str, go.Figure], title: str) -> str:
    """Return the whole page as HTML."""
    summary = losses(plan, table)
    return document.render(
        TEMPLATES,
        "replication.html",
        title=title,
        about=plan.about,
        state=state_of(table),
        columns=list(summary),
        rows=summary.to_numpy().tolist(),
        panels=document.panels_of(figures),
    )

"""The dashboard: an `Amplification` as one HTML file that needs no network, no server and no other file.

    write_dashboard(interp.Amplification.load("reports/tiny-bqbv"), "report.html")

The page is a Jinja template with escaping on; data goes in as JSON and base64, and the page's own scripts and Plotly's
bundle stand in the file. What it shows of the result are the `PANELS`, and nothing here knows one from another.
"""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from interp.analysis.comparison.result import Comparison
from interp.analysis.findings import FEW_TOKENS as FEW
from interp.analysis.findings import SINK, answers, reliance, vector_of
from interp.analysis.result import Amplification
from interp.page import document
from interp.page.look import PAGE
from interp.report import panels
from interp.report.findings import facts, findings, how_made, opening, overview
from interp.report.look import GREY, PALETTES, PLAIN
from interp.report.metrics import metrics_of
from interp.report.panels import compare
from interp.report.panels.packing import look, script_json
from interp.report.panels.panel import Panel, View

TEMPLATES = Path(__file__).parent / "templates"
# In the order of their use: they share one module scope, so a page has one state and no globals. The scripts of the
# panels come between the last two, each in a block of its own.
SCRIPTS = ("data", "colours", "state", "chart", "panel", "controls", "page")


def write_dashboard(result: Amplification, path: str | Path, comparison: Comparison | None = None) -> Path:
    """Write the page of `result` to `path` and return the path; a reader never sees half a page.

    With a `comparison`, whose A is `result`, the page is about A, B and their difference; A alone comes after.

    Raises:
        InterpError: the result lacks something the page needs, or the place cannot be written.
    """
    return document.write_page(render(result, comparison), path)


def render(result: Amplification, comparison: Comparison | None = None) -> str:
    """Return the whole page as HTML.

    Raises:
        InterpError: a table lacks a column, repeats a row, or the run record does not say what was read.
    """
    view = View.of(result, comparison)
    shown = shown_of(view)
    data = payload(view)
    return document.render(
        [TEMPLATES, *dict.fromkeys(panel.folder for panel in shown)],
        "page.html",
        run=result.run,
        facts=facts(result.run),
        made=how_made(result.run),
        reliance=reliance(view.result),
        vector=vector_of(result.run),
        data=Markup(script_json(data)),
        answers=answers(view.result),
        findings=[findings(view.result, view.heads, scheme) for scheme in view.schemes],
        overview=overview(view.heads, next(iter(view.schemes))),
        few=FEW,
        view=view,
        compared=compare.head(comparison, facts) if comparison is not None else None,
        metrics=data["metrics"],
        panels=shown,
        payloads=data["panels"],
        figures=data["figures"],
        scripts=SCRIPTS,
    )


def shown_of(view: View) -> list[Panel]:
    """Return the panels that have something to show, in the order of the page."""
    return sorted((panel for panel in panels.PANELS if panel.available(view)), key=lambda panel: not panel.leads)


def payload(view: View) -> dict[str, Any]:
    """Return everything the page's scripts read: what all panels share, and under `panels` what each has of its own."""
    shown = shown_of(view)
    return {
        "model": str(view.result.run["model"]),
        "opening": opening(view.result, view.heads),
        "few": FEW,
        "sink": SINK,
        "metrics": [{**vars(metric), "control": metric.control} for metric in metrics_of(view.heads.columns)],
        "colours": {"palettes": PALETTES, "plain": PLAIN, "page": PAGE, "grey": GREY},
        "figures": {name: look(figure) for panel in shown for name, figure in panel.figures(view).items()},
        **view.payload(),
        "panels": {panel.name: panel.payload(view) for panel in shown},
    }

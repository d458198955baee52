"""The dashboard: an `Amplification` as one HTML file that needs no network, no server and no other file.

    write_dashboard(interp.Amplification.load("reports/tiny-bqbv"), "report.html")

The page is a Jinja template with escaping on; data goes in as JSON and base64, and the page's own scripts and Plotly's
bundle stand in the file. Pictures start from `interp.report.figures`, so page, notebook and report look the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from interp.analysis.comparison import Comparison
from interp.analysis.result import Amplification
from interp.page import document
from interp.page.look import PAGE
from interp.report.evidence import with_evidence
from interp.report.findings import facts, findings, first_head, overview
from interp.report.look import GREY, PALETTES, PLAIN
from interp.report.metrics import FEW, SINK, metrics_of
from interp.report.panels.compare import comparison_payload
from interp.report.panels.effect import effect_payload
from interp.report.panels.packing import heads_payload, script_json
from interp.report.panels.passages import passages_payload
from interp.report.panels.payload_figures import figures_payload
from interp.report.panels.position import positions_payload
from interp.report.panels.tokens import tokens_payload

TEMPLATES = Path(__file__).parent / "templates"
# In the order of their use: they share one module scope, so a page has one state and no globals.
SCRIPTS = (
    "data", "colours", "state", "export", "chart", "ranking", "grid", "picture", "bars", "classtable", "tokens",
    "profile", "adjusted", "passages", "effect", "differences", "compare", "page",
)  # fmt: skip


def write_dashboard(result: Amplification, path: str | Path, comparison: Comparison | None = None) -> Path:
    """Write the page of `result` to `path` and return the path; a reader never sees half a page.

    With a `comparison`, whose A is `result`, the page also shows A, B and their difference.

    Raises:
        InterpError: the result lacks something the page needs, or the place cannot be written.
    """
    return document.write_page(render(result, comparison), path)


def render(result: Amplification, comparison: Comparison | None = None) -> str:
    """Return the whole page as HTML.

    Raises:
        InterpError: a table lacks a column, repeats a row, or the run record does not say what was read.
    """
    run, heads = result.run, with_evidence(result)
    schemes = [str(name) for name in heads["scheme"].unique()]
    return document.render(
        TEMPLATES,
        "page.html",
        run=run,
        facts=facts(run),
        data=Markup(script_json(payload(result, comparison))),
        findings=[findings(heads, scheme) for scheme in schemes],
        overview=overview(heads, schemes[0]),
        few=FEW,
        interventions=result.interventions,
        comparison=comparison,
        metrics=metrics_of(heads.columns),
        scripts=[f"{name}.js" for name in SCRIPTS],
    )


def payload(result: Amplification, comparison: Comparison | None = None) -> dict[str, Any]:
    """Return everything the page's scripts read, one entry per panel."""
    table = with_evidence(result)
    heads = heads_payload(table)
    return {
        "model": str(result.run["model"]),
        "first_head": first_head(table, heads["schemes"][0]["name"]),
        "few": FEW,
        "sink": SINK,
        "metrics": [vars(metric) for metric in metrics_of(table.columns)],
        "colours": {"palettes": PALETTES, "plain": PLAIN, "page": PAGE, "grey": GREY},
        "figures": figures_payload(table, result, comparison),
        **heads,
        "tokens": tokens_payload(result.tokens, heads),
        "positions": positions_payload(result.positions, heads),
        "effect": effect_payload(result.interventions, heads),
        "comparison": comparison_payload(comparison, heads),
        "passages": passages_payload(result.passages, result.passage_scores, table, heads),
    }

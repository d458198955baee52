"""The dashboard: an `Amplification` as one HTML file that needs no network, no server and no other file.

    write_dashboard(interp.Amplification.load("reports/tiny-bqbv"), "report.html")

The page is a Jinja template with escaping on; data goes in as JSON and base64, and the page's own scripts and Plotly's
bundle stand in the file. Pictures start from `interp.report.figures`, so page, notebook and report look the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.analysis.result import Amplification
from interp.files import writing
from interp.report.colours import PALETTES, PLAIN
from interp.report.facts import facts
from interp.report.figures import class_bars, head_grid
from interp.report.findings import findings
from interp.report.metrics import FEW, METRICS, SINK
from interp.report.overview import first_head, overview
from interp.report.payload.heads import heads_payload
from interp.report.payload.packing import script_json
from interp.report.payload.passages import passages_payload
from interp.report.payload.tokens import tokens_payload

TEMPLATES = Path(__file__).parent / "templates"
# In the order of their use: they share one module scope, so a page has one state and no globals.
SCRIPTS = (
    "data", "colours", "state", "export", "ranking", "grid", "picture", "bars", "tokens", "passages", "page",
)  # fmt: skip


def write_dashboard(result: Amplification, path: str | Path) -> Path:
    """Write the page of `result` to `path` and return the path; a reader never sees half a page.

    Raises:
        InterpError: the result lacks something the page needs, or the place cannot be written.
    """
    page = render(result).encode("utf-8", errors="replace")
    with writing(path) as beside:
        beside.write_bytes(page)
    return Path(path)


def render(result: Amplification) -> str:
    """Return the whole page as HTML.

    Raises:
        InterpError: a table lacks a column, repeats a row, or the run record does not say what was read.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    run, schemes = result.run, [str(name) for name in result.heads["scheme"].unique()]
    return environment.get_template("page.html").render(
        run=run,
        facts=facts(run),
        data=Markup(script_json(payload(result))),
        findings=[findings(result.heads, scheme) for scheme in schemes],
        overview=overview(result.heads, schemes[0]),
        few=FEW,
        metrics=METRICS.values(),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)),
        plotly=Markup(get_plotlyjs()),
    )


def payload(result: Amplification) -> dict[str, Any]:
    """Return everything the page's scripts read, one entry per panel."""
    heads = heads_payload(result.heads)
    return {
        "model": str(result.run["model"]),
        "first_head": first_head(result.heads, heads["schemes"][0]["name"]),
        "few": FEW,
        "sink": SINK,
        "metrics": [vars(metric) for metric in METRICS.values()],
        "colours": {"palettes": PALETTES, "plain": PLAIN},
        "figures": _figures(result.heads),
        **heads,
        "tokens": tokens_payload(result.tokens, heads),
        "passages": passages_payload(result.passages, result.passage_scores, result.heads, heads),
    }


def _figures(heads: pd.DataFrame) -> dict[str, Any]:
    """Return a grid and a bar chart as Plotly JSON: the page keeps their look and puts in the chosen head and class."""
    first = heads.iloc[0]
    scheme = str(first["scheme"])
    grid = head_grid(heads, scheme, str(first["token_class"]))
    bars = class_bars(heads, int(first["layer"]), int(first["head"]), scheme)
    return {"grid": json.loads(grid.to_json() or ""), "bars": json.loads(bars.to_json() or "")}

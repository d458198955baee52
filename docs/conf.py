"""How the documentation becomes a site: `make docs`. Sphinx reads the whole repository, so that links hold there and here.

Pages are Markdown and read well as they are; the API reference is made from the docstrings. NOTEBOOKS=1 runs the notebooks
and shows their outputs, which takes minutes; without, they are shown as they are stored. Nothing is fetched from elsewhere.
"""

import os
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
from docstrings import to_rst  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import interp  # noqa: E402 - from here, not from where one may be installed

project, author, version, copyright = "interp", "The interp developers", interp.__version__, "The interp developers"
root_doc = "docs/index"
include_patterns = ["README.md", "docs/*.md", "docs/replication/*/report.md", "notebooks/*.ipynb"]
exclude_patterns = [
    ".*",
    "checkpoints",
    "interp",
    "tests",
    "reports",
    "runs",
    "shared",
    "dist",
    "site",
    "docs/replication/*/runs",
]

extensions = ["myst_nb", "sphinx.ext.autodoc"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # shapes and settings are told in words; signatures of 20 settings are no help
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}

asked = os.environ.get("NOTEBOOKS", "") not in ("", "0")
nb_execution_mode = "cache" if asked else "off"  # what ran before and did not change does not run again
nb_execution_cache_path = str(ROOT / ".jupyter_cache")
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_ipywidgets_js = {}  # would come from elsewhere; a still picture stands in for each widget
if asked:
    os.environ.setdefault("PLOTLY_RENDERER", "notebook")  # brings plotly.js along, once a page

html_theme = "furo"
html_title = f"interp {version}"
html_show_sourcelink = False
html_copy_source = False


def finish(app: Sphinx, error: Exception | None) -> None:
    """Lead from the root of the site to its first page."""
    head = '<!doctype html><meta charset="utf-8"><title>interp</title><meta http-equiv="refresh" content="0; url='
    page = f'{head}docs/index.html"><a href="docs/index.html">interp</a>\n'
    (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def without_foreign_scripts(page: str) -> str:
    """Return a page without scripts of elsewhere: Plotly's outputs ask for MathJax, which no figure here needs."""
    return re.sub(r"""<script[^>]*\ssrc=["'](?:https?:)?//[^>]*>\s*</script>""", "", page)


def is_settings(obj: object) -> bool:
    """Whether it is a class whose fields carry their help."""
    return isinstance(obj, type) and is_dataclass(obj) and all("help" in field.metadata for field in fields(obj))


def setup(app: Sphinx) -> None:
    """Docstrings become reStructuredText; outputs of notebooks fetch nothing; the site gets a root."""

    def convert(app, what, name, obj, options, lines: list[str]) -> None:  # type: ignore[no-untyped-def] # in place
        told = [f"    {field.name}: {field.metadata['help']}" for field in fields(obj)] if is_settings(obj) else []
        lines[:] = to_rst([*lines, *(["", "Settings:", *told] if told else [])])

    def own_scripts(app, pagename, templatename, context: dict[str, Any], doctree) -> None:  # type: ignore[no-untyped-def]
        context["body"] = without_foreign_scripts(context.get("body", ""))

    app.connect("autodoc-process-docstring", convert)
    app.connect("html-page-context", own_scripts)
    app.connect("build-finished", finish)

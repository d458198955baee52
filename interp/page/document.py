"""A page: one HTML file that needs no network, no server and no other file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.files import writing
from interp.page.look import PAGE

TEMPLATES = Path(__file__).parent / "templates"


def render(folders: Path | Sequence[Path], template: str, **values: Any) -> str:
    """Return a template of the folder, or of the first of the `folders` that has it, as HTML, with the `values` escaped.

    It extends `base.html`, or `panels.html` if it shows `panels_of` figures side by side. `{{ read("its.css") }}` in a
    template is a file of these folders, or of the one that all pages share, as it stands.
    """
    places = [*([folders] if isinstance(folders, Path) else folders), TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(places), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip

    def read(name: str) -> Markup:
        return Markup(next(place / name for place in places if (place / name).is_file()).read_text(encoding="utf-8"))

    return environment.get_template(template).render(colours=PAGE, plotly=Markup(get_plotlyjs()), read=read, **values)


def panels_of(figures: Mapping[str, go.Figure]) -> dict[str, Any]:
    """Return figures by name as what Plotly draws them from: data and layout of each."""
    return {name: json.loads(figure.to_json() or "") for name, figure in figures.items()}


def write_page(html: str, path: str | Path) -> Path:
    """Write a page and return its path; a reader never sees half a page.

    Raises:
        InterpError: the place cannot be written.
    """
    with writing(path) as beside:
        beside.write_bytes(html.encode("utf-8", errors="replace"))
    return Path(path)

"""The look of pages and pictures: colours, and the letters of figures."""

from typing import Any, Literal

import plotly.graph_objects as go

from interp.errors import InterpError

Theme = Literal["light", "dark"]

# A page's style sheet has these as variables, in the theme that is on.
PAGE = {
    "page": {"light": "#eef0f3", "dark": "#14171b"},
    "panel": {"light": "#ffffff", "dark": "#1d2126"},
    "text": {"light": "#1b1e23", "dark": "#e8eaee"},
    "soft": {"light": "#59606b", "dark": "#a3abb8"},
    "line": {"light": "#d9dde3", "dark": "#363c45"},
    "band": {"light": "#8a93a140", "dark": "#8a93a155"},
    "accent": {"light": "#0a58ca", "dark": "#8ec0ff"},
}
# Of things told apart by colour. Each has a contrast of at least 3 with the light and with the dark page.
COLOURS = ("#2f7fd6", "#d1600f", "#16936b", "#c4559a", "#a5810a", "#8a6fd8", "#d64550", "#0d96a8")
GRID = "rgba(128,128,128,0.25)"  # of figures that follow the page's theme
FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12}


def colour_of(number: int) -> str:
    """Return the colour of one of several runs or models by its place among them; beyond eight they repeat."""
    return COLOURS[number % len(COLOURS)]


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


def number_axis(title: str, theme: Theme) -> dict[str, Any]:
    """Return the axis along which numbers are read."""
    return {"title": {"text": title}, "zeroline": False, "automargin": True, "gridcolor": PAGE["line"][theme]}


PIXELS = 96  # an inch, as Plotly counts when it writes a PDF: three pixels are four points


def paper(
    figure: go.Figure, width: float = 6.5, height: float | None = None, font: float = 9, family: str | None = None,
    template: Any = None, title: bool = True,
) -> go.Figure:  # fmt: skip
    """Return a copy of a figure in the size that a paper or a slide has room for; `write_image` writes it.

        paper(head_grid(result.heads, "pos", "DET"), width=3.25, font=8, title=False).write_image("grid.pdf")

    Args:
        figure: any figure of this package.
        width: in inches.
        height: in inches; by default as high as its rows need in letters of this size.
        font: size of the letters, in points; headings stay larger in proportion.
        family: of the letters, such as "Times New Roman"; as the figure has it if not given.
        template: a template of Plotly, such as "simple_white": its ground, its grid and its colour of letters.
        title: False where the caption says it.

    Raises:
        InterpError: a size that is none.
    """
    for name, size in {"width": width, "height": height, "font": font}.items():
        if size is not None and not 0 < size < 1000:
            raise InterpError(f"A {name} of {size} cannot be drawn; give inches for sides and points for letters, as in "
                              "paper(figure, width=3.25, font=8).")  # fmt: skip
    given: Any = figure
    letters = font / 72 * PIXELS
    ratio = letters / (given.layout.font.size or FONT["size"])
    # part by part, as the JSON of a whole figure has its numbers in base64
    traces = [_scaled(trace.to_plotly_json(), ratio) for trace in given.data]
    drawn: Any = go.Figure(traces, _scaled(given.layout.to_plotly_json(), ratio, "layout"))
    if not title:
        heading = 24 * ratio if drawn.layout.title.text else 0
        drawn.update_layout(title_text=None, height=(drawn.layout.height or 0) - heading or None)
        if drawn.layout.margin.t is not None:
            drawn.layout.margin.t = max(drawn.layout.margin.t - heading, 8)
    high = height * PIXELS if height else drawn.layout.height or 0.62 * width * PIXELS
    drawn.update_layout(width=round(width * PIXELS), height=round(high), font_size=letters)
    if family is not None:
        drawn.update_layout(font_family=family)
    if template is not None:
        drawn.update_layout(template=template, paper_bgcolor=None, plot_bgcolor=None, font_color=None)
        drawn.update_xaxes(gridcolor=None).update_yaxes(gridcolor=None)
    return drawn


def _scaled(part: Any, ratio: float, within: str = "") -> Any:
    """Return a part of a figure with its letters, its margins and its height in proportion."""
    if isinstance(part, list | tuple):
        return [_scaled(each, ratio, within) if isinstance(each, dict) else each for each in part]
    if not isinstance(part, dict):
        return part
    fixed = "size" if within.endswith("font") else "height" if within == "layout" else None
    return {
        name: value * ratio
        if isinstance(value, int | float) and (name == fixed or (within == "margin" and name in "lrtb"))
        else _scaled(value, ratio, name)
        for name, value in part.items()
    }

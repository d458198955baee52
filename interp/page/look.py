"""The look of pages and pictures: colours, and the letters of figures."""

from typing import Any, Literal

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

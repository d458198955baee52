"""Heads, classes and tokens as groups of buttons: what stands on them, and the style sheet that paints them like figures.

A button has a label, which is its name for screen readers; its colours and what stands beside the label are style, so that
a choice elsewhere changes a style sheet and no button.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from interp.analysis.findings import FEW_TOKENS
from interp.page.look import FONT, PAGE, Theme
from interp.provenance import number
from interp.report.explorer.figures import ink, text_legend, token_colours, told
from interp.report.explorer.view import View
from interp.report.look import GREY
from interp.report.metrics import visible
from interp.report.panels.classes import BARS

BUTTON = ".jupyter-button.jupyter-button"  # twice, to outweigh the notebook's own
RING = ";box-shadow:inset 0 0 0 2.5px currentColor"
ROOM = (42.0, 88.0)  # where bars stand, in % of the width of their buttons: left is the class, right the number


@dataclass(frozen=True)
class Painted:
    """A group of buttons: of each its label, what it chooses, what it says under the pointer, its style, and a text beside.

    `chosen` is the value that is chosen; `above` and `below` are HTML.
    """

    labels: Sequence[str]
    values: Sequence[Any]
    said: Sequence[str]
    styles: Sequence[str]
    beside: Sequence[str]
    chosen: Any = None
    above: str = ""
    below: str = ""


def cells(figure: go.Figure, chosen: str) -> Painted:
    """Return the cells of `head_grid`; what is hatched has a band below its number."""
    layout, heatmap, hatch = _layout(figure), _trace(figure, type="heatmap"), _trace(figure, type="scatter")
    values, hatched = np.asarray(heatmap.z, float), set(zip(np.floor(hatch.y), hatch.x, strict=True))
    layers, heads = layout.yaxis.ticktext, layout.xaxis.ticktext
    places = np.clip((np.nan_to_num(values) - heatmap.zmin) / (heatmap.zmax - heatmap.zmin), 0, 1)
    colours = np.where(
        np.isfinite(values).ravel(),
        sample_colorscale([list(stop) for stop in heatmap.colorscale], places.ravel().tolist()),
        GREY,
    ).tolist()
    bands = [f"{_box(_strokes(ink(colour)), (0, 100), '7px', '100%')}," if at in hatched else ""
             for at, colour in zip(np.ndindex(values.shape), colours, strict=True)]  # fmt: skip
    labels = [f"{layer}{head}" for layer in layers for head in heads]
    title = heatmap.colorbar.title.text
    scale = ", ".join(colour for _, colour in heatmap.colorscale)
    return Painted(
        labels, labels, [_plain(said) for row in heatmap.hovertext for said in row],
        [f"background:{band}{colour};color:{ink(colour)}{RING * (label == chosen)}"
         for label, band, colour in zip(labels, bands, colours, strict=True)],
        [str(text) for row in heatmap.text for text in row], chosen,
        f"{_title(figure)}<div class='interp-heads-above'>{''.join(f'<span>{head}</span>' for head in heads)}</div>",
        f"<div class='interp-fine'>{number(heatmap.zmin)} <span style='display:inline-block;width:110px;height:10px;"
        f"background:linear-gradient(to right,{scale})'></span> {number(heatmap.zmax)} · {html.escape(title)} · "
        f"{html.escape(hatch.name)}</div>",
    )  # fmt: skip


def bars(figure: go.Figure, chosen: str, theme: Theme) -> Painted:
    """Return the bars of `class_bars`, in its order and on its axis."""
    layout, band, drawn = _layout(figure), _trace(figure, type="bar"), _trace(figure, name=BARS)  # the first is behind
    text, base = PAGE["text"][theme], drawn.base
    ends = np.column_stack([np.full(len(drawn.x), base), base + np.asarray(drawn.x, float)])
    intervals = np.asarray(drawn.customdata, float)[:, :2]
    bands = np.cumsum([band.base, band.x], axis=0, dtype=float).T  # [row, end]; none without a null
    at = _along(*layout.xaxis.range)
    styles = []
    for row, colour in enumerate(drawn.marker.color):
        boxes = [_box(text, at(intervals[row]), "1.6px")] if np.isfinite(intervals[row]).all() else []
        boxes.append(_box(text, at([base, base]), "100%"))
        if drawn.marker.pattern.shape[row]:
            boxes.append(_box(_strokes(text), at(sorted(ends[row])), "13px"))
        boxes.append(_box(colour, at(sorted(ends[row])), "13px"))
        boxes += [_box(PAGE["band"][theme], at(bands[row]), "19px")] if len(bands) else []
        styles.append(f"background:{','.join(boxes)}{RING * (drawn.meta[row] == chosen)}")
    labels = [html.unescape(text) for text in layout.yaxis.ticktext]
    said = [f"{label}: {value}" + (f", 95% interval {low:.2f} to {high:.2f}" if np.isfinite(high - low) else "")
            for label, value, (low, high) in zip(labels, drawn.text, intervals, strict=True)]  # fmt: skip
    behind = f" · behind a bar: {html.escape(band.name)}" if len(bands) else ""
    down = slice(None, None, -1)  # Plotly's rows go upwards
    return Painted(
        labels[down], list(drawn.meta)[down], said[down], styles[down], [str(text) for text in drawn.text][down], chosen,
        _title(figure),
        f"<div class='interp-fine'>line: 95% interval{behind} · hatched: not beyond its control · grey: n &lt; "
        f"{FEW_TOKENS}, cut off where it is wider than the rest</div>",
    )  # fmt: skip


def words(rows: pd.DataFrame, view: View, place: int, limit: float, theme: Theme) -> Painted:
    """Return the tokens of `coloured_text`; chosen is the one at `place`, if it is of the chosen class."""
    names = rows[view.scheme].astype(str).tolist()
    styles = []
    for at, (colour, name) in enumerate(zip(token_colours(rows, limit, theme=theme), names, strict=True)):
        line = f"{_box(PAGE['text'][theme], (0, 100), '3px', '22px')}," if name == view.token_class else ""
        styles.append(
            f"background:{line}{_box(colour, (0, 100), '25px', '0')};color:{ink(colour)}{RING * (at == place)}"
        )
    return Painted(
        [visible(token) or "·" for token in rows["token_string"]], range(len(rows)), told(rows, view.scheme), styles,
        [visible(name) for name in names], place if names[place] == view.token_class else None,
        below=text_legend(rows, limit, theme=theme),
    )  # fmt: skip


def rules(scope: str, painted: Painted) -> str:
    """Return the style sheet of a group; `scope` selects it."""
    return " ".join(
        f"{scope} {BUTTON}:nth-child({place}){{{style}}} "
        f"{scope} {BUTTON}:nth-child({place})::after{{content:{_quoted(beside)}}}"
        for place, (style, beside) in enumerate(zip(painted.styles, painted.beside, strict=True), 1)
    )


def frame(scope: str, layers: int, heads: int, theme: Theme) -> str:
    """Return what all buttons below `scope` share, and the names of the grid's rows."""
    text, soft, panel, accent = (PAGE[name][theme] for name in ("text", "soft", "panel", "accent"))
    every = f"{scope} .interp-buttons {BUTTON}"
    grid = f"display:grid;grid-template-columns:repeat({heads},minmax(0,1fr));gap:1px;padding-left:30px"
    names = "".join(
        f'{scope} .interp-heads {BUTTON}:nth-child({layer * heads + 1})::before{{content:"L{layer}"}}'
        for layer in range(layers)
    )
    return f"""{names}
{scope} .interp-column {{background:{panel};color:{text};padding:8px 10px;font:12px {FONT["family"]}}}
{scope} .interp-column .widget-html, {scope} .interp-fine {{line-height:1.4;color:{soft};height:auto}}
{scope}.interp-old .interp-shown {{opacity:.25}}
{scope} .interp-buttons {{height:auto;overflow:visible;line-height:1.2}}
{scope} .interp-buttons > div {{flex:1;min-width:0}}
{every} {{position:relative;overflow:visible;margin:0;border:0;border-radius:0;box-shadow:none;width:auto;color:{text};
  background:none;font:12px/1.2 {FONT["family"]}}}
{every}:hover, {every}:focus-visible {{outline:2px solid {accent};outline-offset:1px;z-index:1}}
{scope} .interp-heads > div {{{grid}}}
{scope} .interp-heads-above {{{grid};text-align:center}}
{scope} .interp-heads {BUTTON} {{height:{"34px" if heads <= 16 else "18px"};padding:0;font-size:0}}
{scope} .interp-heads {BUTTON}::after {{font-size:{"11px" if heads <= 12 else "9px"}}}
{scope} .interp-heads {BUTTON}:nth-child({heads}n+1)::before {{position:absolute;right:calc(100% + 6px);top:0;bottom:0;
  display:flex;align-items:center;font-size:12px;color:{soft}}}
{scope} .interp-classes > div {{display:flex;flex-direction:column}}
{scope} .interp-classes {BUTTON} {{height:22px;padding:0 {100 - ROOM[0]}% 0 4px;overflow:hidden;text-align:left}}
{scope} .interp-classes {BUTTON}::after {{position:absolute;right:6px;top:3px}}
{scope} .interp-tokens > div {{display:flex;flex-wrap:wrap;gap:7px 2px}}
{scope} .interp-tokens {BUTTON} {{height:38px;padding:3px 2px 0;white-space:pre;font-size:14px;max-width:100%;min-width:9px}}
{scope} .interp-tokens {BUTTON}::after {{display:block;font-size:9px;line-height:17px;color:{soft};padding-top:4px}}
"""


def _layout(figure: go.Figure) -> Any:
    """Return the layout of a figure, whose attributes Plotly makes at run time."""
    return figure.layout


def _trace(figure: go.Figure, **attributes: str) -> Any:
    """Return the first trace of a figure that has these attributes, whatever else is drawn."""
    return next(figure.select_traces(attributes))


def _title(figure: go.Figure) -> str:
    return f"<b style='font-weight:600'>{_layout(figure).title.text}</b>"  # escaped, as Plotly reads markup too


def _plain(said: str) -> str:
    """Return a text for Plotly as a text."""
    return html.unescape(said.replace("<br>", " · "))


def _along(low: float, high: float) -> Callable[[Sequence[float] | np.ndarray], np.ndarray]:
    """Return the function from numbers to places in % of a button's width, for an axis from `low` to `high`."""
    start, end = ROOM
    return lambda numbers: start + (end - start) * np.clip((np.asarray(numbers) - low) / (high - low), 0, 1)


def _box(colour: str, ends: Sequence[float] | np.ndarray, height: str, down: str = "50%") -> str:
    """Return a background of a colour, or of a gradient, from one of the `ends` to the other, % of the width."""
    start, end = np.asarray(ends, dtype=float).tolist()
    image = colour if "gradient" in colour else f"linear-gradient({colour},{colour})"
    width = end - start
    across = 100 * start / (100 - width) if width < 100 else 0  # so CSS counts: of the room that the box leaves
    return f"{image} {across:.2f}% {down}/max({width:.2f}%,1px) {height} no-repeat"


def _strokes(colour: str) -> str:
    return f"repeating-linear-gradient(135deg,{colour} 0 1.3px,transparent 1.3px 5px)"


def _quoted(text: str) -> str:
    """Return a string of CSS, in which only letters, digits and some signs stand for themselves."""
    return '"' + "".join(c if c.isascii() and (c.isalnum() or c in " +.%") else f"\\{ord(c):x} " for c in text) + '"'

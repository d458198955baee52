"""One function per picture of training: histories by name of run in, a Plotly figure out, nothing else happens.

    loss_figure({"bq": read_history(Path("checkpoints/tiny-bq"))}, "seconds").show()

A run has one colour in every picture and is one legend group. Faint lines are what was logged, thinned so that every
spike stays; strong lines are running means over 1% of a run's rows.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.page.look import COLOURS, FONT, GRID, colour_of
from interp.train.curves.histories import evenly, extremes, running_mean

Histories = Mapping[str, pd.DataFrame]
Axis = Literal["tokens", "seconds", "step"]
DASHES = ("solid", "dash", "dot", "dashdot")  # for more runs than colours
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
LOGARITHMIC = {"type": "log", "tickformat": "", "exponentformat": "power"}
SECTORS = {"qk": "Q-K", "vo": "V-O"}


def loss_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the training loss, and the validation loss as diamonds, in nats per token."""
    return _figure("Loss", "nats per token", histories, x, [*_lines(histories, x, "loss"), *_validation(histories, x)])


def late_loss_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the loss in the last half of the longest run, scaled to running means and validation losses."""
    figure = loss_figure(histories, x)
    end = max(_place(history, x, histories).max() for history in histories.values())
    traces: list[Any] = list(figure.data)
    late = [np.asarray(trace.y)[np.asarray(trace.x) >= end / 2] for trace in traces if trace.opacity is None]
    shown = np.concatenate([values[np.isfinite(values)] for values in late] or [np.empty(0)])
    if len(shown):
        margin = 0.1 * float(np.ptp(shown)) + 0.01
        figure.update_yaxes(range=[float(shown.min()) - margin, float(shown.max()) + margin])
    figure.update_xaxes(range=[end / 2, end * 1.01])
    return figure.update_layout(title_text="Loss, last half")


def rate_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the learning rate."""
    peaks = [float(np.nanmax(history["lr"], initial=0.0)) for history in histories.values()]
    apart = max(peaks) > 20 * min(peaks) > 0  # such optimizers do not fit one linear axis
    lines = _lines(histories, x, "lr", smooth=False)
    return _figure("Learning rate", "lr", histories, x, lines, **(LOGARITHMIC if apart else {}))


def gradient_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the norm of the gradient before clipping, on a logarithmic axis."""
    return _figure("Gradient norm", "|g|", histories, x, _lines(histories, x, "grad_norm"), type="log", dtick="D2")


def energy_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the energy of the energy-conserving optimizers, as a share of what they conserve; others have no line."""
    return _figure("Energy before rescaling", "H / E", histories, x, _lines(histories, x, "energy", smooth=False))


def speed_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the tokens per second."""
    return _figure("Speed", "tokens per second", histories, x, _lines(histories, x, "tokens_per_second"))


def qk_charge_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the Noether charges |J| of queries and keys: the median over all heads, and a band from least to largest."""
    return _charge_figure(histories, x, "qk")


def vo_charge_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the Noether charges |J| of values and outputs: the median over all heads, and a band from least to largest."""
    return _charge_figure(histories, x, "vo")


FIGURES: dict[str, Callable[[Histories, Axis], go.Figure]] = {
    "loss": loss_figure,
    "late-loss": late_loss_figure,
    "rate": rate_figure,
    "gradient": gradient_figure,
    "energy": energy_figure,
    "charge-qk": qk_charge_figure,
    "charge-vo": vo_charge_figure,
    "speed": speed_figure,
}


def axis_title(histories: Histories, x: Axis) -> str:
    """Return what the horizontal axis shows; time has the unit that fits the longest run."""
    return {"tokens": "tokens", "step": "optimizer steps", "seconds": f"time ({_unit(histories)[0]})"}[x]


def _lines(histories: Histories, x: Axis, column: str, smooth: bool = True) -> Iterator[go.Scatter]:
    for number, (name, history) in enumerate(histories.items()):
        rows = history.loc[history[column].notna()]
        if rows.empty:
            continue
        values, places = rows[column].to_numpy(), _place(rows, x, histories)
        shown = extremes(values)
        if not smooth or len(rows) < 200:  # a window of one row
            yield _line(number, name, places[shown], values[shown])
            continue
        yield _line(number, name, places[shown], values[shown], faint=True)
        some = evenly(len(rows))
        yield _line(number, name, places[some], running_mean(values)[some])


def _line(number: int, name: str, x: np.ndarray, y: np.ndarray, faint: bool = False) -> go.Scatter:
    line = {
        "color": colour_of(number),
        "width": 1 if faint else 2,
        "dash": DASHES[number // len(COLOURS) % len(DASHES)],
    }
    look: dict[str, Any] = {"opacity": 0.25, "hoverinfo": "skip"} if faint else {"hovertemplate": "%{y:.5~g}"}
    return go.Scatter(x=x, y=_short(y), mode="lines", line=line, **_group(name, shown=not faint), **look)


def _validation(histories: Histories, x: Axis) -> Iterator[go.Scatter]:
    for number, (name, history) in enumerate(histories.items()):
        rows = history.loc[history["validation_loss"].notna()]
        if rows.empty:
            continue
        shown = extremes(rows["validation_loss"].to_numpy())
        yield go.Scatter(
            x=_place(rows, x, histories)[shown], y=_short(rows["validation_loss"].to_numpy()[shown]), mode="markers",
            marker={"symbol": "diamond", "size": 6, "color": colour_of(number), "line": {"width": 1, "color": "#fff"}},
            hovertemplate="%{y:.4f} validation", **_group(name, shown=False),
        )  # fmt: skip


def _charge_figure(histories: Histories, x: Axis, sector: str) -> go.Figure:
    traces = [trace for number, name in enumerate(histories) for trace in _band(histories, x, number, name, sector)]
    positive = any(np.any(np.asarray(trace.y) > 0) for trace in traces)
    return _figure(
        f"Noether charge, {SECTORS[sector]}", "|J|", histories, x, traces, **(LOGARITHMIC if positive else {})
    )


def _band(histories: Histories, x: Axis, number: int, name: str, sector: str) -> Iterator[go.Scatter]:
    rows = histories[name].loc[[isinstance(c, dict) and sector in c for c in histories[name]["charges"]]]
    if rows.empty:
        return
    rows = rows.iloc[evenly(len(rows))]
    heads = np.array([np.ravel(charges[sector]) for charges in rows["charges"]], dtype=float)  # [row, head]
    places, colour = _place(rows, x, histories), colour_of(number)
    edge = {"mode": "lines", "line": {"width": 0, "color": colour}, "hoverinfo": "skip", **_group(name, shown=False)}
    yield go.Scatter(x=places, y=_short(heads.min(1)), **edge)
    shade = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.18)"
    yield go.Scatter(x=places, y=_short(heads.max(1)), fill="tonexty", fillcolor=shade, **edge)
    yield _line(number, name, places, np.median(heads, 1))


def _group(name: str, shown: bool) -> dict[str, Any]:
    plain = html.escape(name, quote=False)  # Plotly reads <b> and &lt; in names
    return {"name": plain, "legendgroup": plain, "showlegend": shown}


def _place(rows: pd.DataFrame, x: Axis, histories: Histories) -> np.ndarray:
    places = np.asarray(rows[x])
    return (places / _unit(histories)[1]).astype(np.float32) if x == "seconds" else places


def _unit(histories: Histories) -> tuple[str, float]:
    longest = max(np.max(np.asarray(history["seconds"])) for history in histories.values())
    return next((unit for unit in UNITS if longest >= 2 * unit[1]), UNITS[-1])


def _short(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)  # a picture has no more digits, and the page is half as long


def _figure(title: str, unit: str, histories: Histories, x: Axis, traces: Iterable[Any], **scale: Any) -> go.Figure:
    axis = {"automargin": True, "zeroline": False, "gridcolor": GRID}
    layout = {
        "title": {"text": title},
        "xaxis": {**axis, "title": {"text": axis_title(histories, x)}},
        "yaxis": {**axis, "title": {"text": unit}, "tickformat": "~g", **scale},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom"},
        "template": "none",
        "font": FONT,
        "margin": {"l": 16, "r": 16, "t": 40, "b": 16},
    }
    return go.Figure(list(traces), layout)

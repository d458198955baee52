"""Curves of training: the histories that runs leave, and one function per picture: histories in, a Plotly figure out.

    loss_figure({"bq": read_history(Path("checkpoints/tiny-bq"))}, "seconds").show()

A run has one colour in every picture and is one legend group. Faint lines are what was logged, thinned so that every
spike stays; strong lines are running means over 1% of a run's rows.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int

from interp.errors import InterpError
from interp.files import parse_json
from interp.page.look import COLOURS, FONT, GRID, colour_of
from interp.train.records import CURVE

Histories = Mapping[str, pd.DataFrame]
Axis = Literal["tokens", "seconds", "step", "share"]
DASHES = ("solid", "dash", "dot", "dashdot")  # for more runs than colours
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
LOGARITHMIC = {"type": "log", "tickformat": "", "exponentformat": "power"}
SECTORS = {"qk": "Q-K", "vo": "V-O"}
NEEDED = ("step", "tokens", "loss", "seconds")
OPTIONAL = ("validation_loss", "lr", "grad_norm", "energy", "tokens_per_second")


def read_history(run: Path) -> pd.DataFrame:
    """Read `training.jsonl` of a run's or checkpoint's folder, or the file itself.

    A last line that is not finished is left out, because the run may be writing it. The columns `validation_loss`, `lr`,
    `grad_norm`, `energy` and `tokens_per_second` are NaN where they were not logged; the rate is computed from tokens and
    seconds where it is missing. `charges` holds ``{"qk": [layer][head], "vo": [layer][head]}`` or NaN.

    Raises:
        InterpError: no such file, a line that is not a row of numbers, or no row at all.
    """
    path = run / CURVE if run.is_dir() else run
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise InterpError(
            f"There is no {path}; give the folder of a training run or of a checkpoint, or a bundled name."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InterpError(f"{path} cannot be read as text ({error}); a {CURVE} is expected.") from error
    if not _whole(lines[-1]):  # nothing, if the last line ends in a newline
        lines.pop()
    rows = [_row(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InterpError(f"{path} has no finished row yet; wait for the first optimizer step.")
    table = pd.DataFrame(rows).reindex(columns=[*NEEDED, *OPTIONAL, "charges"])
    numbers = [name for name in table if name not in ("step", "tokens", "charges")]
    table[numbers] = table[numbers].astype(float)
    seconds = table["seconds"].diff()  # not of the first row, whose time holds the preparation
    rate = table["tokens"].diff() / seconds.where(seconds > 0)
    return table.assign(tokens_per_second=table["tokens_per_second"].fillna(rate))


def loss_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the training loss, and the validation loss as diamonds, in nats per token."""
    return _figure("Loss", "nats per token", histories, x, [*_lines(histories, x, "loss"), *_validation(histories, x)])


def late_loss_figure(histories: Histories, x: Axis = "tokens") -> go.Figure:
    """Draw the loss in the last half of the longest run, scaled to running means and validation losses."""
    figure = loss_figure(histories, x)
    end = max(_place(history, x, histories, name).max() for name, history in histories.items())
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
    """Return what the horizontal axis shows; time has the unit that fits the longest run.

    The share of training is that of the tokens that a run has seen by now, so that each ends at 100%.
    """
    time, share = f"time ({_unit(histories)[0]})", "share of training (%)"
    return {"tokens": "tokens", "step": "optimizer steps", "seconds": time, "share": share}[x]


def running_mean(values: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Return the mean over a window of 1% of the rows around each row, shorter at both ends; all rows count."""
    window = len(values) // 100 | 1  # odd, so that it has a middle
    return np.asarray(pd.Series(values).rolling(window, center=True, min_periods=1).mean())


def extremes(values: Float[np.ndarray, " row"], limit: int = 2000) -> Int[np.ndarray, " shown"]:
    """Return at most `limit` rows that show every spike: the lowest and the highest of runs of rows of equal length."""
    if len(values) <= limit:
        return np.arange(len(values))
    low, high = (np.where(np.isnan(values), missing, values) for missing in (np.inf, -np.inf))
    runs = np.array_split(np.arange(len(values)), limit // 2)
    return np.unique([row for run in runs for row in (run[low[run].argmin()], run[high[run].argmax()])])


def evenly(length: int, limit: int = 500) -> Int[np.ndarray, " shown"]:
    """Return at most `limit` rows at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, limit)).round().astype(np.int64))


def _logged(histories: Histories, x: Axis, column: str) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """Yield number and name of each run that has values of a column, the values, and their places on the axis."""
    for number, (name, history) in enumerate(histories.items()):
        rows = history.loc[history[column].notna()]
        if not rows.empty:
            yield number, name, rows[column].to_numpy(), _place(rows, x, histories, name)


def _lines(histories: Histories, x: Axis, column: str, smooth: bool = True) -> Iterator[go.Scatter]:
    for number, name, values, places in _logged(histories, x, column):
        shown = extremes(values)
        if not smooth or len(values) < 200:  # a window of one row
            yield _line(number, name, places[shown], values[shown])
            continue
        yield _line(number, name, places[shown], values[shown], faint=True)
        some = evenly(len(values))
        yield _line(number, name, places[some], running_mean(values)[some])


def _line(number: int, name: str, x: np.ndarray, y: np.ndarray, faint: bool = False) -> go.Scatter:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    line = {"color": colour_of(number), "width": 1 if faint else 2, "dash": dash}
    look: dict[str, Any] = {"opacity": 0.25, "hoverinfo": "skip"} if faint else {"hovertemplate": "%{y:.5~g}"}
    return go.Scatter(x=x, y=_short(y), mode="lines", line=line, **_group(name, shown=not faint), **look)


def _validation(histories: Histories, x: Axis) -> Iterator[go.Scatter]:
    for number, name, values, places in _logged(histories, x, "validation_loss"):
        shown = extremes(values)
        yield go.Scatter(
            x=places[shown], y=_short(values[shown]), mode="markers",
            marker={"symbol": "diamond", "size": 6, "color": colour_of(number), "line": {"width": 1, "color": "#fff"}},
            hovertemplate="%{y:.4f} validation", **_group(name, shown=False),
        )  # fmt: skip


def _charge_figure(histories: Histories, x: Axis, sector: str) -> go.Figure:
    traces = [trace for number, name in enumerate(histories) for trace in _band(histories, x, number, name, sector)]
    scale = LOGARITHMIC if any(np.any(np.asarray(trace.y) > 0) for trace in traces) else {}
    return _figure(f"Noether charge, {SECTORS[sector]}", "|J|", histories, x, traces, **scale)


def _band(histories: Histories, x: Axis, number: int, name: str, sector: str) -> Iterator[go.Scatter]:
    rows = histories[name].loc[[isinstance(c, dict) and sector in c for c in histories[name]["charges"]]]
    if rows.empty:
        return
    rows = rows.iloc[evenly(len(rows))]
    heads = np.array([np.ravel(charges[sector]) for charges in rows["charges"]], dtype=float)  # [row, head]
    places, colour = _place(rows, x, histories, name), colour_of(number)
    edge = {"mode": "lines", "line": {"width": 0, "color": colour}, "hoverinfo": "skip", **_group(name, shown=False)}
    yield go.Scatter(x=places, y=_short(heads.min(1)), **edge)
    shade = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.18)"
    yield go.Scatter(x=places, y=_short(heads.max(1)), fill="tonexty", fillcolor=shade, **edge)
    yield _line(number, name, places, np.median(heads, 1))


def _group(name: str, shown: bool) -> dict[str, Any]:
    plain = html.escape(name, quote=False)  # Plotly reads <b> and &lt; in names
    return {"name": plain, "legendgroup": plain, "showlegend": shown}


def _place(rows: pd.DataFrame, x: Axis, histories: Histories, name: str) -> np.ndarray:
    if x == "share":
        return (100 * np.asarray(rows["tokens"]) / np.max(np.asarray(histories[name]["tokens"]))).astype(np.float32)
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


def _whole(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InterpError(f"Line {number} of {path} is not JSON ({error}); copy the file again.") from error
    missing = [name for name in NEEDED if name not in row] if isinstance(row, dict) else NEEDED
    if missing:
        raise InterpError(
            f"Line {number} of {path} has no {missing[0]!r}; a row of training needs {', '.join(NEEDED)}."
        )
    for name in (*NEEDED, *OPTIONAL):
        absent = name in OPTIONAL and row.get(name) is None
        if not absent and not isinstance(row[name], (int, float)):
            raise InterpError(f"Line {number} of {path} gives {row[name]!r} as {name}; a number is expected.")
    if not _are_charges(row.get("charges") or {}):
        raise InterpError(f"Line {number} of {path} has charges that are not [layer][head] numbers of qk and vo.")
    return row


def _are_charges(charges: Any) -> bool:
    try:
        return isinstance(charges, dict) and all(np.array(heads, dtype=float).ndim == 2 for heads in charges.values())
    except (TypeError, ValueError):
        return False

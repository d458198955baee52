"""Is it position, not class? The positional profile of a head, and its contrasts with position removed."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.findings import SINK
from interp.page.look import PAGE, Theme, layout, number_axis
from interp.report.look import bound, centre_line, class_axis, ranked
from interp.report.metrics import METRICS, escaped, require, rows_of_head, rows_of_scheme
from interp.report.panels.packing import pack, spread
from interp.report.panels.panel import View

Kind = Literal["before", "after"]
"""Rings in a soft colour, or diamonds in the accent: told apart by shape."""


def dots(rows: pd.DataFrame, columns: Sequence[str], name: str, kind: Kind, theme: Theme) -> go.Scatter:
    """Return a dot per row, one under the other; `columns` are the value and the ends of its interval."""
    value, low, high = (rows[column].to_numpy(float) for column in columns)
    colour = PAGE["soft" if kind == "before" else "accent"][theme]
    marker = (
        {"symbol": "circle-open", "size": 8, "line": {"width": 1.6}}
        if kind == "before"
        else {"symbol": "diamond", "size": 9}
    )
    return go.Scatter(
        x=value, y=np.arange(len(rows)) + (0.16 if kind == "before" else -0.16), mode="markers", name=name,
        marker=marker | {"color": colour},
        error_x={
            "type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, "thickness": 1.4,
            "width": 2, "color": colour,
        },
        customdata=np.column_stack([low, high, rows["n_tokens"]]),
        hovertemplate="%{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<br>n = %{customdata[2]:,}<extra></extra>",
    )  # fmt: skip


def dot_chart(traces: list[Any], rows: pd.DataFrame, title: str, axis: str, theme: Theme) -> go.Figure:
    """Return the figure of `dots`, a named line per row of `rows` with its n, and a line at 0; titles are escaped."""
    x = [np.asarray(trace.x, float) for trace in traces]
    ends = [(at, at - trace.error_x.arrayminus, at + trace.error_x.array) for at, trace in zip(x, traces, strict=True)]
    return class_chart(traces, np.concatenate(ends), rows, title, axis, theme)


def class_chart(
    traces: list[Any], ends: np.ndarray, rows: pd.DataFrame, title: str, axis: str, theme: Theme
) -> go.Figure:
    """Return a figure with a named line per row, from the lowest up; `ends` are all numbers drawn of each (`bound`)."""
    names = [f"{escaped(str(name))} · n = {n:,}" for name, n in zip(rows["token_class"], rows["n_tokens"], strict=True)]
    more: dict[str, Any] = {
        "xaxis": number_axis(axis, theme),
        "yaxis": class_axis(names),
        "shapes": [centre_line(METRICS["bias_score_contrast"], theme)],
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 16, "r": 16, "t": 78, "b": 48},
        "showlegend": True,
    }  # fmt: skip
    figure = go.Figure(traces, layout(title, theme, 140 + 24 * len(names), **more))
    return bound(figure, ends, rows, theme, include=(0.0,))


Removed = Literal["position", "frequency"]


def position_profile(
    positions: pd.DataFrame, layer: int, head: int, first_token: bool = True, theme: Theme = "light"
) -> go.Figure:
    """Draw a head's mean bias score (nats) at every position of a document, with the band of its 95% intervals.

    Args:
        positions: the result's table.
        layer: of the head.
        head: its number.
        first_token: False leaves out position 0, the attention sink, which often dwarfs all others.
        theme: "light" or "dark".

    Raises:
        InterpError: a column or the head does not exist.
    """
    require(positions, ["layer", "head", "pos", "n_tokens", "bias_score_mean", "ci_low", "ci_high"], "positions")
    rows = rows_of_head(positions, layer, head).sort_values("pos")
    rows = rows if first_token else rows.loc[rows["pos"] > 0]
    places, low, high = (rows[name].to_numpy() for name in ("pos", "ci_low", "ci_high"))
    known = np.isfinite(low) & np.isfinite(high)
    figure = go.Figure([
        go.Scatter(
            x=np.concatenate([places[known], places[known][::-1]]), y=np.concatenate([high[known], low[known][::-1]]),
            mode="lines", line={"width": 0}, fill="toself", fillcolor=PAGE["band"][theme], hoverinfo="skip",
            name="95% interval over documents",
        ),
        go.Scatter(
            x=places, y=rows["bias_score_mean"], mode="lines", line={"color": PAGE["accent"][theme], "width": 1.8},
            customdata=np.column_stack([low, high, rows["n_tokens"]]), name="mean bias score",
            hovertemplate="position %{x}: %{y:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}] nats"
            "<br>n = %{customdata[2]:,}<extra></extra>",
        ),
    ])  # fmt: skip
    more = {
        "xaxis": number_axis("position in the context", theme),
        "yaxis": number_axis("mean bias score (nats)", theme),
        "showlegend": False,
    }
    figure.update_layout(layout(f"L{layer}H{head} · positional profile", theme, 320, **more))
    ends = rows[["bias_score_mean", "ci_low", "ci_high"]].to_numpy(float).T
    sure = rows.assign(n_tokens=rows["n_tokens"].where(rows["pos"] > 0, np.inf))  # the sink has a switch of its own
    return bound(figure, ends, sure, theme, axis="y", places=places)


def adjusted_contrasts(
    heads: pd.DataFrame, layer: int, head: int, scheme: str, removed: Removed = "position", first_token: bool = True,
    theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw a head's contrasts as measured (rings) and between tokens at the same positions (diamonds), with 95% intervals.

    Args:
        heads: what `with_evidence` returns.
        layer: of the head.
        head: its number.
        scheme: whose classes are drawn.
        removed: "position", or "frequency" for position and token frequency.
        first_token: False leaves out the class `bos`.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, the head or the scheme does not exist.
    """
    looks = METRICS["bias_score_contrast"], METRICS[f"contrast_{removed}"]
    require(heads, [column for look in looks for column in (look.name, look.low, look.high)], "heads with evidence")
    rows = rows_of_head(rows_of_scheme(heads, scheme), layer, head)
    rows = rows if first_token else rows.loc[rows["token_class"].astype(str) != SINK]
    rows = ranked(rows, looks[0].name)
    before, after = ((look.name, look.low, look.high) for look in looks)
    traces = [dots(rows, before, "as measured", "before", theme),
              dots(rows, after, looks[1].title.removeprefix("contrast, "), "after", theme)]  # fmt: skip
    title = f"L{layer}H{head} · {escaped(scheme)} · {looks[1].title}"
    return dot_chart(traces, rows, title, f"{looks[0].title} ({looks[0].unit})", theme)


NUMBERS = 90_000  # numbers the page can afford over all heads
FEWEST = 24  # steps shown however many heads there are
PROFILE = ("bias_score_mean", "ci_low", "ci_high")


def payload(view: View) -> dict[str, Any] | None:
    """Return the profile's steps and a block [head, step]: mean bias score and the ends of its 95% interval.

    Long contexts are cut into steps that grow with the position, so that the first positions keep one each; a step has the
    mean of its positions weighted by their tokens, and the mean of their intervals, which is wider than its own.

    Raises:
        InterpError: a column is missing.
    """
    if not figures(view):
        return None
    if (positions := _profiles(view)) is None:
        return {}
    places = np.unique(positions["pos"].to_numpy(int))
    starts = _starts(len(places), max(NUMBERS // (3 * len(view.head_numbers)), FEWEST))
    rows, axes = view.numbered(positions), {"head_number": view.head_numbers, "pos": places.tolist()}
    weight = spread(rows, axes, "n_tokens")
    tokens = np.add.reduceat(weight, starts, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = {name: np.add.reduceat(weight * spread(rows, axes, name), starts, axis=1) / tokens for name in PROFILE}
    return {
        "first": pack(places[starts], "i4"),
        "last": pack(places[np.append(starts[1:], len(places)) - 1], "i4"),
        "n_tokens": pack(np.nan_to_num(tokens[0]), "i4"),
        "shape": tokens.shape,
        "values": {name: pack(block, "f2") for name, block in means.items()},
    }


def figures(view: View) -> dict[str, go.Figure]:
    """Return the profile, and the contrasts with position removed, if they were measured."""
    layer, head, scheme = (view.first[name] for name in ("layer", "head", "scheme"))
    drawn = {}
    if (positions := _profiles(view)) is not None:
        drawn["profile"] = position_profile(positions, layer, head)
    if "contrast_position" in view.heads:
        drawn["adjusted"] = adjusted_contrasts(view.heads, layer, head, scheme)
    return drawn


def _profiles(view: View) -> pd.DataFrame | None:
    """Return the positions, if their means have intervals: earlier results have none."""
    positions = view.table("positions", ["layer", "head", "pos", "n_tokens", "bias_score_mean"])
    return positions if positions is not None and "ci_low" in positions else None


def _starts(n_places: int, limit: int) -> np.ndarray:
    """Return where each step begins: every place, or at most `limit` steps that grow geometrically."""
    if n_places <= limit:
        return np.arange(n_places)
    return np.unique(np.geomspace(1, n_places + 1, limit + 1)[:-1].astype(int)) - 1

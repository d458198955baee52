"""Heads among heads: any two numbers of every head against each other, a third as colour and a fourth as size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.measurements.head_scores import SCORES
from interp.analysis.result import Amplification
from interp.errors import InterpError, nearest
from interp.page.look import PAGE, Theme, layout, number_axis
from interp.report.look import PALETTES, PLAIN
from interp.report.metrics import (
    METRICS,
    escaped,
    indistinct,
    metrics_of,
    require,
    rows_of_class,
    rows_of_head,
    rows_of_scheme,
    with_evidence,
)
from interp.report.panels.packing import block
from interp.report.panels.panel import View


@dataclass(frozen=True)
class HeadMetric:
    """A number of every head: `share` if it is a fraction of something, `signed` if 0 is the middle of its colours."""

    name: str
    title: str
    unit: str
    meaning: str
    share: bool = False
    signed: bool = False


_ATTENTION = (
    HeadMetric("previous_token", "previous token", "of attention", "Attention to the token before.", share=True),
    HeadMetric("same_token", "same token", "of attention",
               "Attention to earlier occurrences of the query's token, where there are any.", share=True),
    HeadMetric("first_token", "first token", "of attention", "Attention to the first token of the context.", share=True),
    HeadMetric("induction", "induction", "of attention",
               "On random tokens twice over: attention to the token that came after this one the first time.", share=True),
    HeadMetric("entropy", "entropy", "nats", "Entropy of attention: 0 if all of it goes to one token."),
    HeadMetric("distance", "distance", "tokens", "How far back attention goes on average."),
)  # fmt: skip
_WITHOUT = [replace(m, name=f"{m.name}_unbiased", title=f"{m.title} without the bias") for m in _ATTENTION]
_CHANGE = [
    replace(m, name=f"{m.name}_change", title=f"{m.title}, change by the bias", meaning="With the bias minus without it.",
            signed=True)
    for m in _ATTENTION
]  # fmt: skip
_OF_SCHEME = (
    HeadMetric("key_spread", "key spread", "times as far", "How far the bias spreads the keys; 1 is like any direction."),
    HeadMetric("eta2_position", "explained by position", "of variance",
               "Part of the variance of the bias score that lies between positions.", share=True),
    HeadMetric("eta2_type", "explained by token type", "of variance",
               "Part of the variance of the bias score that lies between token types.", share=True),
    HeadMetric("eta2_class", "explained by class", "of variance",
               "Part of the variance of the bias score that lies between classes.", share=True),
    HeadMetric("eta2_class_beyond_position", "class beyond position", "of variance",
               "What classes explain of the bias score beyond position.", share=True),
)  # fmt: skip
_PLACE = (
    HeadMetric("layer", "layer", "number", "Number of the layer."),
    HeadMetric("head", "head", "number", "Number of the head in its layer; it means nothing."),
)
_OF_CLASS = [HeadMetric(m.name, m.title, m.unit, m.meaning, not m.signed, m.signed) for m in METRICS.values()]

GROUPS: Mapping[str, Any] = {
    "Attention of the head": _ATTENTION, "Without the bias": _WITHOUT, "Change by the bias": _CHANGE,
    "Of the chosen class": _OF_CLASS, "What the bias score varies with": _OF_SCHEME, "Place": _PLACE,
}  # fmt: skip
HEAD_METRICS = {metric.name: metric for group in GROUPS.values() for metric in group}
"""Everything that can be shown of heads, by column."""


def head_table(result: Amplification, scheme: str, token_class: str) -> pd.DataFrame:
    """Return one row per head with all that is known of it: columns of `HEAD_METRICS`, where the result has them.

    Sort it for a list of heads: ``head_table(result, "pos", "DET").sort_values("previous_token", ascending=False)``.

    Raises:
        InterpError: the scheme or the class does not exist.
    """
    heads = with_evidence(result)
    heads = heads.assign(scheme=heads["scheme"].astype(str), token_class=heads["token_class"].astype(str))
    rows = rows_of_class(heads, scheme, token_class)
    rows = rows.assign(indistinct=indistinct(rows, next(iter(metrics_of(rows.columns)))))
    table = rows.loc[:, [name for name in (*KEYS, *METRICS) if name in rows]]
    for other in (_scores(result), _explained(result, scheme)):
        table = table if other is None else table.merge(other, "left", ["layer", "head"], validate="one_to_one")
    return table


KEYS = ("model", "layer", "head", "scheme", "token_class", "n_tokens", "indistinct")


def head_scatter(
    table: pd.DataFrame, x: str = "previous_token", y: str = "log2_amplification", colour: str = "layer",
    size: str | None = None, marked: tuple[int, int] | None = None, theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """Draw heads as points; a cross in a point says that its A cannot be told from no effect.

    Args:
        table: of `head_table`, or rows of it.
        x, y, colour: columns of `HEAD_METRICS`.
        size: another, or None for points of one size.
        marked: layer and head of one to mark.
        theme: "light" or "dark".

    Raises:
        InterpError: a column, or the head that is to be marked, does not exist.
    """
    for name in (x, y, colour, *([size] if size else [])):
        if name not in HEAD_METRICS:
            raise InterpError(f"There is no number {name!r} of heads; use one of {', '.join(HEAD_METRICS)}"
                              f"{nearest(name, HEAD_METRICS)}")  # fmt: skip
        require(table, [name], "head")
    own = rows_of_head(table, *marked) if marked else table.iloc[:0]
    values = table[colour].to_numpy(float)
    signed = HEAD_METRICS[colour].signed
    most = np.nanmax(np.abs(values), initial=1e-9) if signed else None
    stops = PALETTES["red-blue"][theme] if signed else PLAIN[theme]
    labels = [f"L{layer}H{head}" for layer, head in zip(table["layer"], table["head"], strict=True)]
    marker = {
        "color": values, "colorscale": [[i / (len(stops) - 1), stop] for i, stop in enumerate(stops)],
        "cmin": most and -most, "cmax": most,
        "size": _diameters(table[size].to_numpy(float)) if size else 10,
        "symbol": ["circle-x" if crossed else "circle" for crossed in table["indistinct"]],
        "line": {"width": 1, "color": PAGE["soft"][theme]}, "colorbar": {"title": {"text": HEAD_METRICS[colour].title}},
    }  # fmt: skip
    points = go.Scatter(x=table[x], y=table[y], mode="markers", text=labels, marker=marker, name="every head",
                        hovertemplate="%{text}<br>%{x:.3g}, %{y:.3g}<extra></extra>")  # fmt: skip
    ring = {"symbol": "diamond-open", "size": 18, "color": PAGE["accent"][theme], "line": {"width": 3}}
    chosen = go.Scatter(
        x=own[x], y=own[y], mode="markers+text", text=[f"<b>L{marked[0]}H{marked[1]}</b>"] if marked else [], marker=ring,
        textposition="top center", textfont={"size": 13, "color": PAGE["text"][theme]}, cliponaxis=False, hoverinfo="skip",
        name="chosen",
    )  # fmt: skip
    axes = {f"{axis}axis": _axis(HEAD_METRICS[name], theme) for axis, name in (("x", x), ("y", y))}
    scheme, token_class = (escaped(str(table[key].iloc[0])) for key in ("scheme", "token_class"))
    more: dict[str, Any] = {**axes, "showlegend": False, "margin": {"l": 64, "r": 16, "t": 48, "b": 52}}
    return go.Figure([points, chosen], layout(f"{scheme} · {token_class} · heads among heads", theme, 460, **more))


def _axis(metric: HeadMetric, theme: Theme) -> dict[str, Any]:
    return number_axis(f"{metric.title} ({metric.unit})", theme) | ({"tickformat": ".0%"} if metric.share else {})


def _diameters(values: np.ndarray) -> np.ndarray:
    """Areas grow with the distance from 0, or from the least value where all are of one sign."""
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    far = np.abs(values) if low < 0 < high else np.abs(values - (low if high > 0 else high))
    return 6 + 18 * np.sqrt(np.nan_to_num(far) / max(np.nanmax(far, initial=0), 1e-12))


def _scores(result: Amplification) -> pd.DataFrame | None:
    """Return the head scores with what the bias changes of them; None of a result of earlier versions."""
    found = result.tables.get("head_scores")
    if found is None:
        return None
    changes = {f"{name}_change": found[name] - found[f"{name}_unbiased"] for name in SCORES}
    names = ["layer", "head", *SCORES, *(f"{name}_unbiased" for name in SCORES)]
    return found.loc[:, names].assign(**changes)


def _explained(result: Amplification, scheme: str) -> pd.DataFrame | None:
    found = result.tables.get("explained")
    if found is None or scheme not in set(found["scheme"].astype(str)):
        return None
    rows = rows_of_scheme(found.assign(scheme=found["scheme"].astype(str)), scheme)
    return rows.reindex(columns=["layer", "head", *(metric.name for metric in _OF_SCHEME)])


def figures(view: View) -> dict[str, go.Figure]:
    """Return the scatter of one head, for its look."""
    first = view.first
    table = head_table(view.result, first["scheme"], first["token_class"]).head(1)
    here = int(table["layer"].iloc[0]), int(table["head"].iloc[0])
    return {"scatter": head_scatter(table, "layer", "log2_amplification", marked=here)}


def payload(view: View) -> dict[str, Any]:
    """Return the numbers of heads that are of no class, what even attention gives, and how all numbers are called."""
    axes = {"head_number": view.head_numbers}
    scores = _scores(view.result)
    of_schemes = {name: _explained(view.result, name) for name in view.schemes}
    known = {"layer", "head", *(metric.name for metric in metrics_of(view.heads.columns))}
    for table in (scores, *of_schemes.values()):
        known |= set() if table is None else set(table.columns)

    def packed(table: pd.DataFrame | None) -> dict[str, Any] | None:
        return table if table is None else block(view.numbered(table), axes, list(table.columns[2:]), "f4")

    even = view.result.tables["head_scores"].iloc[0] if scores is not None else {}
    uniform = {name: float(even[f"{name}_uniform"]) for name in SCORES} if scores is not None else {}
    groups = {title: [asdict(m) for m in group if m.name in known] for title, group in GROUPS.items()}
    return {
        "groups": [{"title": title, "metrics": found} for title, found in groups.items() if found],
        "heads": packed(scores),
        "schemes": {name: packed(table) for name, table in of_schemes.items()},
        "even": {name: None if number != number else number for name, number in uniform.items()},
        "n_queries": int(even["n_queries"]) if scores is not None else 0,
        "first": "previous_token" if scores is not None else "layer",
    }

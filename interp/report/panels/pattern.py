"""Which token looks at which? Attention of one head from query to key: with the bias, without it, and the difference."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.measurements.patterns import BEFORE, kept_patterns, pattern_of
from interp.errors import InterpError, nearest
from interp.page.look import Theme, layout
from interp.report.look import PALETTES, PLAIN
from interp.report.metrics import escaped, require
from interp.report.panels.packing import columns, pack, readable, spread
from interp.report.panels.panel import View

SHOWN = {"attention": "with the bias", "attention_unbiased": "without the bias", "difference": "difference"}
"""What can be seen of a pattern: columns of `AttentionPattern.table`, and their names."""

NUMBERS = 70_000  # shares the page can afford over all heads: a byte each
ROUNDING = 1e-3  # what a row may lack to 1 where nothing else takes attention
STEPS = 254  # of the square root of a share in the page; one more means that it is missing
MOST_NAMED = 16  # keys of each of several matrices side by side
LONGEST_LABEL = 14


def attention_pattern(
    pattern: pd.DataFrame, title: str, shown: str = "all", palette: str = "red-blue", theme: Theme = "light"
) -> go.Figure:
    """Draw a head's attention from each query (row) to each key (column), tokens on both axes.

    With and without the bias have one colour scale, up to the largest share; the difference has its own, symmetric round 0.
    The first column is what goes to all keys before the tokens, where there are any, else the first token of the text, a
    sink in many heads; scales leave it out.

    Args:
        pattern: `AttentionPattern.table`, of `result.pattern(3, 7)` or `sentence.pattern(3, 7)`.
        title: what names the head.
        shown: "attention" (with the bias), "attention_unbiased" (without), "difference", or "all" three side by side.
        palette: "red-blue" or "orange-purple".
        theme: "light" or "dark".

    Raises:
        InterpError: a column is missing, or `shown` is none of these.
    """
    require(pattern, ["query", "key", "query_token", "key_token", *SHOWN], "pattern's")
    if shown != "all" and shown not in SHOWN:
        raise InterpError(
            f"A pattern is shown as all, {', '.join(SHOWN)}, not {shown!r}{nearest(shown, ['all', *SHOWN])}"
        )
    names = list(SHOWN) if shown == "all" else [shown]
    own = pattern.loc[pattern["key"] >= 0]
    tokens = own.loc[own["query"] == own["key"]].sort_values("query")["query_token"].to_list()
    before = bool((pattern.loc[pattern["key"] < 0, ["attention", "attention_unbiased"]] != 0).any(axis=None))
    labels = [_label(token) for token in tokens]
    keys = ["before", *labels] if before else labels
    figure = make_subplots(
        1, len(names), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=[SHOWN[n] for n in names]
    )
    scaled = own.loc[own["key"] >= (0 if before else 1)]
    limits = {name: float(np.abs(scaled[name].to_numpy(float)).max(initial=0)) or 1.0 for name in SHOWN}
    limits["attention"] = limits["attention_unbiased"] = max(limits["attention"], limits["attention_unbiased"])
    barred = [name for name in names if shown != "all" or name != "attention"]  # in "all" one bar serves two
    for place, name in enumerate(names, 1):
        cells = np.full((len(tokens), len(tokens) + 1), np.nan)
        cells[pattern["query"], pattern["key"] - BEFORE] = pattern[name]
        heat = _heatmap(cells[:, 0 if before else 1 :], name, limits[name], palette, theme)
        heat.update(customdata=[[[query, key] for key in keys] for query in labels], showscale=name in barred)
        if name in barred:
            heat.update(colorbar={"x": 1.02 + 0.09 * barred.index(name), "tickformat": ".0%", "thickness": 12})
        figure.add_trace(heat, 1, place)
    ticks = {"showgrid": False, "zeroline": False, "automargin": True}
    figure.update_xaxes(tickvals=list(range(len(keys))), ticktext=keys, tickangle=-90, **ticks)
    figure.update_yaxes(tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.5, -0.5], **ticks)
    if len(names) > 1 and len(keys) > MOST_NAMED:  # side by side there is no room to name them; the rows do
        figure.update_xaxes(showticklabels=False, title={"text": "key: the same tokens"})
    figure.update_yaxes(title={"text": "query"}, col=1)
    figure.update_annotations(font={"size": 12})
    more = {"margin": {"l": 16, "r": 16 + 90 * len(barred), "t": 76, "b": 16}}
    return figure.update_layout(
        layout(f"{escaped(title)} · attention from query to key", theme, 190 + 16 * len(labels), **more)
    )


def _heatmap(cells: np.ndarray, name: str, limit: float, palette: str, theme: Theme) -> go.Heatmap:
    signed = name == "difference"
    stops = PALETTES[palette][theme] if signed else PLAIN[theme]
    return go.Heatmap(
        z=cells, name=name, zmin=-limit if signed else 0.0, zmax=limit, xgap=1, ygap=1, hoverongaps=False,
        colorscale=[[place / (len(stops) - 1), colour] for place, colour in enumerate(stops)],
        hovertemplate=f"%{{customdata[0]}} → %{{customdata[1]}}: %{{z:{'+.1%' if signed else '.1%'}}}"
        f"<extra>{SHOWN[name]}</extra>",
    )  # fmt: skip


def _label(token: str) -> str:
    return escaped(token if len(token) <= LONGEST_LABEL else f"{token[: LONGEST_LABEL - 1]}…") or "·"


def available(view: View) -> bool:
    """Results of earlier versions, and those without passages, have no patterns."""
    return bool(_kept(view))


def figures(view: View) -> dict[str, go.Figure]:
    """Return one pattern, as the page draws one as a picture to take away."""
    if not available(view):
        return {}
    tables = view.result.tables
    first = pattern_of(tables["patterns"], tables["passages"], view.layers[0], view.heads_each[0])
    return {"pattern": attention_pattern(first.table, first.head, "attention")}


def payload(view: View) -> dict[str, Any]:
    """Return the passages' tokens, and shares in a block [head, passage, pair of query and key]; as many as fit."""
    kept, patterns = _kept(view), view.result.tables["patterns"]
    length = 1 + int(patterns["query"].to_numpy().max())
    starts = [query * (query + 3) // 2 for query in range(length + 1)]  # a query has so many pairs before its own
    affordable = max(1, NUMBERS // (2 * len(view.head_numbers) * starts[-1]))
    chosen = list(kept)[:affordable]
    rows = view.numbered(patterns.loc[patterns["passage"].isin(chosen)])
    rows["pair"] = np.asarray(starts)[rows["query"]] + rows["key"] - BEFORE
    axes = {"head_number": view.head_numbers, "passage": chosen, "pair": range(starts[-1])}
    shares = {name: spread(rows, axes, name) for name in ("attention", "attention_unbiased")}
    before = [bool((shares["attention"][:, place, starts[:-1]] > 0).any()) for place in range(len(chosen))]
    least = np.nanmin(np.add.reduceat(shares["attention"], starts[:-1], axis=-1))  # of the sums of rows
    return {
        "total": len(kept),
        "steps": STEPS,
        "shown": SHOWN,
        "sink": bool(least < 1 - ROUNDING),
        "passages": [
            _passage(view, number, len(kept[number]), cut) for number, cut in zip(chosen, before, strict=True)
        ],
        "shape": [len(known) for known in axes.values()],
        "values": {name: pack(_steps(values), "u1") for name, values in shares.items()},
    }


def _passage(view: View, number: int, length: int, before: bool) -> dict[str, Any]:
    passages = view.result.passages
    rows = passages.loc[passages["passage"] == number].sort_values("place").head(length)
    return {
        "number": number,
        "document": rows["document"].to_list()[0],
        "strings": readable(rows["token_string"]),
        "classes": columns(rows, {}, view.schemes),
        "before": before,
    }


def _steps(shares: np.ndarray) -> np.ndarray:
    """Return shares as the page keeps them: roots in whole steps, so that small ones are told apart."""
    return np.nan_to_num(STEPS * np.sqrt(shares), nan=STEPS + 1).round()


def _kept(view: View) -> dict[int, list[str]]:
    return kept_patterns(view.result.tables.get("patterns"), view.result.passages)

"""One function per picture of a replication: the tidy table in, a Plotly figure out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.evals.puzzles.intervals import mean
from interp.page.look import COLOURS, FONT, GRID
from interp.replicate.contrasts import by_seed, cell_name, contrasts
from interp.replicate.plan import MATRIX
from interp.replicate.published import ENRICHMENT, published_difference, published_loss

VARIANT_COLOURS: dict[str, str] = dict(zip(["symmetric", "bq", "bqbv", "bv"], COLOURS, strict=False))
GREY = "#808890"
Values = pd.Series | tuple[float, ...]


def loss_figure(table: pd.DataFrame, activation: str, comparable: bool) -> go.Figure:
    """Draw the held-out loss of every run of the matrix, its mean over seeds and the mean's 95% t interval.

    Published losses stand beside them where the scale is `comparable`: the same model, text and number of tokens.
    """
    matrix = table.loc[table["ablation"] == MATRIX]
    traces: list[Any] = []
    for variant in matrix["variant"].unique():
        names = matrix["optimizer"].unique()
        traces += _dots(variant, {name: by_seed(table, name, variant, "validation_loss") for name in names})
        if comparable:
            traces += _published(variant, {name: published_loss(activation, name, variant) for name in names})
    return _scaled(_figure("Held-out loss", "nats per token", traces))


def breaking_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each variant minus symmetric, per seed, beside the published differences of the 124M models."""
    found = contrasts(table, "breaking")
    traces: list[Any] = []
    for variant in dict.fromkeys(contrast.variant for contrast in found):
        own = {contrast.optimizer: contrast.differences for contrast in found if contrast.variant == variant}
        traces += _dots(variant, own)
        traces += _published(variant, {name: published_difference(activation, name, variant) for name in own})
    return _zero(_figure("Loss, broken minus symmetric", "nats per token", traces))


def gap_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each optimizer minus that of AdamW with the same variant and seed."""
    found = contrasts(table, "gap")
    traces: list[Any] = []
    for variant in dict.fromkeys(contrast.variant for contrast in found):
        traces += _dots(variant, {c.optimizer: c.differences for c in found if c.variant == variant})
    return _zero(_figure("Loss, minus AdamW's", "nats per token", traces))


def ablation_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each ablation minus that of the matrix's run of the same optimizer, variant and seed."""
    found = contrasts(table, "ablation")
    traces: list[Any] = []
    for number, optimizer in enumerate(dict.fromkeys(contrast.optimizer for contrast in found)):
        own = {f"{c.ablation}<br>{c.variant}": c.differences for c in found if c.optimizer == optimizer}
        traces += _dots(optimizer, own, COLOURS[number])
    return _zero(_figure("Loss, ablation minus matrix", "nats per token", traces))


def puzzle_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the mean score over seeds of every family of puzzles in every cell: top1, or accuracy of comparisons."""
    families = [name for name in table if name.endswith(("_top1", "_accuracy")) and not name.startswith("puzzles_")]
    cells = table.loc[table["ablation"] == MATRIX].groupby(["optimizer", "variant"], sort=False)[families].mean()
    names = [cell_name(*cell) for cell in cells.index]
    labels = [name.replace("_top1", "").replace("_accuracy", " (chance 50%)").replace("_", " ") for name in families]
    heat = go.Heatmap(
        z=cells.to_numpy(), x=labels, y=names, colorscale="Blues", zmin=0, zmax=1, texttemplate="%{z:.0%}",
        hovertemplate="%{y}<br>%{x}: %{z:.1%}<extra></extra>", showscale=False, textfont={"size": 9},
    )  # fmt: skip
    figure = _figure("Puzzles: share of items right", "", [heat], legend=False)
    return figure.update_yaxes(dtick=1, autorange="reversed", tickfont_size=10).update_xaxes(tickangle=40)


def spread_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw how far classes' keys lie apart along b_Q, relative to random directions, for every cell and ablation."""
    return _per_cell(table, "spread", "Spread of classes along b_Q", "÷ along random directions", 1.0)


def amplification_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the root mean square amplification over heads and parts of speech, for every cell and ablation."""
    return _per_cell(table, "rms_amplification", "Amplification", "root mean square, doublings", 0.0)


def enrichment_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the enrichment of classes among the most aligned tokens, for runs with AdamW, beside the published range."""
    traces: list[Any] = []
    for number, name in enumerate(("function", "frequent", "rare", "number")):
        traces += _dots(name, _cells(table, "adamw", f"enrichment_{name}"), COLOURS[number])
    figure = _zero(_figure("AdamW: 50 most aligned tokens", "log2 odds, median head", traces))
    low, high = ENRICHMENT
    return figure.add_hrect(y0=low, y1=high, fillcolor=GREY, opacity=0.15, line_width=0)


FIGURES: dict[str, Callable[[pd.DataFrame, str], go.Figure]] = {
    "breaking": breaking_figure,
    "gap": gap_figure,
    "ablation": ablation_figure,
    "puzzles": puzzle_figure,
    "spread": spread_figure,
    "amplification": amplification_figure,
    "enrichment": enrichment_figure,
}


def _per_cell(table: pd.DataFrame, metric: str, title: str, unit: str, neutral: float) -> go.Figure:
    traces: list[Any] = []
    for number, optimizer in enumerate(table["optimizer"].unique()):
        traces += _dots(optimizer, _cells(table, optimizer, metric), COLOURS[number])
    return _figure(title, unit, traces).add_hline(y=neutral, line_width=1, line_color=GREY)


def _cells(table: pd.DataFrame, optimizer: str, metric: str) -> dict[str, pd.Series]:
    """The values of a metric by variant, and ablation if it is one."""
    rows = table.loc[table["optimizer"] == optimizer, ["variant", "ablation"]].drop_duplicates()
    return {
        variant if ablation == MATRIX else f"{variant}<br>{ablation}": by_seed(
            table, optimizer, variant, metric, ablation
        )
        for variant, ablation in rows.itertuples(index=False, name=None)
    }


def _dots(name: str, groups: Mapping[str, Values], colour: str | None = None) -> Iterator[go.Scatter]:
    """A point per run, and the mean of each group with its interval."""
    colour = colour or VARIANT_COLOURS.get(name, GREY)
    places = [str(group) for group, values in groups.items() for _ in values]
    values = np.concatenate([np.asarray(values, dtype=float) for values in groups.values()] or [np.empty(0)])
    common = {"legendgroup": name, "offsetgroup": name, "alignmentgroup": "all", "name": name}
    yield go.Scatter(
        x=places, y=values, mode="markers", marker={"color": colour, "size": 6, "opacity": 0.5}, showlegend=False,
        hovertemplate="%{y:.4f}", **common,
    )  # fmt: skip
    known = {str(group): mean(np.asarray(values, dtype=float)) for group, values in groups.items() if len(values)}
    half = [high - middle for middle, _, high in known.values()]
    yield go.Scatter(
        x=list(known), y=[middle for middle, _, _ in known.values()], mode="markers", **common,
        marker={"color": colour, "size": 11, "symbol": "line-ew-open", "line": {"width": 3}},
        error_y={"type": "data", "array": half, "color": colour, "thickness": 1.5, "width": 4},
        hovertemplate="mean %{y:.4f} ± %{error_y.array:.4f}",
    )  # fmt: skip


def _published(name: str, known: Mapping[str, float | None]) -> Iterator[go.Scatter]:
    shown = {str(place): value for place, value in known.items() if value is not None}
    yield go.Scatter(
        x=list(shown), y=list(shown.values()), mode="markers", name=f"{name}, published", legendgroup=name,
        offsetgroup=name, alignmentgroup="all", hovertemplate="published %{y:.3f}",
        marker={"symbol": "diamond-open", "size": 10, "color": VARIANT_COLOURS.get(name, GREY)},
    )  # fmt: skip


def _scaled(figure: go.Figure) -> go.Figure:
    """Scale the axis to the points: Plotly's own choice goes down to zero beside error bars."""
    traces: list[Any] = list(figure.data)
    shown = np.concatenate([np.asarray(trace.y, dtype=float) for trace in traces])
    if not len(shown):
        return figure
    margin = 0.2 * float(np.ptp(shown)) + 0.01
    return figure.update_yaxes(range=[float(shown.min()) - margin, float(shown.max()) + margin])


def _zero(figure: go.Figure) -> go.Figure:
    return figure.add_hline(y=0, line_width=1, line_color=GREY)


def _figure(title: str, unit: str, traces: list[Any], legend: bool = True, **more: Any) -> go.Figure:
    layout = {
        "title": {"text": title, "y": 0.97, "yanchor": "top"},
        "xaxis": {"automargin": True, "gridcolor": GRID, "tickfont": {"size": 11}},
        "yaxis": {"automargin": True, "zeroline": False, "gridcolor": GRID, "title": {"text": unit}},
        "scattermode": "group",
        "showlegend": legend,
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
        "template": "none",
        "font": FONT,
        "margin": {"l": 16, "r": 16, "t": 74, "b": 16},
        **more,
    }
    return go.Figure(traces, layout)

"""The pictures of a replication, pure functions of its table of results."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.page.look import COLOURS, FONT, GRID
from interp.replicate import results
from interp.replicate.hierarchy import Estimate, Runs, share_of
from interp.replicate.plan import MATRIX
from interp.replicate.published import ENRICHMENT, published_differences, published_losses

VARIANT_COLOURS: dict[str, str] = dict(zip(["symmetric", "bq", "bqbv", "bv"], COLOURS, strict=False))
GREY = "#808890"
USED_FOR = {"position": "position", "type": "token type", "class": "class"}


def loss_figure(table: pd.DataFrame, activation: str, comparable: bool) -> go.Figure:
    """Draw the held-out loss of every run of the matrix, its mean over seeds and the mean's 95% t interval.

    Published losses stand beside them where the scale is `comparable`: the same model, text and number of tokens. Then the
    loss is the lowest of single batches, as published, if it was measured.
    """
    matrix = table.loc[table["ablation"] == MATRIX]
    metric = results.BATCH if comparable and results.BATCH in table else "validation_loss"
    traces: list[Any] = []
    for variant in matrix["variant"].unique():
        names = matrix["optimizer"].unique()
        traces += _dots(variant, {name: results.runs_of(table, name, variant, metric) for name in names})
        if comparable:
            known = {name: published_losses(activation, name, variant) for name in names}
            traces += _published(variant, {name: [run.loss for run in runs] for name, runs in known.items()})
    title = "Lowest loss of single batches, as published" if metric == results.BATCH else "Held-out loss"
    figure = _figure(title, "nats per token", traces)
    shown = np.concatenate([np.asarray(trace.y, dtype=float) for trace in traces] or [np.empty(0)])
    if not len(shown):
        return figure
    margin = 0.2 * float(np.ptp(shown)) + 0.01  # Plotly's own range goes down to zero beside error bars
    return figure.update_yaxes(range=[float(shown.min()) - margin, float(shown.max()) + margin])


def breaking_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each variant minus symmetric, per seed, beside the published differences of the 124M models."""
    found = [contrast for contrast in results.contrasts(table, "breaking") if contrast.ablation == MATRIX]
    traces: list[Any] = []
    for variant in dict.fromkeys(contrast.variant for contrast in found):
        own = {contrast.optimizer: contrast.runs for contrast in found if contrast.variant == variant}
        traces += _dots(variant, own)
        known = {name: published_differences(activation, name, variant) for name in own if variant != "symmetric"}
        traces += _published(variant, {name: runs.array.tolist() for name, runs in known.items()})
    return _figure("Loss, broken minus symmetric", "nats per token", traces, line=0)


def gap_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each optimizer minus that of AdamW with the same variant and seed."""
    found = results.contrasts(table, "gap")
    traces: list[Any] = []
    for variant in dict.fromkeys(contrast.variant for contrast in found):
        traces += _dots(variant, {c.optimizer: c.runs for c in found if c.variant == variant})
    return _figure("Loss, minus AdamW's", "nats per token", traces, line=0)


def ablation_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each ablation minus that of the matrix's run of the same optimizer, variant and seed."""
    found = results.contrasts(table, "ablation")
    traces: list[Any] = []
    for number, optimizer in enumerate(dict.fromkeys(contrast.optimizer for contrast in found)):
        own = {f"{c.ablation}<br>{c.variant}": c.runs for c in found if c.optimizer == optimizer}
        traces += _dots(optimizer, own, COLOURS[number])
    return _figure("Loss, ablation minus matrix", "nats per token", traces, line=0)


def puzzle_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the mean score over seeds of every family of puzzles in every cell: top1, or accuracy of comparisons."""
    families = [name for name in table if name.endswith(("_top1", "_accuracy")) and not name.startswith("puzzles_")]
    cells = table.loc[table["ablation"] == MATRIX].groupby(["optimizer", "variant"], sort=False)[families].mean()
    names = [results.cell_name(*cell) for cell in cells.index]
    labels = [name.replace("_top1", "").replace("_accuracy", " (chance 50%)").replace("_", " ") for name in families]
    heat = go.Heatmap(
        z=cells.to_numpy(), x=labels, y=names, colorscale="Blues", zmin=0, zmax=1, texttemplate="%{z:.0%}",
        hovertemplate="%{y}<br>%{x}: %{z:.1%}<extra></extra>", showscale=False, textfont={"size": 9},
    )  # fmt: skip
    figure = _figure("Puzzles: share of items right", "", [heat]).update_layout(showlegend=False)
    return figure.update_yaxes(dtick=1, autorange="reversed", tickfont_size=10).update_xaxes(tickangle=40)


def enrichment_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the enrichment of classes among the most aligned tokens, for runs with AdamW, beside the published range."""
    traces: list[Any] = []
    for number, name in enumerate(("function", "frequent", "rare", "number")):
        traces += _dots(name, _cells(table, "adamw", f"enrichment_{name}"), COLOURS[number])
    figure = _figure("AdamW: 50 most aligned tokens", "log2 odds, median head", traces, line=0)
    low, high = ENRICHMENT
    return figure.add_hrect(y0=low, y1=high, fillcolor=GREY, opacity=0.15, line_width=0)


def _per_cell(metric: str, title: str, unit: str, line: float) -> Callable[[pd.DataFrame, str], go.Figure]:
    """A function that draws a metric for every cell of the matrix, with a line where nothing is."""

    def draw(table: pd.DataFrame, activation: str) -> go.Figure:
        traces: list[Any] = []
        for number, optimizer in enumerate(table["optimizer"].unique()):
            traces += _dots(optimizer, _cells(table, optimizer, metric), COLOURS[number])
        return _figure(title, unit, traces, line)

    return draw


def uses_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw which share of what removing b_Q costs is given back by a bias that knows one thing only, by optimizer.

    A faint point is a run, a bar the share of the means over seeds with Fieller's interval. Where the cost cannot be told
    from 0, nothing is drawn. The axis shows all points and bars, not all of an interval that goes on far beyond them.
    """
    traces: list[Any] = []
    for number, (what, name) in enumerate(USED_FOR.items()):
        points, shares = dict[str, Runs](), dict[str, Estimate]()
        for optimizer in table["optimizer"].unique():
            part, whole = (results.runs_of(table, optimizer, "bq", f"uses_{of}") for of in (what, "cost"))
            shares[optimizer] = share_of(part, whole)
            if np.isfinite(shares[optimizer].mean):
                points[optimizer] = Runs(
                    {s: x / whole.values[s] for s, x in part.values.items() if whole.values.get(s)}
                )
        traces += _dots(name, points, COLOURS[number], shares)
    figure = _figure("What b_Q is used for", "share of its cost given back", traces, line=0)
    shown = np.concatenate([[0.0, 1.0], *(np.asarray(trace.y, dtype=float) for trace in traces)])
    figure.update_yaxes(tickformat=".0%", range=[float(shown.min()) - 0.2, float(shown.max()) + 0.2])
    return figure.add_hline(y=1, line_width=1, line_color=GREY)


def cost_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the cost of removing b_Q, beside removing scores that spread as much along other directions."""
    traces: list[Any] = []
    for number, (metric, name) in enumerate({"uses_cost": "b_Q", "uses_control": "scores of equal spread"}.items()):
        names = table["optimizer"].unique()
        traces += _dots(name, {o: results.runs_of(table, o, "bq", metric) for o in names}, COLOURS[number + 3])
    return _figure("What removing b_Q costs", "nats per token", traces, line=0)


FIGURES: dict[str, Callable[[pd.DataFrame, str], go.Figure]] = {
    "uses": uses_figure,
    "cost": cost_figure,
    "breaking": breaking_figure,
    "gap": gap_figure,
    "ablation": ablation_figure,
    "puzzles": puzzle_figure,
    "spread": _per_cell("key_spread", "Spread of keys along b_Q", "÷ along random directions", 1.0),
    "amplification": _per_cell("rms_beyond", "A beyond position", "root mean square, doublings", 0.0),
    "singled": _per_cell("singled_out", "Pairs beyond directions of equal spread", "share of pairs", 0.0),
    "enrichment": enrichment_figure,
}


def _cells(table: pd.DataFrame, optimizer: str, metric: str) -> dict[str, Runs]:
    """The values of a metric by variant of the matrix."""
    cells = [cell for cell in results.cells_of(table) if cell[0] == optimizer and cell[2] == MATRIX]
    return {variant: results.runs_of(table, optimizer, variant, metric) for _, variant, _ in cells}


def _dots(
    name: str, groups: Mapping[str, Runs], colour: str | None = None, estimates: Mapping[str, Estimate] | None = None
) -> Iterator[go.Scatter]:
    """A point per run, and the estimate of each group with its interval: of its mean, unless others are given."""
    colour = colour or VARIANT_COLOURS.get(name, GREY)
    places = [str(group) for group, runs in groups.items() for _ in runs.values]
    values = np.concatenate([runs.array for runs in groups.values()] or [np.empty(0)])
    common = {"legendgroup": name, "offsetgroup": name, "alignmentgroup": "all", "name": name}
    yield go.Scatter(
        x=places, y=values, mode="markers", marker={"color": colour, "size": 6, "opacity": 0.5}, showlegend=False,
        hovertemplate="%{y:.4f}", **common,
    )  # fmt: skip
    found = estimates or {group: runs.estimate for group, runs in groups.items()}
    known = {str(group): each for group, each in found.items() if np.isfinite(each.mean)}
    above, below = ([_drawn(end) for end in ends] for ends in (
        [e.high - e.mean for e in known.values()], [e.mean - e.low for e in known.values()]
    ))  # fmt: skip
    yield go.Scatter(
        x=list(known), y=[each.mean for each in known.values()], mode="markers", **common,
        marker={"color": colour, "size": 11, "symbol": "line-ew-open", "line": {"width": 3}},
        error_y={"type": "data", "array": above, "arrayminus": below, "symmetric": False, "color": colour,
                 "thickness": 1.5, "width": 4},
        hovertemplate="%{y:.4f} +%{error_y.array:.4f} −%{error_y.arrayminus:.4f}",
    )  # fmt: skip


def _drawn(length: float) -> float | None:
    return length if np.isfinite(length) else None


def _published(name: str, known: Mapping[str, list[float]]) -> Iterator[go.Scatter]:
    places = [place for place, values in known.items() for _ in values]
    yield go.Scatter(
        x=places, y=[value for values in known.values() for value in values], mode="markers",
        name=f"{name}, published", legendgroup=name, offsetgroup=name, alignmentgroup="all",
        hovertemplate="published %{y:.4f}",
        marker={"symbol": "diamond-open", "size": 10, "color": VARIANT_COLOURS.get(name, GREY)},
    )  # fmt: skip


def _figure(title: str, unit: str, traces: list[Any], line: float | None = None) -> go.Figure:
    layout = {
        "title": {"text": title, "y": 0.97, "yanchor": "top"},
        "xaxis": {"automargin": True, "gridcolor": GRID, "tickfont": {"size": 11}},
        "yaxis": {"automargin": True, "zeroline": False, "gridcolor": GRID, "title": {"text": unit}},
        "scattermode": "group",
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
        "template": "none",
        "font": FONT,
        "margin": {"l": 16, "r": 16, "t": 74, "b": 16},
    }
    figure = go.Figure(traces, layout)
    return figure if line is None else figure.add_hline(y=line, line_width=1, line_color=GREY)

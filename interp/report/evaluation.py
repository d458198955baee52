"""An evaluation as one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from rich.markup import escape
from rich.table import Column, Table

from interp.page.document import panels_of, render, write_page
from interp.page.look import colour_of
from interp.report.look import layout
from interp.report.metrics import escaped

TITLES = {
    "top1": ("Top-1: the first token of the answer is the likeliest", "share of items"),
    "top5": ("Top-5: it is among the five likeliest", "share of items"),
    "exact": ("Exact: every token of the answer is the likeliest", "share of items"),
    "rank": ("Rank of the first token, median", "rank"),
    "first_token_loss": ("Loss of the first token", "nats"),
    "completion_loss": ("Loss of the whole answer", "nats per token"),
    "accuracy": ("Comparisons: the better continuation is preferred", "share of items"),
    "ratio": ("Comparisons: perplexity of the worse over that of the better", "ratio, geometric mean"),
}

CHANCE = "#8a93a1"


def puzzle_figure(families: pd.DataFrame, metric: str) -> go.Figure:
    """Draw one metric of every family that has it, with chance."""
    own = families.dropna(subset=metric)
    names = list(dict.fromkeys(own["family"]))
    title, unit = TITLES[metric]
    figure = _dots(own, "family", names, (metric, f"{metric}_low", f"{metric}_high"), f"{metric}_chance")
    figure.update_layout(title_text=title).update_xaxes(title_text=unit)
    if unit == "share of items":
        figure.update_xaxes(rangemode="tozero")
    return figure.update_xaxes(type="log", dtick=1) if metric == "rank" else figure


def class_figure(classes: pd.DataFrame, scheme: str) -> go.Figure:
    """Draw the held-out loss of every token class of a scheme that occurs."""
    own = classes.query("scheme == @scheme and n_tokens > 0")
    figure = _dots(own, "token_class", list(dict.fromkeys(own["token_class"])), ("loss", "low", "high"), None)
    title = f"Held-out loss by class of the predicted token, scheme {escaped(scheme)}"
    return figure.update_layout(title_text=title).update_xaxes(title_text="nats per token")


def position_figure(positions: pd.DataFrame) -> go.Figure:
    """Draw the held-out loss at every position of the context."""
    figure = go.Figure(layout=layout("Held-out loss by position in the context", "light", 380, showlegend=False))
    for number, (model, own) in enumerate(positions.query("n_tokens > 0").groupby("model", sort=False)):
        figure.add_scatter(
            x=own["pos"] + 1, y=own["loss"], name=escaped(str(model)), legendgroup=escaped(str(model)),
            mode="lines", line_color=colour_of(number), customdata=own[["low", "high", "n_tokens"]].to_numpy(),
            hovertemplate="%{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], n = %{customdata[2]:,}",
        )  # fmt: skip
    figure.update_xaxes(title_text="tokens seen", type="log").update_yaxes(title_text="nats per token", automargin=True)
    return figure


def _dots(
    table: pd.DataFrame, rows: str, names: Sequence[str], columns: tuple[str, str, str], chance: str | None
) -> go.Figure:
    models = list(dict.fromkeys(table["model"]))
    height = 110 + len(names) * (14 + 11 * len(models))
    figure = go.Figure(layout=layout("", "light", height, showlegend=False))
    for number, model in enumerate(models):
        own = table.query("model == @model")
        places = np.array([names.index(name) for name in own[rows]]) + _offset(number, len(models))
        figure.add_trace(_trace(own, places, str(model), colour_of(number), rows, columns))
    if chance:
        figure.add_traces(_chances(table.drop_duplicates([rows, chance]), rows, names, chance))
    labels = [escaped(str(name)) for name in names]
    axis = {"tickvals": list(range(len(names))), "ticktext": labels, "range": [len(names) - 0.5, -0.5]}
    return figure.update_yaxes(automargin=True, zeroline=False, showgrid=False, **axis)


def _trace(
    own: pd.DataFrame, places: np.ndarray, model: str, colour: str, rows: str, columns: tuple[str, str, str]
) -> go.Scatter:
    value, low, high = (own[column].to_numpy(float) for column in columns)
    size = own["n"] if "n" in own else own["n_tokens"]
    told = [
        f"{escaped(str(name))}, {escaped(model)}: {v:.4g} [{a:.4g}, {b:.4g}], n = {n:,}"
        for name, v, a, b, n in zip(own[rows], value, low, high, size, strict=True)
    ]
    bars: dict[str, Any] = {
        "type": "data",
        "array": high - value,
        "arrayminus": value - low,
        "width": 0,
        "thickness": 1.5,
    }
    return go.Scatter(
        x=value, y=places, mode="markers", name=escaped(model), legendgroup=escaped(model), error_x=bars,
        marker={"color": colour, "size": 7}, text=told, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _chances(table: pd.DataFrame, rows: str, names: Sequence[str], chance: str) -> list[go.Scatter]:
    """A short line across each row, and None between one and the next."""
    places = np.array([names.index(name) for name in table[rows]], dtype=float)
    y = np.stack([places - 0.42, places + 0.42, np.full_like(places, np.nan)], axis=1).ravel()
    x = np.repeat(table[chance].to_numpy(float), 3)
    line = {"color": CHANCE, "width": 2}
    return [go.Scatter(x=x, y=y, mode="lines", name="chance", line=line, hoverinfo="skip", legendgroup="chance")]


def _offset(number: int, count: int) -> float:
    return 0.7 * ((number + 0.5) / count - 0.5)


TEMPLATES = Path(__file__).parent / "templates"


def evaluation_page(tables: Mapping[str, pd.DataFrame], runs: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Write the page to `path` and return the path; a reader never sees half a page.

    Args:
        tables: `families`, and `overall`, `positions` and `classes` where a held-out loss was measured; each with `model`.
        runs: one per model, in the same order: model, warnings, n_ctx, d_vocab.
        path: the page.

    Raises:
        InterpError: the place cannot be written.
    """
    losses = {row["model"]: row for row in tables["overall"].to_dict("records")} if "overall" in tables else {}
    panels = panels_of(figures(tables))
    html = render(TEMPLATES, "evaluation.html", runs=runs, losses=losses, colour_of=colour_of, panels=panels)
    return write_page(html, path)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Return every picture that has something to show, by name."""
    families = tables["families"]
    drawn = {name: puzzle_figure(families, name) for name in TITLES if len(families.dropna(subset=name))}
    if "positions" in tables:
        drawn["position"] = position_figure(tables["positions"])
        for scheme in tables["classes"]["scheme"].unique():
            drawn[f"class-{scheme}"] = class_figure(tables["classes"], str(scheme))
    return {name: figure.update_layout(title_x=0.01, title_xanchor="left") for name, figure in drawn.items()}


SHOWN = {"top1": ".1%", "top5": ".1%", "exact": ".1%", "rank": ",.0f", "first_token_loss": ".2f", "completion_loss": ".2f",
         "accuracy": ".1%", "ratio": ".3f"}  # fmt: skip


def screen_tables(tables: Mapping[str, pd.DataFrame]) -> Iterator[Table]:
    """Yield a table per metric with intervals in brackets and chance beside them, and one of the held-out loss."""
    families = tables["families"]
    for metric, form in SHOWN.items():
        own = families.dropna(subset=metric)
        if len(own):
            yield _metric_table(own, metric, form)
    if "overall" in tables:
        yield _loss_table(tables["overall"])


def _metric_table(families: pd.DataFrame, metric: str, form: str) -> Table:
    models = list(dict.fromkeys(families["model"]))
    columns = [Column(escape(str(name)), overflow="fold", min_width=14) for name in ("family", *models)]
    table = Table(columns[0], "n", *columns[1:], title=TITLES[metric][0])
    table.add_column("chance", justify="right")
    by_guess = metric == "top1"
    if by_guess:
        table.add_column("best constant answer", justify="right")
    for family, own in families.groupby("family", sort=False):
        rows: dict[Any, Any] = {row["model"]: row for row in own.to_dict("records")}
        cells = [_cell(rows[model], metric, form) if model in rows else "" for model in models]
        first = next(iter(rows.values()))
        constant = [format(first["constant"], ".1%")] if by_guess else []
        table.add_row(escape(str(family)), str(first["n"]), *cells, _chance(first[f"{metric}_chance"], form), *constant)
    return table


def _loss_table(overall: pd.DataFrame) -> Table:
    table = Table("model", "loss", "95% interval", "tokens", "documents", title="Held-out loss, nats per token")
    for row in overall.to_dict("records"):
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        counts = f"{row['n_tokens']:,}", f"{row['n_documents']:,}"
        table.add_row(escape(str(row["model"])), f"{row['loss']:.4f}", interval, *counts)
    return table


def _cell(row: Mapping[Any, Any], metric: str, form: str) -> str:
    value, low, high = (format(row[f"{metric}{end}"], form) for end in ("", "_low", "_high"))
    return f"{value} [dim]{low} to {high}[/]"


def _chance(value: float, form: str) -> str:
    return f"{value:.2g}" if form == ".1%" and value < 0.001 else format(value, form)

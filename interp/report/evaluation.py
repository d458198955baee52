"""An evaluation as one HTML file that needs no network and no other file."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from interp.analysis.findings import FEW_TOKENS
from interp.page.document import panels_of, render, write_page
from interp.page.look import colour_of, layout
from interp.report.look import bound
from interp.report.metrics import escaped
from interp.report.panels.packing import codes_of

METRICS = {  # title, unit, how a number is printed
    "rank": ("Rank of the first token, median", "rank", ",.0f"),
    "first_token_loss": ("Loss of the first token", "nats", ".2f"),
    "completion_loss": ("Loss of the whole answer", "nats per token", ".2f"),
    "final_answer": ("Arithmetic: the answer that the model comes to is right", "share of problems", ".1%"),
    "top1": ("Top-1: the first token of the answer is the likeliest", "share of items", ".1%"),
    "top5": ("Top-5: it is among the five likeliest", "share of items", ".1%"),
    "exact": ("Exact: every token of the answer is the likeliest", "share of items", ".1%"),
    "accuracy": ("Comparisons: the better continuation is preferred", "share of items", ".1%"),
    "ratio": ("Comparisons: perplexity of the worse over that of the better", "ratio, geometric mean", ".3f"),
}
LEADING = {"rank": "median rank", "final_answer": "right answers", "top1": "top-1", "accuracy": "comparisons right"}
"""Of these the head of the page has the mean over families (of ranks the median), beside chance."""

TEMPLATES = Path(__file__).parent / "templates"
NARROW = 34
"""Letters of a title in a line: those that a screen of 390 pixels has room for."""
MIDDLE = "#8a93a1"  # a grey to be seen on light and dark
LINE = 22
"""Pixels of a line of a title."""


def puzzle_figure(families: pd.DataFrame, metric: str) -> go.Figure:
    """Draw one metric of every family that has it, with chance; beside an accuracy chance stands as a number too."""
    own = families.dropna(subset=metric)
    names = list(dict.fromkeys(own["family"]))
    title, unit, _ = METRICS[metric]
    figure: Any = _dots(own, "family", names, (metric, f"{metric}_low", f"{metric}_high"), f"{metric}_chance")
    figure.update_layout(title_text=title).update_xaxes(title_text=unit)
    if unit.startswith("share"):
        chances = own.drop_duplicates("family")[f"{metric}_chance"]
        labels = [
            f"{escaped(str(name))}<br>chance {_chance(of, '.1%')}" for name, of in zip(names, chances, strict=True)
        ]
        figure.update_xaxes(rangemode="tozero").update_yaxes(ticktext=labels)
        figure.update_layout(height=max(figure.layout.height, 110 + 34 * len(names)))
    return figure.update_xaxes(type="log", dtick=1) if metric == "rank" else figure


def class_figure(classes: pd.DataFrame, scheme: str) -> go.Figure:
    """Draw the held-out loss of every token class of a scheme; those that no token is in say n = 0.

    Classes with few tokens stand last and do not set the axis (`interp.report.look.bound`).
    """
    own = classes.query("scheme == @scheme")
    own = own.iloc[np.argsort(own["n_tokens"].to_numpy() < FEW_TOKENS, kind="stable")]
    occurring, names = own.query("n_tokens > 0"), list(dict.fromkeys(own["token_class"]))
    figure = _dots(occurring, "token_class", names, ("loss", "low", "high"), None)
    found = set(occurring["token_class"])
    labels = [escaped(str(name)) + ("" if name in found else " · n = 0") for name in names]
    figure.update_yaxes(ticktext=labels)
    title = f"Held-out loss by class of the predicted token, scheme {escaped(scheme)}"
    figure.update_layout(title_text=title).update_xaxes(title_text="nats per token")
    places = codes_of(occurring, "token_class", names)
    bound(figure, occurring[["loss", "low", "high"]].to_numpy(float).T, occurring, "light", places=places)
    return figure.update_traces(marker_color=MIDDLE, selector={"name": "goes on beyond the axis"})


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
    groups = list(table.groupby("model", sort=False))
    height = 110 + len(names) * (14 + 11 * len(groups))
    figure = go.Figure(layout=layout("", "light", height, showlegend=False))
    for number, (model, own) in enumerate(groups):
        value, low, high = (own[column].to_numpy(float) for column in columns)
        size, name = own["n"] if "n" in own else own["n_tokens"], escaped(str(model))
        told = [
            f"{escaped(str(row))}, {name}: {v:.4g} [{a:.4g}, {b:.4g}], n = {n:,}"
            for row, v, a, b, n in zip(own[rows], value, low, high, size, strict=True)
        ]
        figure.add_scatter(
            x=value, y=codes_of(own, rows, names) + 0.7 * ((number + 0.5) / len(groups) - 0.5), mode="markers",
            name=name, legendgroup=name, marker={"color": colour_of(number), "size": 7}, text=told,
            hovertemplate="%{text}<extra></extra>",
            error_x={"type": "data", "array": high - value, "arrayminus": value - low, "width": 0, "thickness": 1.5},
        )  # fmt: skip
    if chance:  # a short line across each row, and none between one and the next
        once = table.drop_duplicates([rows, chance])
        ends = codes_of(once, rows, names)[:, None] + [-0.42, 0.42, np.nan]
        figure.add_scatter(
            x=np.repeat(once[chance].to_numpy(float), 3), y=ends.ravel(), mode="lines", name="chance", hoverinfo="skip",
            legendgroup="chance", line={"color": MIDDLE, "width": 2},
        )  # fmt: skip
    labels = [escaped(str(name)) for name in names]
    axis = {"tickvals": list(range(len(names))), "ticktext": labels, "range": [len(names) - 0.5, -0.5]}
    return figure.update_yaxes(automargin=True, zeroline=False, showgrid=False, **axis)


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
    asked = "Arithmetic" if runs[0]["items"] == "arithmetic" else "Puzzles"
    heading = f"{asked} and held-out loss" if losses else asked
    titles, leads = leading(tables["families"])
    html = render(
        TEMPLATES, "evaluation.html", runs=runs, heading=heading, losses=losses, colour_of=colour_of, panels=panels,
        titles=titles, leads=leads,
    )  # fmt: skip
    return write_page(html, path)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Return every picture that has something to show, by name."""
    families = tables["families"]
    drawn = {"position": position_figure(tables["positions"])} if "positions" in tables else {}
    drawn |= {name: puzzle_figure(families, name) for name in _metrics_of(families)}
    if "classes" in tables:
        for scheme in tables["classes"]["scheme"].unique():
            drawn[f"class-{scheme}"] = class_figure(tables["classes"], str(scheme))
    for figure in drawn.values():
        own = figure.to_plotly_json()["layout"]
        lines = textwrap.wrap(own["title"]["text"], NARROW, break_long_words=False)
        room = LINE * (len(lines) - 1)
        height = own["height"] + room
        title = {"text": "<br>".join(lines), "x": 0.01, "xanchor": "left", "y": 1 - LINE / height, "yanchor": "top"}
        figure.update_layout(title=title, height=height, margin_t=own["margin"]["t"] + room)
    return drawn


def leading(families: pd.DataFrame) -> tuple[list[str], dict[str, list[str]]]:
    """Return the titles of `LEADING` that a table has, and each model's numbers over families beside chance."""
    known = [name for name in _metrics_of(families) if name in LEADING]
    cells = {}
    for model, own in families.groupby("model", sort=False):
        cells[str(model)] = []
        for name in known:
            middle, form = np.nanmedian if name == "rank" else np.nanmean, METRICS[name][2]
            over, chance = (float(middle(own[column].to_numpy(float))) for column in (name, f"{name}_chance"))
            cells[str(model)].append(f"{format(over, form)} (chance {_chance(chance, form)})")
    return [LEADING[name] for name in known], cells


def _chance(guess: float, form: str) -> str:
    """Return chance as text: one in many thousands is not 0."""
    return f"{100 * guess:.1g}%" if form == ".1%" and 0 < guess < 0.001 else format(guess, form)


def screen_tables(tables: Mapping[str, pd.DataFrame]) -> Iterator[Table]:
    """Yield a table per metric with intervals in brackets and chance beside them, and one of the held-out loss."""
    families = tables["families"]
    for metric in _metrics_of(families):
        yield _metric_table(families.dropna(subset=metric), metric)
    if "overall" in tables:
        names = [Column("model", overflow="fold")]
        names += [Column(name, justify="right") for name in ("loss", "95% interval", "tokens", "documents")]
        table = Table(*names, title="Held-out loss, nats per token", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for row in tables["overall"].to_dict("records"):
            interval = f"{row['low']:.4f} to {row['high']:.4f}"
            counts = f"{row['n_tokens']:,}", f"{row['n_documents']:,}"
            table.add_row(escape(str(row["model"])), f"{row['loss']:.4f}", interval, *counts)
        yield table


def _metrics_of(families: pd.DataFrame) -> list[str]:
    """Return the metrics that a table has values of."""
    return [name for name in METRICS if name in families and len(families.dropna(subset=name))]


def _metric_table(families: pd.DataFrame, metric: str) -> Table:
    title, unit, form = METRICS[metric]
    texts = [Column(name, overflow="fold") for name in ("family", "model")]
    numbers = [
        "n",
        unit.split(",")[0].split(" of ")[0],
        "95% interval",
        "chance",
        *(["constant"] if metric == "top1" else []),
    ]
    caption = "constant: always the most frequent answer" if metric == "top1" else None
    columns = [Column(name, justify="right", no_wrap=True) for name in numbers]
    table = Table(*texts, *columns, title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for family, own in families.groupby("family", sort=False):
        for place, row in enumerate(own.to_dict("records")):
            value, low, high = (format(row[f"{metric}{end}"], form) for end in ("", "_low", "_high"))
            chance = _chance(row[f"{metric}_chance"], form)
            constant = [format(row["constant"], ".1%")] if metric == "top1" else []
            named = ("" if place else escape(str(family)), escape(str(row["model"])))
            table.add_row(*named, str(row["n"]), value, f"{low} to {high}", chance, *constant)
    return table

"""An evaluation as tables for the terminal, families in rows and models in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Column, Table

from interp.report.evaluation.figures import TITLES

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

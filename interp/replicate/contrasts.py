"""Paired differences: the same seed with and without a change, so that what the seed does to both falls out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from interp.evals.puzzles.intervals import mean
from interp.replicate.plan import MATRIX

Kind = Literal["breaking", "gap", "narrowing", "ablation"]
BASE = "adamw"  # the optimizer that the others are held against


@dataclass(frozen=True)
class Contrast:
    """Differences of a metric between runs of the same seeds.

    `kind` says which: "breaking" is a variant minus symmetric, of one optimizer; "gap" is an optimizer minus AdamW, of one
    variant; "narrowing" is what breaking does to the gap, so that a positive gap in the loss narrows by what is below 0;
    "ablation" is an ablation minus the matrix's run of the same optimizer and variant.
    """

    kind: Kind
    optimizer: str
    variant: str
    ablation: str
    metric: str
    differences: tuple[float, ...]  # one per seed that both sides have

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over seeds, and the ends of its 95% t interval; missing where there are too few seeds."""
        return mean(np.array(self.differences)) if self.differences else (np.nan, np.nan, np.nan)

    @property
    def name(self) -> str:
        """Optimizer, variant and ablation."""
        return cell_name(self.optimizer, self.variant, self.ablation)


def contrasts(table: pd.DataFrame, kind: Kind, metric: str = "validation_loss") -> list[Contrast]:
    """Return all contrasts of a kind in a metric of the results' table."""
    cells = table[["optimizer", "variant", "ablation"]].drop_duplicates().itertuples(index=False, name=None)
    found = []
    for optimizer, variant, ablation in cells:
        difference = _difference(table, kind, optimizer, variant, ablation, metric)
        if difference is not None:
            found.append(Contrast(kind, optimizer, variant, ablation, metric, tuple(difference.sort_index().tolist())))
    return found


def contrasts_table(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return a row per contrast of any kind and metric, with n, mean, low, high, and a row's differences in one column."""
    rows = [
        vars(c) | _numbers(c) for metric in metrics for kind in get_args(Kind) for c in contrasts(table, kind, metric)
    ]
    return pd.DataFrame(rows)


def by_seed(table: pd.DataFrame, optimizer: str, variant: str, metric: str, ablation: str = MATRIX) -> pd.Series:
    """Return a metric of the runs of one cell by seed, where it is measured."""
    own = (table["optimizer"] == optimizer) & (table["variant"] == variant) & (table["ablation"] == ablation)
    return pd.Series(table.loc[own].set_index("seed")[metric].dropna())


def cell_name(optimizer: str, variant: str, ablation: str = MATRIX) -> str:
    """Return what tables call the runs of a cell."""
    return " ".join([optimizer, variant, *([ablation] if ablation != MATRIX else [])])


def _difference(
    table: pd.DataFrame, kind: Kind, optimizer: str, variant: str, ablation: str, metric: str
) -> pd.Series | None:
    """The differences by seed; None where there is no such contrast."""
    if kind == "ablation":
        changed = by_seed(table, optimizer, variant, metric, ablation)
        return None if ablation == MATRIX else (changed - by_seed(table, optimizer, variant, metric)).dropna()
    if ablation != MATRIX or (kind != "gap" and variant == "symmetric") or (kind != "breaking" and optimizer == BASE):
        return None
    both = (optimizer, BASE)
    if kind == "gap":
        own, base = (by_seed(table, name, variant, metric) for name in both)
    else:
        own, base = (_breaking(table, name, variant, metric) for name in both)
    return own if kind == "breaking" else (own - base).dropna()


def _breaking(table: pd.DataFrame, optimizer: str, variant: str, metric: str) -> pd.Series:
    return (by_seed(table, optimizer, variant, metric) - by_seed(table, optimizer, "symmetric", metric)).dropna()


def _numbers(contrast: Contrast) -> dict[str, object]:
    middle, low, high = contrast.interval
    shown = " ".join(f"{value:.6g}" for value in contrast.differences)
    return {"n": len(contrast.differences), "mean": middle, "low": low, "high": high, "differences": shown}

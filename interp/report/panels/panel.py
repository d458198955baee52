"""What a panel of the page is, and the result as all panels see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.analysis.comparison.result import Comparison
from interp.analysis.result import Amplification
from interp.errors import InterpError
from interp.report.findings import plain_word
from interp.report.look import colour_range
from interp.report.metrics import (
    KEYS,
    METRICS,
    indistinct,
    metrics_of,
    require,
    require_one_model,
    rows_of_scheme,
    with_evidence,
)
from interp.report.panels.packing import block, codes_of, pack, spread

FOLDER = Path(__file__).parent
NEEDED = ("log2_amplification", "ci_low", "ci_high", "bias_score_contrast", "hedges_g", "auroc", "alignment", "share",
          "share_unbiased", "bias_score_mean")  # fmt: skip

FURTHER = ("_low", "_high")
"""How columns of intervals and nulls end. They are in half precision: three digits are more than their errors are worth."""

CELLS = 20_000  # pairs of head and class whose first columns the page can afford in single precision


@dataclass(frozen=True)
class View:
    """A result, and perhaps a comparison, resolved once for all panels of a page; make it with `View.of`.

    Attributes:
        result: what the page shows.
        comparison: one whose A is `result`, or None.
        heads: the heads table `with_evidence`, checked; schemes and classes are strings.
        layers: the numbers of the layers.
        heads_each: the numbers of the heads in a layer. The page numbers all heads, layer by layer: `numbered`.
    """

    result: Amplification
    comparison: Comparison | None
    heads: pd.DataFrame
    layers: list[int]
    heads_each: list[int]

    @classmethod
    def of(cls, result: Amplification, comparison: Comparison | None = None) -> View:
        """Check and resolve a result.

        Raises:
            InterpError: the heads table lacks a column, mixes models or repeats a row.
        """
        heads = with_evidence(result)
        require(heads, [*KEYS, "n_tokens", "n_documents", *NEEDED], "heads")
        require_one_model(heads)
        heads = heads.assign(token_class=heads["token_class"].astype(str), scheme=heads["scheme"].astype(str))
        return cls(result, comparison, heads, *([int(i) for i in sorted(set(heads[n]))] for n in ("layer", "head")))

    @property
    def head_numbers(self) -> range:
        """The axis of all heads."""
        return range(len(self.layers) * len(self.heads_each))

    @cached_property
    def schemes(self) -> dict[str, list[str]]:
        """The classes of each scheme, the most frequent first."""
        return {name: list(counts.index) for name, counts in self._counts.items()}

    @cached_property
    def _counts(self) -> dict[str, pd.DataFrame]:
        """`n_tokens` and `n_documents` of the classes of each scheme, which all heads have read alike."""
        found = {}
        for name, rows in self.heads.groupby("scheme", sort=False):
            counts = {column: one_each(rows, column, "token_class", f"{column} of a class of {name!r}")
                      for column in ("n_tokens", "n_documents")}  # fmt: skip
            found[str(name)] = pd.DataFrame(counts).sort_values("n_tokens", ascending=False, kind="stable")
        return found

    @property
    def first(self) -> dict[str, Any]:
        """A head and class that exist, for figures of which the page keeps the look."""
        return {str(key): value for key, value in self.heads.head(1).to_dict("records")[0].items()}

    def numbered(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return `table` with `head_number`, the page's of the row's head; -1 for one that the heads table lacks."""
        layer, head = codes_of(table, "layer", self.layers), codes_of(table, "head", self.heads_each)
        number = layer * len(self.heads_each) + head
        return table.assign(head_number=np.where((layer < 0) | (head < 0), -1, number))

    def table(self, name: str, columns: Iterable[str]) -> pd.DataFrame | None:
        """Return a table of the result, or None where it was not measured or has no rows.

        Raises:
            InterpError: it was measured, but lacks some of `columns`.
        """
        found = getattr(self.result, name, None)
        if found is None or not len(found.columns):
            return None
        require(found, columns, name)
        return found if len(found) else None

    def payload(self) -> dict[str, Any]:
        """Return what all panels read: the layers and heads, and for each scheme its classes, counts and numbers.

        Raises:
            InterpError: a class has different counts for different heads.
        """
        schemes = [self._scheme(name) for name in self.schemes]
        return {"layers": self.layers, "heads": self.heads_each, "schemes": schemes}

    def _scheme(self, name: str) -> dict[str, Any]:
        rows, counts = self.numbered(rows_of_scheme(self.heads, name)), self._counts[name]
        axes = {"head_number": self.head_numbers, "token_class": self.schemes[name]}
        precise = len(self.head_numbers) * len(counts) <= CELLS
        first, further = block(rows, axes, NEEDED, "f4" if precise else "f2"), block(rows, axes, _further(self.heads))
        return {
            "name": name,
            "classes": list(counts.index),
            **{column: counts[column].to_list() for column in counts},
            "ranges": {metric.name: colour_range(rows, metric) for metric in metrics_of(rows.columns)},
            "shape": first["shape"],
            "values": first["values"] | further["values"],
            "words": [plain_word(name, token_class) for token_class in counts.index],
            "hatched": pack(np.nan_to_num(spread(rows.assign(hatched=_hatched(rows)), axes, "hatched")), "i2"),
        }


def one_each(table: pd.DataFrame, column: str, group: str, name: str) -> pd.Series:
    """Return the one value that `column` has in every group, such as the count of every token; a missing one is 0.

    Raises:
        InterpError: a group has two values; `name` says of what.
    """
    pairs = pd.DataFrame(table[[group, column]]).drop_duplicates()
    if len(pairs) > len(set(pairs[group])):
        raise InterpError(
            f"{name} differs between heads; it must be the same for all, because all read the same tokens."
        )
    return pd.Series(np.nan_to_num(pairs[column].to_numpy(float)).astype(int), index=pd.Index(pairs[group]))


def _further(heads: pd.DataFrame) -> list[str]:
    """Return the columns of metrics, intervals and nulls that only some results have."""
    known = {*METRICS, *(metric.q for metric in METRICS.values())} - set(NEEDED)
    return [name for name in heads if name not in NEEDED and (name in known or str(name).endswith(FURTHER))]


def _hatched(rows: pd.DataFrame) -> np.ndarray:
    """Return a number for each row, of which bit i is set where it is `indistinct` in the i-th metric that there is."""
    marks = [indistinct(rows, metric) for metric in metrics_of(rows.columns)]  # 15 at most fit the page's numbers
    return np.sum([mark.astype(int) << bit for bit, mark in enumerate(marks)], axis=0)


@dataclass(frozen=True)
class Panel:
    """One question of a reader and its answer: ``name.html`` says and places it, ``name.js`` draws it.

    Attributes:
        name: of its files, its section (``panel-name``) and its part of the page's data.
        word: what the list of keys calls it, by default its name.
        payload: what its script reads, at ``data.panels[name]``. None: there is nothing to draw, so the script is left out
            and the HTML, which gets it as `payload`, says so.
        figures: the figures in whose look the script draws, by name; the page has them, without their numbers, at
            ``data.figures``, the HTML as `figures`.
        available: False leaves the whole panel out.
        wide: whether it has the width of the page.
        leads: whether it stands before all others where it is available.
        folder: where its HTML and its script are.
    """

    name: str
    word: str = ""
    payload: Callable[[View], dict[str, Any] | None] = lambda view: {}
    figures: Callable[[View], Mapping[str, go.Figure]] = lambda view: {}
    available: Callable[[View], bool] = lambda view: True
    wide: bool = True
    leads: bool = False
    folder: Path = FOLDER

"""The strongest class of every head as a small table, for a reader without scripts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.report.metrics import AMPLIFICATION
from interp.report.tables import indistinct, rankable, rows_of_scheme
from interp.report.text import number


@dataclass(frozen=True)
class Overview:
    """A layer x head table of texts such as ``PUNCT +0.41``, with its scheme and column names."""

    scheme: str
    heads: list[str]
    rows: list[tuple[str, list[str]]]


def overview(heads: pd.DataFrame, scheme: str) -> Overview:
    """Return, for every head, the class with the largest |A| that can be told from no effect, or a dash."""
    rows = rows_of_scheme(heads, scheme)
    sure = rows.loc[rankable(rows) & ~indistinct(rows, AMPLIFICATION)]
    strongest = _strongest_first(sure).drop_duplicates(["layer", "head"])
    texts = {
        (layer, head): f"{token_class} {number(value)}"
        for layer, head, token_class, value in strongest[
            ["layer", "head", "token_class", "log2_amplification"]
        ].itertuples(index=False)
    }
    columns = sorted(rows["head"].unique())
    return Overview(
        scheme=scheme,
        heads=[f"H{head}" for head in columns],
        rows=[
            (f"L{layer}", [texts.get((layer, head), "–") for head in columns])
            for layer in sorted(rows["layer"].unique())
        ],
    )


def first_head(heads: pd.DataFrame, scheme: str) -> str:
    """Return the label of the head with the largest |A| that can be told from no effect: the page opens there."""
    rows = rows_of_scheme(heads, scheme)
    sure = _strongest_first(rows.loc[rankable(rows) & ~indistinct(rows, AMPLIFICATION)])
    row = (sure if len(sure) else rows).iloc[0]
    return f"L{row['layer']}H{row['head']}"


def _strongest_first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[np.argsort(-np.abs(rows["log2_amplification"].to_numpy(float)), kind="stable")]

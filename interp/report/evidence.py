"""The heads table beside all that bears on its numbers: intervals of contrasts, contrasts with position removed, nulls."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from interp.analysis.result import Amplification
from interp.report.metrics import KEYS, METRICS

REMOVED = {"nothing": "contrast", "position": "contrast_position", "position and frequency": "contrast_frequency"}
"""What the columns of each `adjusted_for` of the result's table `adjusted` start with."""


ENDS = ("null_mean", "null_sd")


def with_evidence(result: Amplification) -> pd.DataFrame:
    """Return `result.heads` with the columns that the tables `adjusted` and `nulls` of the result add to it.

    Of `adjusted`: `contrast_low, contrast_high` (the 95% interval of `bias_score_contrast` over documents),
    `contrast_position` (the contrast between tokens at the same positions) with its `_low` and `_high`, and
    `contrast_frequency` with position and token frequency removed. Of `nulls`, for every metric
    that has a null: `log2_amplification_null_mean`, `log2_amplification_null_sd` and so on. Columns of empty tables are left
    out.
    """
    heads = result.heads
    for name, rows in _groups(result.adjusted, "adjusted_for", REMOVED):
        stem = REMOVED[name]
        columns = {"ci_low": f"{stem}_low", "ci_high": f"{stem}_high"}
        columns |= {} if name == "nothing" else {"bias_score_contrast": stem}
        heads = _joined(heads, rows, columns)
    for metric in METRICS.values():
        if metric.null and len(result.nulls):
            rows = result.nulls.query("null == @metric.null and statistic == @metric.statistic")
            heads = _joined(heads, rows, {end: f"{metric.name}_{end}" for end in ENDS}) if len(rows) else heads
    return heads


def _groups(table: pd.DataFrame, column: str, names: Iterable[str]) -> list[tuple[str, pd.DataFrame]]:
    groups = [(name, table.loc[table[column] == name]) for name in names] if len(table) else []
    return [(name, rows) for name, rows in groups if len(rows)]


def _joined(heads: pd.DataFrame, rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Add `columns` of `rows` under new names; a head and class that `rows` lack get missing values."""
    place = _index(rows).get_indexer(_index(heads))
    values = {new: np.where(place < 0, np.nan, rows[old].to_numpy(float)[place]) for old, new in columns.items()}
    return heads.assign(**values)


def _index(table: pd.DataFrame) -> pd.MultiIndex:
    layer, head, scheme, token_class = (table[key] for key in KEYS)
    return pd.MultiIndex.from_arrays([layer, head, scheme.astype(str), token_class.astype(str)])

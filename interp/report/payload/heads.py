"""The heads table as one dense block per scheme and column, [head, class]."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.report.colours import colour_range
from interp.report.metrics import METRICS
from interp.report.payload.packing import codes, one_each, pack
from interp.report.tables import KEYS, require, require_one_model

VALUES = (*METRICS, "ci_low", "ci_high", "share_unbiased", "bias_score_mean")


def heads_payload(heads: pd.DataFrame) -> dict[str, Any]:
    """Return the layers and heads there are, and for each scheme its classes, counts and blocks of numbers.

    Raises:
        InterpError: a column is missing, a row repeats, or a class has different counts for different heads.
    """
    require(heads, [*KEYS, "n_tokens", "n_documents", *VALUES], "heads")
    require_one_model(heads)
    layers, numbers = sorted(heads["layer"].unique()), sorted(heads["head"].unique())
    head = head_index(heads, layers, numbers)
    names = [str(name) for name in heads["scheme"].unique()]
    blocks = [_scheme(name, heads[rows], head[rows], len(layers) * len(numbers))
              for name in names for rows in [(heads["scheme"] == name).to_numpy()]]  # fmt: skip
    return {"layers": [int(i) for i in layers], "heads": [int(i) for i in numbers], "schemes": blocks}


def head_index(table: pd.DataFrame, layers: list, numbers: list) -> np.ndarray:
    """Return the place of each row's head in the page's blocks, -1 for a head that the heads table does not have."""
    layer, head = pd.Index(layers).get_indexer(table["layer"]), pd.Index(numbers).get_indexer(table["head"])
    return np.where((layer < 0) | (head < 0), -1, layer * len(numbers) + head)


def head_means(heads: pd.DataFrame, index: np.ndarray, n_heads: int) -> np.ndarray:
    """Return each head's mean bias score over all tokens, which every class gives as its mean minus its contrast."""
    means = (heads["bias_score_mean"] - heads["bias_score_contrast"]).groupby(index).mean()
    return means.reindex(range(n_heads)).to_numpy()


def _scheme(name: str, rows: pd.DataFrame, head: np.ndarray, n_heads: int) -> dict[str, Any]:
    counts = one_each(rows["n_tokens"], rows["token_class"].astype(str), f"n_tokens of a class of {name!r}")
    documents = one_each(rows["n_documents"], rows["token_class"].astype(str), f"n_documents of a class of {name!r}")
    classes = list(counts.sort_values(ascending=False, kind="stable").index)
    place = codes(rows["token_class"], classes)
    return {
        "name": name,
        "classes": classes,
        "n_tokens": [int(n) for n in counts[classes]],
        "n_documents": [int(n) for n in documents[classes].fillna(0)],
        "ranges": {metric.name: colour_range(rows, metric) for metric in METRICS.values()},
        "values": {column: _block(rows[column], head, place, (n_heads, len(classes))) for column in VALUES},
    }


def _block(values: pd.Series, head: np.ndarray, place: np.ndarray, shape: tuple[int, int]) -> dict[str, str]:
    block = np.full(shape, np.nan)  # [head, class]
    block[head, place] = values.to_numpy(float)
    return pack(block, "f4")

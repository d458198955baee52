"""Numbers for a page: little-endian bytes as base64, a quarter of what JSON digits cost."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InterpError
from interp.report.look import colour_range
from interp.report.metrics import KEYS, metrics_of, require, require_one_model, rows_of_scheme


def pack(values: np.ndarray, dtype: str) -> dict[str, str]:
    """Return ``{"dtype", "base64"}`` for an array; `dtype` is one of f4, f2, i4, i2 and data.js reads the same four."""
    return {"dtype": dtype, "base64": base64.b64encode(np.ascontiguousarray(values, f"<{dtype}").tobytes()).decode()}


def script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in, whatever strings it holds."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def texts(strings: Iterable[object]) -> list[str]:
    """Return strings that every browser and file can hold: halves of surrogate pairs become U+FFFD."""
    return [str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in strings]


def codes(table: pd.DataFrame, column: str, known: list) -> np.ndarray:
    """Return the place in `known` of each value of a column, -1 for a value that is not there."""
    return pd.Index(known).get_indexer(pd.Index(table[column].to_numpy()))


def one_each(table: pd.DataFrame, column: str, group: str, name: str) -> dict[Any, int]:
    """Return the one value that `column` has in every group, such as the count of every token; a missing one is 0.

    Raises:
        InterpError: a group has two values; `name` says of what.
    """
    pairs = table[[group, column]].drop_duplicates()
    if len(pairs) > len(set(pairs[group])):
        raise InterpError(
            f"{name} differs between heads; it must be the same for all, because all read the same tokens."
        )
    return {key: int(value) if value == value else 0 for key, value in zip(pairs[group], pairs[column], strict=True)}


NEEDED = ("log2_amplification", "ci_low", "ci_high", "bias_score_contrast", "hedges_g", "auroc", "alignment", "share",
          "share_unbiased", "bias_score_mean")  # fmt: skip

CONTRASTS = ("contrast", "contrast_position", "contrast_frequency")

NULLS = ("contrast", "auroc", "alignment", "amplification")

FURTHER = (
    *(f"{name}{end}" for name in CONTRASTS for end in ("", "_low", "_high")),
    "amplification_null_mean",  # of the others it is the value that means "no effect"
    *(f"{name}_{part}" for name in NULLS for part in ("null_sd", "q", "label_q")),
)
"""Columns that only some results have, in half precision: three digits are more than their errors are worth."""

CELLS = 20_000  # pairs of head and class whose first columns the page can afford in single precision


def heads_payload(heads: pd.DataFrame) -> dict[str, Any]:
    """Return the layers and heads there are, and for each scheme its classes, counts and blocks of numbers.

    Raises:
        InterpError: a column is missing, a row repeats, or a class has different counts for different heads.
    """
    require(heads, [*KEYS, "n_tokens", "n_documents", *NEEDED], "heads")
    require_one_model(heads)
    heads = heads.assign(token_class=heads["token_class"].astype(str), scheme=heads["scheme"].astype(str))
    layers, numbers = sorted(set(heads["layer"])), sorted(set(heads["head"]))
    schemes = [_scheme(name, rows_of_scheme(heads, name), layers, numbers) for name in dict.fromkeys(heads["scheme"])]
    return {"layers": [int(i) for i in layers], "heads": [int(i) for i in numbers], "schemes": schemes}


def head_index(table: pd.DataFrame, layers: list, numbers: list) -> np.ndarray:
    """Return the place of each row's head in the page's blocks, -1 for a head that the heads table does not have."""
    layer, head = codes(table, "layer", layers), codes(table, "head", numbers)
    return np.where((layer < 0) | (head < 0), -1, layer * len(numbers) + head)


def head_means(heads: pd.DataFrame, index: np.ndarray, n_heads: int) -> np.ndarray:
    """Return each head's mean bias score over all tokens, which every class gives as its mean minus its contrast."""
    means = heads["bias_score_mean"].to_numpy(float) - heads["bias_score_contrast"].to_numpy(float)
    known = np.isfinite(means) & (index >= 0)
    totals, counts = (np.bincount(index[known], weights, n_heads) for weights in (means[known], None))
    return np.divide(totals, counts, out=np.full(n_heads, np.nan), where=counts > 0)


def _scheme(name: str, rows: pd.DataFrame, layers: list, numbers: list) -> dict[str, Any]:
    n_tokens = one_each(rows, "n_tokens", "token_class", f"n_tokens of a class of {name!r}")
    n_documents = one_each(rows, "n_documents", "token_class", f"n_documents of a class of {name!r}")
    classes = sorted(n_tokens, key=lambda token_class: -n_tokens[token_class])
    head, place = head_index(rows, layers, numbers), codes(rows, "token_class", classes)
    columns = [*NEEDED, *(column for column in FURTHER if column in rows)]
    block = np.full((len(columns), len(layers) * len(numbers), len(classes)), np.nan)  # [column, head, class]
    block[:, head, place] = rows[columns].to_numpy(float).T
    precise = NEEDED if block[0].size <= CELLS else ()
    return {
        "name": name,
        "classes": classes,
        "n_tokens": [n_tokens[token_class] for token_class in classes],
        "n_documents": [n_documents[token_class] for token_class in classes],
        "ranges": {metric.name: colour_range(rows, metric) for metric in metrics_of(rows.columns)},
        "values": {
            column: pack(values, "f4" if column in precise else "f2")
            for column, values in zip(columns, block, strict=True)
        },
    }

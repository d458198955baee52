"""Numbers for a page: little-endian bytes as base64, a quarter of what JSON digits cost."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InterpError


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

"""Numbers for a page: little-endian bytes as base64, a quarter of what JSON digits cost."""

from __future__ import annotations

import base64
import json
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


def codes(values: pd.Series, known: list[str]) -> np.ndarray:
    """Return each value's place in `known`, -1 for a value that is not there."""
    return pd.Index(known).get_indexer(pd.Index(values.astype(str)))


def one_each(values: pd.Series, groups: pd.Series, name: str) -> pd.Series:
    """Return the one value of every group, such as the count of every token.

    Raises:
        InterpError: a group has two; `name` says which.
    """
    grouped = values.groupby(groups.to_numpy(), sort=False)
    if (grouped.nunique(dropna=False) > 1).any():
        raise InterpError(f"{name} differs between heads; it must be the same for all, because all read the same tokens.")
    return grouped.first()

"""How tables get into a page: numbers as little-endian bytes in base64, a quarter of what JSON digits cost.

A panel declares which columns are numbers, of which type, which are codes, and which are texts; `columns` packs a table row
by row and `block` at its place along axes. The page unpacks whatever it meets (data.js), so no script lists columns again.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

EMPTIED = ("x", "y", "z", "base", "text", "hovertext", "customdata", "q1", "median", "q3", "lowerfence", "upperfence")
"""The parts of a trace that are numbers; what else it has is its look."""


def pack(values: np.ndarray, dtype: str) -> dict[str, str]:
    """Return ``{"dtype", "base64"}`` for an array; `dtype` is one of f4, f2, i4, i2, u1, and data.js reads the same."""
    return {"dtype": dtype, "base64": base64.b64encode(np.ascontiguousarray(values, f"<{dtype}").tobytes()).decode()}


def columns(
    table: pd.DataFrame, numbers: Mapping[str, str], codes: Mapping[str, Sequence] | None = None, texts: Sequence[str] = ()
) -> dict[str, Any]:  # fmt: skip
    """Return a table column by column.

    Args:
        table: what is packed.
        numbers: columns and the type each has in the page.
        codes: columns of few values, and these values: the page gets the place of each (`codes_of`).
        texts: columns of strings.
    """
    return {
        **{name: pack(table[name].to_numpy(), dtype) for name, dtype in numbers.items()},
        **{name: pack(codes_of(table, name, known), "i2") for name, known in (codes or {}).items()},
        **{name: readable(table[name]) for name in texts},
    }


def block(
    table: pd.DataFrame, axes: Mapping[str, Sequence], numbers: Iterable[str], dtype: str = "f2"
) -> dict[str, Any]:
    """Return ``{"shape", "values"}``: each column of `numbers` as an array along `axes`, as `spread` fills it."""
    spreads = {name: spread(table, axes, name) for name in numbers}
    values = {name: pack(array, dtype) for name, array in spreads.items()}
    return {"shape": [len(known) for known in axes.values()], "values": values}


def spread(table: pd.DataFrame, axes: Mapping[str, Sequence], column: str) -> np.ndarray:
    """Return a column at its place along `axes` (a column, and the values along it), missing where there is no row.

    Rows with a value that an axis lacks are left out.
    """
    places = [codes_of(table, name, known) for name, known in axes.items()]
    kept = np.all([place >= 0 for place in places], axis=0)
    array = np.full([len(known) for known in axes.values()], np.nan)
    array[tuple(place[kept] for place in places)] = table[column].to_numpy(float)[kept]
    return array


def codes_of(table: pd.DataFrame, column: str, known: Sequence) -> np.ndarray:
    """Return the place in `known` of each value of a column, -1 for a value that is not there."""
    return pd.Index(known).get_indexer(pd.Index(table[column].to_numpy()))


def readable(strings: Iterable[object]) -> list[str]:
    """Return strings that every browser and file can hold: halves of surrogate pairs become U+FFFD."""
    return [str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in strings]


def look(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as Plotly's JSON without its numbers: the page draws in its look, and never says it again."""
    found = json.loads(figure.to_json() or "")
    traces = [{key: part for key, part in trace.items() if key not in EMPTIED} for trace in found["data"]]
    return {"data": traces, "layout": found["layout"]}


def script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in, whatever strings it holds."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")

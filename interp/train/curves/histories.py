"""What a run logged, as a DataFrame: a row per optimizer step; and what of it a picture can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import InterpError
from interp.train.records import CURVE

NEEDED = ("step", "tokens", "loss", "seconds")
OPTIONAL = ("validation_loss", "lr", "grad_norm", "energy", "tokens_per_second")


def read_history(run: Path) -> pd.DataFrame:
    """Read `training.jsonl` of a run's or checkpoint's folder, or the file itself.

    A last line that is not finished is left out, because the run may be writing it. The columns `validation_loss`, `lr`,
    `grad_norm`, `energy` and `tokens_per_second` are NaN where they were not logged; the rate is computed from tokens and
    seconds where it is missing. `charges` holds ``{"qk": [layer][head], "vo": [layer][head]}`` or NaN.

    Raises:
        InterpError: no such file, a line that is not a row of numbers, or no row at all.
    """
    path = run / CURVE if run.is_dir() else run
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise InterpError(f"There is no {path}; give the folder of a training run or of a checkpoint.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InterpError(f"{path} cannot be read as text ({error}); a {CURVE} is expected.") from error
    unfinished = lines.pop()  # nothing, if the last line ends in a newline
    rows = [_row(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if _whole(unfinished):
        rows.append(_row(unfinished, path, len(lines) + 1))
    if not rows:
        raise InterpError(f"{path} has no finished row yet; wait for the first optimizer step.")
    return _table(rows)


def running_mean(values: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Return the mean over a window of 1% of the rows around each row, shorter at both ends; all rows count."""
    window = len(values) // 100 | 1  # odd, so that it has a middle
    means = pd.Series(values).rolling(window, center=True, min_periods=1).mean()
    return np.asarray(means)


def extremes(values: Float[np.ndarray, " row"], limit: int = 2000) -> Int[np.ndarray, " shown"]:
    """Return at most `limit` rows that show every spike: the lowest and the highest of runs of rows of equal length."""
    if len(values) <= limit:
        return np.arange(len(values))
    low, high = (np.where(np.isnan(values), missing, values) for missing in (np.inf, -np.inf))
    runs = np.array_split(np.arange(len(values)), limit // 2)
    return np.unique([row for run in runs for row in (run[low[run].argmin()], run[high[run].argmax()])])


def evenly(length: int, limit: int = 500) -> Int[np.ndarray, " shown"]:
    """Return at most `limit` rows at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, limit)).round().astype(np.int64))


def _whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InterpError(f"Line {number} of {path} is not JSON ({error}); copy the file again.") from error
    missing = [name for name in NEEDED if name not in row] if isinstance(row, dict) else NEEDED
    if missing:
        raise InterpError(
            f"Line {number} of {path} has no {missing[0]!r}; a row of training needs {', '.join(NEEDED)}."
        )
    for name in (*NEEDED, *OPTIONAL):
        absent = name in OPTIONAL and row.get(name) is None
        if not absent and not isinstance(row[name], (int, float)):
            raise InterpError(f"Line {number} of {path} gives {row[name]!r} as {name}; a number is expected.")
    if not _are_charges(row.get("charges") or {}):
        raise InterpError(f"Line {number} of {path} has charges that are not [layer][head] numbers of qk and vo.")
    return row


def _are_charges(charges: Any) -> bool:
    try:
        return isinstance(charges, dict) and all(np.array(heads, dtype=float).ndim == 2 for heads in charges.values())
    except (TypeError, ValueError):
        return False


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table = table.reindex(columns=[*NEEDED, *OPTIONAL, "charges"])
    numbers = [name for name in table if name not in ("step", "tokens", "charges")]
    table[numbers] = table[numbers].astype(float)
    seconds = table["seconds"].diff()  # not of the first row, whose time holds the preparation
    rate = table["tokens"].diff() / seconds.where(seconds > 0)
    return table.assign(tokens_per_second=table["tokens_per_second"].fillna(rate))

"""The positional profile of every head, in as many steps as the page can afford."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.report.payload.heads import head_index
from interp.report.payload.packing import pack
from interp.report.tables import require

NUMBERS = 90_000  # numbers the page can afford over all heads
FEWEST = 24  # steps shown however many heads there are


def positions_payload(positions: pd.DataFrame, head: dict[str, Any]) -> dict[str, Any]:
    """Return the profile's steps and three blocks [head, step]: mean bias score and the ends of its 95% interval.

    Long contexts are cut into steps that grow with the position, so that the first positions keep one each; a step has the
    mean of its positions weighted by their tokens, and the mean of their intervals, which is wider than its own.

    Args:
        positions: the result's table, one row per (layer, head, pos).
        head: what `heads_payload` returned.

    Raises:
        InterpError: a column is missing.
    """
    require(positions, ["layer", "head", "pos", "n_tokens", "bias_score_mean"], "positions")
    n_heads = len(head["layers"]) * len(head["heads"])
    places = np.unique(positions["pos"].to_numpy(int))
    starts = _starts(len(places), max(NUMBERS // (3 * n_heads), FEWEST))
    row, column = head_index(positions, head["layers"], head["heads"]), np.searchsorted(places, positions["pos"])
    weight = _block(positions["n_tokens"].to_numpy(float), row, column, (n_heads, len(places)))
    tokens = _summed(weight, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        blocks = {
            name: _summed(weight * _block(_values(positions, source), row, column, weight.shape), starts) / tokens
            for name, source in (("mean", "bias_score_mean"), ("low", "ci_low"), ("high", "ci_high"))
        }
    ends = np.append(starts[1:], len(places)) - 1
    return {
        "first": pack(places[starts], "i4"),
        "last": pack(places[ends], "i4"),
        "n_tokens": pack(np.nan_to_num(tokens[0]), "i4"),
        "values": {name: pack(block, "f2") for name, block in blocks.items()},
    }


def _starts(n_places: int, limit: int) -> np.ndarray:
    """Return where each step begins: every place, or at most `limit` steps that grow geometrically."""
    if n_places <= limit:
        return np.arange(n_places)
    return np.unique(np.geomspace(1, n_places + 1, limit + 1)[:-1].astype(int)) - 1


def _values(positions: pd.DataFrame, column: str) -> np.ndarray:
    return positions[column].to_numpy(float) if column in positions else np.full(len(positions), np.nan)


def _block(values: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    block = np.full(shape, np.nan)  # [head, place]
    block[row[row >= 0], column[row >= 0]] = values[row >= 0]
    return block


def _summed(block: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(block, starts, axis=1) if len(starts) else block

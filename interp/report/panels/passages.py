"""The sample passages and, for every head, what the bias does at each of their tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.report.metrics import require
from interp.report.panels.packing import codes, head_index, head_means, pack, texts

NUMBERS = 260_000  # numbers the page can afford over all heads

FEWEST = 10  # passages shown however many heads there are


def passages_payload(
    passages: pd.DataFrame, scores: pd.DataFrame, heads: pd.DataFrame, head: dict[str, Any]
) -> dict[str, Any]:
    """Return the passages' tokens and three blocks [head, token]: score minus the head's mean, attention, without bias.

    Args:
        passages: the result's table, one row per token.
        scores: the result's table, one row per (layer, head, passage, place).
        heads: the result's table, for each head's mean bias score.
        head: what `heads_payload` returned.

    Raises:
        InterpError: a column is missing.
    """
    schemes = {scheme["name"]: scheme["classes"] for scheme in head["schemes"]}
    require(passages, ["passage", "document", "place", "token_index", "token_string", *schemes], "passages")
    require(scores, ["layer", "head", "passage", "place", "bias_score", "attention", "attention_unbiased"],
            "passage_scores")  # fmt: skip
    n_heads = len(head["layers"]) * len(head["heads"])
    rows = _sample(passages, n_heads).sort_values(["passage", "place"], kind="stable")
    means = head_means(heads, head_index(heads, head["layers"], head["heads"]), n_heads)
    place = _places(rows, scores)
    index = np.where(place < 0, -1, head_index(scores, head["layers"], head["heads"]))
    contrast = scores["bias_score"].to_numpy(float) - np.where(index < 0, np.nan, means[index])
    blocks = {
        "contrast": contrast,
        "attention": scores["attention"].to_numpy(float),
        "attention_unbiased": scores["attention_unbiased"].to_numpy(float),
    }
    return {
        "total": len(set(passages["passage"])),
        "passage": pack(rows["passage"].to_numpy(), "i4"),
        "document": [_plain(name) for name in rows.drop_duplicates("passage")["document"]],
        "token_index": pack(rows["token_index"].to_numpy(), "i4"),
        "strings": texts(rows["token_string"]),
        "classes": {name: pack(codes(rows, name, known), "i2") for name, known in schemes.items()},
        "means": pack(means, "f4"),
        "values": {name: _block(values, index, place, (n_heads, len(rows))) for name, values in blocks.items()},
    }


def _sample(passages: pd.DataFrame, n_heads: int) -> pd.DataFrame:
    """Keep as many passages, evenly spaced, as the page can afford."""
    names = np.array(list(dict.fromkeys(passages["passage"])))
    affordable = int(NUMBERS / (3 * n_heads * max(len(passages), 1)) * len(names))
    keep = min(len(names), max(affordable, FEWEST))
    chosen = names[np.linspace(0, len(names) - 1, keep).round().astype(int)] if len(names) else names
    return passages.loc[passages["passage"].isin(chosen.tolist())]


def _places(rows: pd.DataFrame, scores: pd.DataFrame) -> np.ndarray:
    """Return the row of `rows` that each row of `scores` speaks of, -1 for a passage that was left out."""
    known, wanted = (pd.MultiIndex.from_arrays([table["passage"], table["place"]]) for table in (rows, scores))
    return known.get_indexer(wanted)


def _block(values: np.ndarray, index: np.ndarray, place: np.ndarray, shape: tuple[int, int]) -> dict[str, str]:
    block = np.full(shape, np.nan)  # [head, token]
    kept = index >= 0
    block[index[kept], place[kept]] = values[kept]
    return pack(block, "f2")


def _plain(name: object) -> int | str:
    return int(name) if isinstance(name, int | np.integer) else str(name)

"""The tokens table, cut to the ends of each head's ranking so that the page stays small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.report.metrics import require
from interp.report.panels.packing import codes, head_index, one_each, pack, texts

MINIMUM = 5  # a token must occur this often: the rarest tokens have the wildest means

ROWS = 16_000  # rows the page can afford over all heads


def tokens_payload(tokens: pd.DataFrame, head: dict[str, Any]) -> dict[str, Any]:
    """Return the most amplified and most suppressed tokens of every head, and how much was cut away.

    Args:
        tokens: the result's table, one row per (layer, head, token).
        head: what `heads_payload` returned.

    Raises:
        InterpError: a column is missing, or a token's count differs between heads.
    """
    schemes = {scheme["name"]: scheme["classes"] for scheme in head["schemes"]}
    values = ["bias_score_contrast", "ci_low", "ci_high"]
    require(tokens, ["layer", "head", "token_index", "token_string", "count", *schemes, *values], "tokens")
    minimum = MINIMUM if tokens["count"].to_numpy().max(initial=0) >= MINIMUM else 1
    each = int(np.clip(ROWS // (2 * len(head["layers"]) * len(head["heads"])), 20, 200))
    eligible = tokens.loc[(tokens["count"] >= minimum) & tokens["bias_score_contrast"].notna()]
    rows = _ends(eligible.assign(place=head_index(eligible, head["layers"], head["heads"])), each)
    counts = one_each(rows, "count", "token_index", "The count of a token")
    vocabulary = rows.drop_duplicates("token_index")
    return {
        "each": each,
        "minimum": minimum,
        "eligible": len(set(eligible["token_index"])),
        "total": len(set(tokens["token_index"])),
        "strings": texts(vocabulary["token_string"]),
        "token_index": pack(vocabulary["token_index"].to_numpy(), "i4"),
        "count": pack(np.array(list(counts.values())), "i4"),
        "classes": {name: pack(codes(vocabulary, name, known), "i2") for name, known in schemes.items()},
        "head": pack(rows["place"].to_numpy(), "i2"),
        "token": pack(codes(rows, "token_index", list(counts)), "i4"),
        **{column: pack(rows[column].to_numpy(), "f4") for column in values},
    }


def _ends(tokens: pd.DataFrame, each: int) -> pd.DataFrame:
    ordered = tokens.loc[tokens["place"] >= 0].sort_values(["place", "bias_score_contrast"], kind="stable")
    _, starts, sizes = np.unique(ordered["place"].to_numpy(), return_index=True, return_counts=True)
    rank, size = np.arange(len(ordered)) - np.repeat(starts, sizes), np.repeat(sizes, sizes)
    return ordered.loc[(rank < each) | (rank >= size - each)]

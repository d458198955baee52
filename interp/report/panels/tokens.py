"""Which tokens does a head move? The ends of each head's ranking, so that the page stays small."""

from typing import Any

import numpy as np
import pandas as pd

from interp.report.panels.packing import codes_of, columns, pack, readable
from interp.report.panels.panel import View, one_each

MINIMUM = 5  # a token must occur this often: the rarest tokens have the wildest means
ROWS = 16_000  # rows the page can afford over all heads
VALUES = {"bias_score_contrast": "f4", "ci_low": "f4", "ci_high": "f4"}


def payload(view: View) -> dict[str, Any] | None:
    """Return the most amplified and most suppressed tokens of every head, sorted by head, and how much was cut away.

    Raises:
        InterpError: a column is missing, or a token's count differs between heads.
    """
    needed = ["layer", "head", "token_index", "token_string", "count", *view.schemes, *VALUES]
    if (tokens := view.table("tokens", needed)) is None:
        return None
    minimum = MINIMUM if tokens["count"].to_numpy().max() >= MINIMUM else 1
    each = int(np.clip(ROWS // (2 * len(view.head_numbers)), 20, 200))
    eligible = tokens.loc[(tokens["count"] >= minimum) & tokens["bias_score_contrast"].notna()]
    rows = _ends(view.numbered(eligible), each)
    counts = one_each(rows, "count", "token_index", "The count of a token")
    vocabulary = rows.drop_duplicates("token_index")
    return {
        "each": each,
        "minimum": minimum,
        "eligible": eligible["token_index"].nunique(),
        "total": tokens["token_index"].nunique(),
        "strings": readable(vocabulary["token_string"]),
        "classes": columns(vocabulary, {}, view.schemes),
        **columns(vocabulary, {"token_index": "i4", "count": "i4"}),
        "head": pack(rows["head_number"].to_numpy(), "i2"),
        "token": pack(codes_of(rows, "token_index", list(counts.index)), "i4"),
        "values": columns(rows, VALUES),
    }


def _ends(tokens: pd.DataFrame, each: int) -> pd.DataFrame:
    ordered = tokens.loc[tokens["head_number"] >= 0].sort_values(["head_number", "bias_score_contrast"], kind="stable")
    heads = ordered.groupby("head_number")
    return ordered.loc[(heads.cumcount() < each) | (heads.cumcount(ascending=False) < each)]

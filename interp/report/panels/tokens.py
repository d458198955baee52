"""Which tokens does a head move, and which heads move a token? The ends of rankings, so that the page stays small."""

from typing import Any

import numpy as np
import pandas as pd

from interp.report.panels.packing import block, codes_of, columns, pack, readable
from interp.report.panels.panel import View, one_each

MINIMUM = 5  # a token must occur this often: the rarest tokens have the wildest means
ROWS = 16_000  # rows the page can afford over all heads
FOUND = 72_000  # numbers it can afford to say what every head does to the most frequent tokens
FOUND_WHOLE = 100_000  # and to say it of all of them, with intervals
VALUES = {"bias_score_contrast": "f2", "ci_low": "f2", "ci_high": "f2"}


def payload(view: View) -> dict[str, Any] | None:
    """Return the most amplified and most suppressed tokens of every head, sorted by head, and how much was cut away.

    `strings`, `classes`, `token_index` and `count` are of the tokens that occur in it, the most frequent first; the first
    of them are in `found`, a block [token, head] of what every head does to them, with intervals where there is room.

    Raises:
        InterpError: a column is missing, or a token's count differs between heads.
    """
    needed = ["layer", "head", "token_index", "token_string", "count", *view.schemes, *VALUES]
    if (tokens := view.table("tokens", needed)) is None:
        return None
    n_heads = len(view.head_numbers)
    minimum = MINIMUM if tokens["count"].to_numpy().max() >= MINIMUM else 1
    each = int(np.clip(ROWS // (2 * n_heads), 20, 200))
    eligible = view.numbered(tokens.loc[(tokens["count"] >= minimum) & tokens["bias_score_contrast"].notna()])
    rows = _ends(eligible, each)
    once = eligible.drop_duplicates("token_index").sort_values(["count", "token_index"], ascending=[False, True])
    whole = len(once) * n_heads * len(VALUES) <= FOUND_WHOLE
    frequent = once["token_index"].head(len(once) if whole else max(FOUND // n_heads, 50)).to_list()
    vocabulary = once.loc[once["token_index"].isin([*frequent, *rows["token_index"]])]
    found = eligible.loc[eligible["token_index"].isin(frequent)]
    one_each(rows, "count", "token_index", "The count of a token")
    kind = "i2" if len(vocabulary) < 1 << 15 else "i4"
    axes = {"token_index": frequent, "head_number": view.head_numbers}
    return {
        "each": each,
        "minimum": minimum,
        "eligible": len(once),
        "total": tokens["token_index"].nunique(),
        "strings": readable(vocabulary["token_string"]),
        "classes": columns(vocabulary, {}, view.schemes),
        **columns(vocabulary, {"token_index": "i4", "count": "i4"}),
        "rows": pack(np.bincount(rows["head_number"], minlength=n_heads), "i4"),
        "token": pack(codes_of(rows, "token_index", vocabulary["token_index"].to_list()), kind),
        "values": columns(rows, VALUES),
        "found": block(found, axes, VALUES if whole else ["bias_score_contrast"]),
    }


def _ends(tokens: pd.DataFrame, each: int) -> pd.DataFrame:
    ordered = tokens.loc[tokens["head_number"] >= 0].sort_values(["head_number", "bias_score_contrast"], kind="stable")
    heads = ordered.groupby("head_number")
    return ordered.loc[(heads.cumcount() < each) | (heads.cumcount(ascending=False) < each)]

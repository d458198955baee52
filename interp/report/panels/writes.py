"""What does a head write? What its b_Q points at, what it adds to the logits there, and what b_V adds: weights alone."""

from typing import Any

import numpy as np

from interp.report.metrics import require
from interp.report.panels.packing import block, codes_of, columns, pack, readable, spread
from interp.report.panels.panel import View

PARTS = ("b_Q", "OV", "b_V")
ENDS = ("top", "bottom")
ROWS = 9_000  # rows the page can afford over all heads


def payload(view: View) -> dict[str, Any] | None:
    """Return the lists of `Amplification.writes` as blocks [head, of, end, rank], as long as the page can afford.

    Raises:
        InterpError: a column is missing.
    """
    table = view.result.tables.get("writes")
    if table is None or table.empty:
        return None
    require(table, ["layer", "head", "of", "end", "rank", "token_index", "token_string", "count", "value"], "writes")
    each = min(
        max(ROWS // (len(view.head_numbers) * len(PARTS) * len(ENDS)), 3), int(table["rank"].to_numpy().max()) + 1
    )
    rows = view.numbered(table.loc[table["rank"] < each])
    once = rows.drop_duplicates("token_index")
    rows = rows.assign(token=codes_of(rows, "token_index", once["token_index"].to_list()))
    axes = {"head_number": view.head_numbers, "of": PARTS, "end": ENDS, "rank": range(each)}
    return {
        "strings": readable(once["token_string"]),
        **columns(once, {"token_index": "i4", "count": "i4"}),
        **block(rows, axes, ["value"]),
        "token": pack(np.nan_to_num(spread(rows, axes, "token"), nan=-1), "i2" if len(once) < 1 << 15 else "i4"),
    }

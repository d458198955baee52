"""What does a head write? What its b_Q points at, what it adds to the logits there, and what b_V adds: weights alone."""

from typing import Any

from interp.report.metrics import require
from interp.report.panels.packing import columns, readable
from interp.report.panels.panel import View

PARTS = ("b_Q", "OV", "b_V")
ENDS = ("top", "bottom")
ROWS = 9_000  # rows the page can afford over all heads


def payload(view: View) -> dict[str, Any] | None:
    """Return the lists of `Amplification.writes`, sorted by head, as long as the page can afford.

    Raises:
        InterpError: a column is missing.
    """
    table = view.result.tables.get("writes")
    if table is None or table.empty:
        return None
    require(table, ["layer", "head", "of", "end", "rank", "token_index", "token_string", "count", "value"], "writes")
    each = max(ROWS // (len(view.head_numbers) * len(PARTS) * len(ENDS)), 3)
    rows = view.numbered(table).query("head_number >= 0 and rank < @each")
    rows = rows.sort_values(["head_number", "of", "end", "rank"], kind="stable")
    once = rows.drop_duplicates("token_index")
    return {
        "strings": readable(once["token_string"]),
        **columns(once, {"token_index": "i4", "count": "i4"}),
        "rows": columns(
            rows, {"head_number": "i2", "rank": "i2", "value": "f2"},
            {"of": PARTS, "end": ENDS, "token_index": once["token_index"].to_list()},
        ),
    }  # fmt: skip

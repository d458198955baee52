"""A and B and their difference, per head and class, and per class over all heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.comparison import Comparison
from interp.report.figures.comparison import comparison_range
from interp.report.payload.heads import head_index
from interp.report.payload.packing import codes, pack, texts

VALUES = ("log2_amplification_a", "ci_low_a", "ci_high_a", "log2_amplification_b", "ci_low_b", "ci_high_b", "difference",
          "ci_low", "ci_high", "q")  # fmt: skip
STATISTICS = ("value_a", "value_b", "difference", "ci_low", "ci_high")


def comparison_payload(found: Comparison | None, head: dict[str, Any]) -> dict[str, Any] | None:
    """Return blocks [head, class] for every scheme both results have, and the table of classes in columns.

    Args:
        found: a comparison whose A is the page's result, or None.
        head: what `heads_payload` returned.
    """
    if found is None:
        return None
    names = [str(found.run[side]["model"]) for side in ("a", "b")]
    schemes = {scheme["name"]: scheme["classes"] for scheme in head["schemes"]}
    shared = [name for name in schemes if len(found.heads) and (found.heads["scheme"] == name).any()]
    return {
        "names": [f"{name} ({side})" if names[0] == names[1] else name for name, side in zip(names, "AB", strict=True)],
        "heads": {name: _heads(found.heads, name, schemes[name], head) for name in shared},
        "classes": {
            **{name: texts(found.classes[name]) for name in ("scheme", "token_class", "statistic", "interval_over")},
            "n_tokens": [int(n) for n in found.classes["n_tokens"]],
            **{name: pack(found.classes[name].to_numpy(float), "f4") for name in STATISTICS},
        },
    }


def _heads(table: pd.DataFrame, scheme: str, known: list[str], head: dict[str, Any]) -> dict[str, Any]:
    rows = table.loc[table["scheme"] == scheme]
    place, code = head_index(rows, head["layers"], head["heads"]), codes(rows, "token_class", known)
    kept = (place >= 0) & (code >= 0)
    block = np.full(
        (len(VALUES), len(head["layers"]) * len(head["heads"]), len(known)), np.nan
    )  # [column, head, class]
    block[:, place[kept], code[kept]] = rows[list(VALUES)].to_numpy(float)[kept].T
    values = {column: pack(values, "f2") for column, values in zip(VALUES, block, strict=True)}
    return {"range": comparison_range(rows), "values": values}

"""What a comparison of two amplification results found: tidy tables of paired differences, to disk and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from interp.analysis.saving import load_tables, save_tables

NO_CORRESPONDENCE = (
    "Heads of two trainings do not correspond: head L3H7 of one model has nothing to do with L3H7 of another that began "
    "from other random weights. Differences of single heads mean something for two readings of one training (other biases, "
    "another direction, a later step); else compare the distributions over heads."
)


@dataclass(frozen=True)
class Comparison:
    """Differences between two results A and B over the same documents; every difference is B - A.

    Both runs draw the same bootstrap weights for a document, so the differences of their replicates are paired: what the
    choice of documents does to both cancels, and the 95% intervals are those of the difference itself.

    Attributes:
        heads: one row per (layer, head, scheme, class): `n_tokens`, `n_documents`, `log2_amplification_a`, its interval
            `ci_low_a`, `ci_high_a`, the same three with `_b`, their `difference` in doublings with its paired interval over
            documents `ci_low, ci_high`, two-sided `p`, and `q`, p corrected over all heads and classes of the scheme.
            Empty for models of different numbers of layers or heads.
        classes: one row per (scheme, class, statistic), each over all heads of a model: `n_heads_a`, `n_heads_b`,
            `n_tokens`, `n_documents`, `statistic`, `value_a`, `value_b`, `difference`, `ci_low`, `ci_high`, and
            `interval_over`, what the interval is over (`interp.analysis.head_distributions` has the statistics).
        run: `a` and `b`, the runs compared, with everything in them; `shared`, what both have in common; `notes`, the
            sentences a reader must know, that heads do not correspond among them.
    """

    heads: pd.DataFrame
    classes: pd.DataFrame
    run: dict[str, Any]

    def save(self, folder: str | Path) -> list[Path]:
        """Write both tables as Parquet and CSV, and `run.json`; return the files written."""
        return save_tables(folder, {"heads": self.heads, "classes": self.classes}, self.run, csv=["heads", "classes"])

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read what `save` wrote.

        Raises:
            InterpError: a file is missing or unreadable.
        """
        tables, run = load_tables(folder, ("heads", "classes"), "Comparison.save")
        return cls(**tables, run=run)

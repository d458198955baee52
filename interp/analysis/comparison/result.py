"""What a comparison of two amplification results found: tidy tables of paired differences, to disk and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.findings import nearest_end, rankable
from interp.analysis.saving import load_tables, save_tables
from interp.provenance import Summarized, model_and_text, number

SURVIVES = 0.05  # q below which a head survives correction
SHIFTED = "root_mean_square_shifted"

NO_CORRESPONDENCE = (
    "Heads of two trainings do not correspond: head L3H7 of one model has nothing to do with L3H7 of another that began "
    "from other random weights. Differences of single heads mean something for two readings of one training (other biases, "
    "another direction, a later step); else compare the distributions over heads."
)


@dataclass(frozen=True, repr=False)
class Comparison(Summarized):
    """Differences between two results A and B over the same documents; every difference is B - A.

    Both runs draw the same bootstrap weights for a document, so the differences of their replicates are paired: what the
    choice of documents does to both cancels, and the 95% intervals are those of the difference itself.

    Attributes:
        heads: one row per (layer, head, scheme, class): `n_tokens`, `n_documents`, `log2_amplification_a`, its interval
            `ci_low_a`, `ci_high_a`, the same three with `_b`, their `difference` in doublings with its paired interval over
            documents `ci_low, ci_high`, two-sided `p`, and `q`, p corrected over all heads and classes of the scheme.
            Where both were split, `log2_amplification_position` and `log2_amplification_beyond` of both sides too, and the
            same five for what is beyond position: `beyond_difference`, `beyond_ci_low` ... `beyond_q`.
            Empty for models of different numbers of layers or heads.
        classes: one row per (scheme, class, statistic), each over all heads of a model: `n_heads_a`, `n_heads_b`,
            `n_tokens`, `n_documents`, `statistic`, `value_a`, `value_b`, `difference`, `ci_low`, `ci_high`, and
            `interval_over`, what the interval is over (`interp.analysis.comparison.paired` has the statistics). Those that
            end in "_beyond" are of the part of A that is beyond position; "root_mean_square_shifted", the control of
            "root_mean_square", is what labels give that are shifted along the documents and mean nothing, without interval.
        run: `a` and `b`, the runs compared, with everything in them; `shared`, what both have in common; `notes`, the
            sentences a reader must know, that heads do not correspond among them; `losses` of "a" and "b" where they were
            measured; `instead`, the command that reads both along one b_Q, where only one of them has one in force.
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

    def _summary(self) -> dict[str, str]:
        a, b = self.run["a"], self.run["b"]
        heads = "single ones are not compared: the models have other sizes"
        if len(self.heads):
            differ = int(np.sum(self.heads["q"].to_numpy() < SURVIVES))
            heads = f"{differ:,} of {len(self.heads):,} pairs of a head and a class differ (q < {SURVIVES})"
        return {
            "A": model_and_text(a)["model"], "B": model_and_text(b)["model"],
            "text": model_and_text({"corpus": a.get("corpus"), **self.run["shared"]})["text"],
            "answer": self.answer(), "heads": f"{heads}; heads of two trainings do not correspond",
            "next": ".classes, .heads, .run['notes'], .save(folder)",
        }  # fmt: skip

    def strongest(self, scheme: str) -> pd.DataFrame:
        """Return the classes by how surely their strength differs: by the end of the interval nearest to 0.

        Strength is the root mean square of A over heads, in doublings. Only classes with enough tokens, the first token of
        documents left out; `control_a` and `control_b` are what labels that mean nothing give, missing where not measured.
        """
        rows = self.classes.loc[self.classes["scheme"].astype(str) == scheme]
        own = rows.loc[(rows["statistic"] == "root_mean_square") & rankable(rows) & rows["difference"].notna()]
        control = rows.loc[rows["statistic"] == SHIFTED].set_index("token_class")[["value_a", "value_b"]]
        own[["control_a", "control_b"]] = control.reindex(own["token_class"]).to_numpy(float)
        nearest = nearest_end(own["ci_low"].to_numpy(float), own["ci_high"].to_numpy(float))
        order = np.lexsort((-own["difference"].abs().to_numpy(float), -np.nan_to_num(nearest, nan=-np.inf)))
        return own.iloc[order].reset_index(drop=True)

    def answer(self, scheme: str | None = None) -> str:
        """Return what differs over all heads of A and B, in one or two sentences, from the paired differences of classes.

        Args:
            scheme: of the classes; by default the first.
        """
        scheme = str(self.classes["scheme"].iloc[0]) if scheme is None else scheme
        (a, b), rows = names_of(self.run), self.strongest(scheme)
        if self.run.get("instead"):
            still, moved = (a, b) if not np.nan_to_num(self.classes["value_a"].to_numpy(float)).any() else (b, a)
            return (
                f"{still} has no b_Q in force, so its amplification is 0 everywhere, and every difference is only what the "
                f"b_Q of {moved} does. To compare the two, read both along it."
            )
        known = rows.loc[rows["ci_low"].notna()]
        if known.empty:
            return (
                f"Nothing can be said of differences between {a} and {b}: no class of {scheme} has enough tokens in enough "
                "documents for an interval. Measure more text."
            )
        more, less, n = int((known["ci_low"] > 0).sum()), int((known["ci_high"] < 0).sum()), len(known)
        if not more + less:
            return (
                f"Over all heads there is no evidence that the bias changes attention more in {a} or {b}: for all {n} "
                f"classes of {scheme} the interval of the difference holds 0."
            )
        unsure = f"; for {n - more - less} the interval holds 0" if n > more + less else ""
        row = known.to_dict("records")[0]
        return (
            f"Over all heads, the bias changes attention more in {b} than in {a} for {more} of {n} classes of {scheme}, "
            f"less for {less or 'none'}{unsure}. Clearest for {row['token_class']}: {row['value_a']:.2f} doublings in {a}, "
            f"{row['value_b']:.2f} in {b}, difference {with_interval(row, 2)}."
        )


def names_of(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return what sentences call A and B: the models, with the letter where both have one name."""
    a, b = (str(run[side]["model"]) for side in ("a", "b"))
    return (f"{a} (A)", f"{b} (B)") if a == b else (a, b)


def with_interval(row: Mapping[Any, Any], digits: int) -> str:
    """Return a difference and its interval, "+0.20 [+0.10, +0.30]"."""
    ends = [row["ci_low"], row["ci_high"]]
    known = all(end is not None and np.isfinite(end) for end in ends)
    told = f"[{', '.join(number(end, digits) for end in ends)}]" if known else "(no interval)"
    return f"{number(row['difference'], digits)} {told}"

"""What stands out, written from the data: the strongest heads and classes that can be told from no effect."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

import pandas as pd

from interp.report.metrics import AMPLIFICATION, SINK
from interp.report.tables import indistinct, null_band, rankable, rows_of_scheme
from interp.report.text import number

EACH = 5


@dataclass(frozen=True)
class Finding:
    """One sentence and the place on the page where it can be checked."""

    head: str
    verb: str
    token_class: str
    value: str
    n_tokens: str
    link: str


@dataclass(frozen=True)
class Findings:
    """The findings of one scheme, strongest first, with how many cells were looked at to find them."""

    scheme: str
    amplified: list[Finding]
    suppressed: list[Finding]
    looked_at: int
    excluding: int
    by_chance: int
    has_sink: bool
    has_null: bool


def findings(heads: pd.DataFrame, scheme: str) -> Findings:
    """Rank the cells of a scheme by the end of the 95% interval nearest to 0, at most one finding per head and sign.

    Ranking by that end rather than by the value keeps rare classes with wide intervals from winning. The attention sink,
    classes with fewer than 30 tokens, and what random directions do as well (`tables.indistinct`) are not ranked.
    """
    rows = rows_of_scheme(heads, scheme)
    seen = rows.loc[rankable(rows) & rows["log2_amplification"].notna()]
    sure = seen.loc[~indistinct(seen, AMPLIFICATION)]
    up = sure.loc[sure["ci_low"] > 0].sort_values("ci_low", ascending=False)
    down = sure.loc[sure["ci_high"] < 0].sort_values("ci_high")
    return Findings(
        scheme=scheme,
        amplified=_strongest(up, "amplifies"),
        suppressed=_strongest(down, "suppresses"),
        looked_at=len(seen),
        excluding=len(sure),
        by_chance=round(0.05 * len(seen)),
        has_sink=bool((rows["token_class"].astype(str) == SINK).any()),
        has_null=null_band(rows, AMPLIFICATION) is not None,
    )


def _strongest(rows: pd.DataFrame, verb: str) -> list[Finding]:
    rows = rows.drop_duplicates(["layer", "head"]).head(EACH)
    return [_finding(f"L{row['layer']}H{row['head']}", verb, row) for row in rows.to_dict(orient="records")]


def _finding(head: str, verb: str, row: dict) -> Finding:
    interval = f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"
    place = {"head": head, "class": row["token_class"], "scheme": row["scheme"], "metric": "log2_amplification"}
    return Finding(
        head=head,
        verb=verb,
        token_class=str(row["token_class"]),
        value=f"{number(row['log2_amplification'])} {interval}",
        n_tokens=f"{row['n_tokens']:,}",
        link=f"#{urlencode(place)}",
    )

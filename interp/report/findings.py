"""What stands out, written from the data: the strongest heads and classes that can be told from no effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from interp.analysis.findings import ALPHA, SINK, rankable
from interp.errors import InterpError
from interp.report.metrics import AMPLIFICATION, indistinct, number, rows_of_scheme

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
    """The findings of one scheme, strongest first, with how many cells were looked at to find them.

    `controlled`: whether shifted labels and the part beyond position were measured; without them these are the largest
    changes, and nothing is found of classes. `singled_out`: how many are beyond directions of equal spread too.
    """

    scheme: str
    amplified: list[Finding]
    suppressed: list[Finding]
    looked_at: int
    excluding: int
    has_sink: bool
    controlled: bool
    singled_out: int | None


def findings(heads: pd.DataFrame, scheme: str) -> Findings:
    """Rank the cells of a scheme by the end of the 95% interval nearest to 0, at most one finding per head and sign.

    Ranking by that end rather than by the value keeps rare classes with wide intervals from winning. Where the controls were
    measured a cell must be beyond position and beyond shifted labels (`interp.analysis.findings`). The attention sink,
    classes with few tokens, and what has no interval apart from 0 are not ranked.
    """
    rows = rows_of_scheme(heads, scheme)
    seen = rows.loc[rankable(rows) & rows["log2_amplification"].notna()]
    sure = seen.loc[~indistinct(seen, AMPLIFICATION)]
    controlled = {"beyond_ci_low", "beyond_ci_high", "beyond_shifted_q"} <= set(seen.columns)
    if controlled:
        apart = (sure["beyond_ci_low"] > 0) | (sure["beyond_ci_high"] < 0)
        sure = sure.loc[apart & (sure["beyond_shifted_q"] < ALPHA)]
    tested = [name for name in ("class_q", "class_beyond_q") if name in sure]
    up = sure.loc[sure["ci_low"] > 0].sort_values("ci_low", ascending=False)
    down = sure.loc[sure["ci_high"] < 0].sort_values("ci_high")
    return Findings(
        scheme=scheme,
        amplified=_strongest(up, "amplifies"),
        suppressed=_strongest(down, "suppresses"),
        looked_at=len(seen),
        excluding=len(sure),
        has_sink=bool((rows["token_class"].astype(str) == SINK).any()),
        controlled=controlled,
        singled_out=int((sure[tested] < ALPHA).any(axis=1).sum()) if tested else None,
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


NEEDED = ("model", "corpus", "n_tokens", "n_documents")

BIASES = {"mean": "its mean, as at evaluation", "sample": "one draw", "none": "switched off"}

DIRECTIONS = {"bias": "the unlearned b_Q", "effective": "b_Q plus the learned query bias of each head"}


def facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label, text) pairs for the head of the page, in the order in which a reader asks.

    Raises:
        InterpError: the run does not say model, corpus, n_tokens and n_documents.
    """
    if missing := [key for key in NEEDED if key not in run]:
        raise InterpError(f"The run record lacks {', '.join(missing)}; the page must say what it shows.")
    pairs = [
        ("model", _with(run["model"], _size(run))),
        ("corpus", _with(run["corpus"], run.get("split"))),
        (
            "read",
            f"{run['n_tokens']:,} tokens in {run['n_documents']:,} document{'' if run['n_documents'] == 1 else 's'}",
        ),
        ("token classes by", run.get("pipeline")),
        ("bias in force", BIASES.get(str(run.get("bias")), run.get("bias"))),
        ("direction", DIRECTIONS.get(str(run.get("direction")), run.get("direction"))),
        ("seed", run.get("seed")),
        ("made on", _date(run.get("date"))),
        ("took", f"{run['wall_seconds']:.0f} s" if run.get("wall_seconds") is not None else None),
    ]
    return [(label, str(text)) for label, text in pairs if text is not None]


def _with(name: Any, detail: str | None) -> str:
    return f"{name} ({detail})" if detail else str(name)


def _date(date: Any) -> str | None:
    """Return ``2026-03-01 14:05 UTC`` for an ISO date with seconds and offset, anything else as it is."""
    try:
        return f"{datetime.fromisoformat(str(date)).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return None if date is None else str(date)


def _size(run: Mapping[str, Any]) -> str | None:
    if run.get("n_layers") is None or run.get("n_heads") is None:
        return None
    return f"{run['n_layers']} layers × {run['n_heads']} heads"


@dataclass(frozen=True)
class Overview:
    """A layer x head table of texts such as ``PUNCT +0.41``, with its scheme and column names."""

    scheme: str
    heads: list[str]
    rows: list[tuple[str, list[str]]]


def overview(heads: pd.DataFrame, scheme: str) -> Overview:
    """Return, for every head, the class with the largest |A| that can be told from no effect, or a dash."""
    rows = rows_of_scheme(heads, scheme)
    sure = rows.loc[rankable(rows) & ~indistinct(rows, AMPLIFICATION)]
    strongest = _strongest_first(sure).drop_duplicates(["layer", "head"])
    texts = {
        (layer, head): f"{token_class} {number(value)}"
        for layer, head, token_class, value in strongest[
            ["layer", "head", "token_class", "log2_amplification"]
        ].itertuples(index=False)
    }
    columns = sorted(rows["head"].unique())
    return Overview(
        scheme=scheme,
        heads=[f"H{head}" for head in columns],
        rows=[
            (f"L{layer}", [texts.get((layer, head), "–") for head in columns])
            for layer in sorted(rows["layer"].unique())
        ],
    )


def first_head(heads: pd.DataFrame, scheme: str) -> str:
    """Return the label of the head with the largest |A| that can be told from no effect: the page opens there."""
    rows = rows_of_scheme(heads, scheme)
    sure = _strongest_first(rows.loc[rankable(rows) & ~indistinct(rows, AMPLIFICATION)])
    row = (sure if len(sure) else rows).iloc[0]
    return f"L{row['layer']}H{row['head']}"


def _strongest_first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[np.argsort(-np.abs(rows["log2_amplification"].to_numpy(float)), kind="stable")]

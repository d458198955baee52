"""What stands out, written from the data: the strongest heads and classes that can be told from no effect."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from interp.analysis.findings import SINK, answers, rankable, summary, why_none
from interp.analysis.result import Amplification
from interp.errors import InterpError
from interp.options import COMPONENT
from interp.report.metrics import AMPLIFICATION, indistinct, number, rows_of_scheme

EACH = 5


@dataclass(frozen=True)
class Finding:
    """One sentence and the place on the page where it can be checked.

    Attributes:
        value: A, with its 95% interval over documents.
        parts: what of it position alone gives, and what is beyond, with its interval; "" where A was not split.
        singled_out: whether the contrast is beyond directions of equal spread too.
    """

    head: str
    verb: str
    token_class: str
    value: str
    parts: str
    singled_out: bool
    n_tokens: str
    link: str

    @property
    def sentence(self) -> str:
        """What it says, as one line."""
        return f"{self.head} {self.verb} {self.token_class}: A = {self.value}, n = {self.n_tokens}"


@dataclass(frozen=True)
class Findings:
    """The findings of one scheme, strongest first, with how many cells were looked at to find them.

    Attributes:
        amplified, suppressed: at most `EACH`, one a head and sign; the largest changes where there is no finding.
        why_none: in one sentence, why nothing is found; "" where something is.
        looked_at: pairs of a head and a class that could be findings.
        found: how many are.
        singled_out: how many of these are beyond directions of equal spread too; None where that was not measured.
        sizes: how large A is over all pairs beside its control, as a sentence; "" without the control.
        has_sink: whether the scheme has the class of first tokens, which is not ranked.
    """

    scheme: str
    amplified: list[Finding]
    suppressed: list[Finding]
    why_none: str
    looked_at: int
    found: int
    singled_out: int | None
    sizes: str
    has_sink: bool


def findings(result: Amplification, heads: pd.DataFrame, scheme: str) -> Findings:
    """Return what a scheme's findings are (`interp.analysis.findings`), or the largest changes and why nothing is found.

    Args:
        result: what was measured.
        heads: its heads table with all evidence.
        scheme: of the classes.
    """
    rows = rows_of_scheme(heads, scheme)
    seen = rows.loc[rankable(rows) & rows["log2_amplification"].notna()]
    found = result.findings()
    found = found.loc[found["scheme"].astype(str) == scheme]
    why = (
        "" if len(found) else why_none(result) or f"No class of {scheme} is beyond position and beyond shifted labels."
    )
    shown = found if len(found) else seen.loc[~indistinct(seen, AMPLIFICATION)]
    by = "log2_amplification_beyond" if len(found) else "log2_amplification"
    low, high = ("beyond_ci_low", "beyond_ci_high") if len(found) else ("ci_low", "ci_high")
    tested = found["beyond_equal_spread"].notna().any()
    return Findings(
        scheme=scheme,
        amplified=_strongest(shown.loc[shown[by] > 0].sort_values(low, ascending=False), "amplifies"),
        suppressed=_strongest(shown.loc[shown[by] < 0].sort_values(high), "suppresses"),
        why_none=why,
        looked_at=len(seen),
        found=len(found),
        singled_out=int(found["beyond_equal_spread"].sum()) if tested else None,
        sizes=sizes(result, scheme),
        has_sink=bool((rows["token_class"].astype(str) == SINK).any()),
    )


def headlines(result: Amplification, most: int = 3) -> list[str]:
    """Return the first sentences of the page, as a terminal prints them: facts, answers, and the strongest findings.

    At most `most` findings, of the first scheme that has any; where none has, why.
    """
    known, heads = dict(facts(result.run)), result.heads
    told = [f"{known['model']} on {known['corpus']}, {known['read']}", *answers(result)]
    schemes = [findings(result, heads, str(scheme)) for scheme in dict.fromkeys(heads["scheme"])]
    found = next((each for each in schemes if each.found), schemes[0])
    if not found.found:
        return [*told, f"No finding: {found.why_none}"]
    strongest = [one.sentence for one in [*found.amplified, *found.suppressed][:most]]
    counted = (
        f"{found.found:,} of {found.looked_at:,} pairs of a head and a class ({found.scheme}) are findings, such as"
    )
    return [*told, counted, *(f"  {sentence}" for sentence in strongest)]


def _strongest(rows: pd.DataFrame, verb: str) -> list[Finding]:
    rows = rows.drop_duplicates(["layer", "head"]).head(EACH)
    return [_finding(f"L{row['layer']}H{row['head']}", verb, row) for row in rows.to_dict(orient="records")]


def _finding(head: str, verb: str, row: dict) -> Finding:
    place = {"head": head, "class": row["token_class"], "scheme": row["scheme"], "metric": "log2_amplification"}
    return Finding(
        head=head,
        verb=verb,
        token_class=str(row["token_class"]),
        value=f"{number(row['log2_amplification'])} {_interval(row, '')}",
        parts=f"position {number(row['log2_amplification_position'])}, beyond it "
        f"{number(row['log2_amplification_beyond'])} {_interval(row, 'beyond_')}"
        if "log2_amplification_beyond" in row
        else "",
        singled_out=row.get("beyond_equal_spread") is True,
        n_tokens=f"{row['n_tokens']:,}",
        link=f"#{urlencode(place)}",
    )


def _interval(row: dict, stem: str) -> str:
    low, high = (row.get(f"{stem}ci_{end}", np.nan) for end in ("low", "high"))
    return f"[{number(low)}, {number(high)}]" if low == low else "(no interval)"


def sizes(result: Amplification, scheme: str) -> str:
    """Return how large A, its parts and its control are over a scheme's pairs, as a sentence; "" without the control."""
    table = summary(result)
    [row] = table.loc[table["scheme"].astype(str) == scheme].to_dict("records")
    if not (row["rms_beyond"] == row["rms_beyond"] and row["rms_shifted"] == row["rms_shifted"]):
        return ""
    return (
        f"Over {row['pairs']:,} pairs A is {row['rms_amplification']:.2f} doublings (root mean square), by position alone "
        f"{row['rms_position']:.2f}, beyond position {row['rms_beyond']:.2f}; of labels shifted along the documents, which "
        f"mean nothing, {row['rms_shifted']:.2f}."
    )


NEEDED = ("model", "corpus", "n_tokens", "n_documents")
BIASES = {
    "mean": "its mean, as at evaluation",
    "sample": "one draw",
    "none": "switched off",
    "learned": "none but the learned ones",  # of another's model
}
DIRECTIONS = {
    "bias": "the unlearned b_Q",
    "effective": "the learned query bias of each head, and b_Q where there is one",
    "folded": "the query bias of each head, with the shift of the LayerNorm before it",
    "mean-query": "the mean query of each head",
}


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
        ("bias in force", _bias(run.get("bias"))),
        ("direction", DIRECTIONS.get(str(run.get("direction")), run.get("direction"))),
        ("seed", run.get("seed")),
        ("made on", _date(run.get("date"))),
        ("took", f"{run['wall_seconds']:.0f} s" if run.get("wall_seconds") is not None else None),
    ]
    return [(label, str(text)) for label, text in pairs if text is not None]


def _bias(source: Any) -> str | None:
    told = None if source is None else str(source).replace(COMPONENT, "the mean of its component ")
    return BIASES.get(str(told), told)


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

"""What stands out, written from the data: the strongest heads and classes that can be told from no effect."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from interp.analysis.findings import SINK, answers, rankable, reliance, summary, why_none
from interp.analysis.result import Amplification
from interp.errors import InterpError
from interp.options import COMPONENT
from interp.provenance import number
from interp.report.metrics import (
    Metric,
    indistinct,
    ranking_metric,
    rows_of_scheme,
    strength,
    strongest_first,
)

EACH = 5

WORDS = {
    "ADJ": "adjectives", "ADP": "prepositions", "ADV": "adverbs", "AUX": "auxiliary verbs", "CCONJ": "conjunctions (and)",
    "DET": "determiners", "INTJ": "interjections", "NOUN": "nouns", "NUM": "numbers", "PART": "particles",
    "PRON": "pronouns", "PROPN": "names", "PUNCT": "punctuation", "SCONJ": "conjunctions (if)", "SPACE": "blanks",
    "SYM": "symbols", "VERB": "verbs", "X": "other", "bos": "first token",
}  # fmt: skip
"""What readers call spaCy's universal parts of speech; its own words for these are a linguist's."""

TAGGED = ("pos", "tag", "dep", "ent")
"""Schemes whose classes are labels of spaCy."""


def plain_word(scheme: str, token_class: str) -> str:
    """Return a plain word for a class, "prepositions" for ADP; "" where its name is one, or nobody knows one."""
    if token_class == SINK or scheme == "pos":
        return WORDS.get(token_class, "")
    if scheme not in TAGGED:
        return ""
    from spacy.glossary import GLOSSARY  # late: spaCy takes a second to import

    return GLOSSARY.get(token_class.removeprefix("B-").removeprefix("I-"), "")


@dataclass(frozen=True)
class Finding:
    """One sentence and the place on the page where it can be checked.

    Attributes:
        word: a plain one for the class, "" where it has none.
        way: "up" where the class gets more attention with the bias, "down" where it gets less.
        times: how much of the attention without the bias: "2.1×".
        value: A, with its 95% interval over documents.
        parts: what of it position alone gives, and what is beyond, with its interval; "" where A was not split.
        q: of what is beyond position, against shifted labels; "" where it was not measured.
        singled_out: whether the contrast is beyond directions of equal spread too.
        place: what the page shows there.
    """

    head: str
    token_class: str
    word: str
    way: str
    times: str
    value: str
    parts: str
    q: str
    singled_out: bool
    n_tokens: str
    place: dict[str, str]

    @property
    def link(self) -> str:
        """The address of the place."""
        return f"#{urlencode(self.place)}"

    @property
    def sentence(self) -> str:
        """What it says, as one line."""
        word, q = f", {self.word}" if self.word else "", f"; {self.q}" if self.q else ""
        return f"{self.head} {self.token_class}{word}: {self.times} the attention, A = {self.value}{q}; n = {self.n_tokens}"


@dataclass(frozen=True)
class Findings:
    """The findings of one scheme, strongest first, with how many cells were looked at to find them.

    Attributes:
        strongest: at most `EACH`, one a head; the largest changes where there is no finding.
        why_none: in one sentence, why nothing is found; "" where something is.
        looked_at: pairs of a head and a class that could be findings.
        found: how many are.
        singled_out: how many of these are beyond directions of equal spread too; None where that was not measured.
        sizes: how large A is over all pairs beside its control, as a sentence; "" without the control.
        has_sink: whether the scheme has the class of first tokens, which is not ranked.
    """

    scheme: str
    strongest: list[Finding]
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
    tested = found["beyond_equal_spread"].notna().any()
    shown = (found if len(found) else _changed(seen)).drop_duplicates(["layer", "head"])
    return Findings(
        scheme=scheme,
        strongest=[_finding(row, ranking_metric(heads)) for row in shown.head(EACH).to_dict(orient="records")],
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
    told = [f"{known['model']} on {known['corpus']}, {known['read']}", reliance(result), *answers(result)]
    schemes = [findings(result, heads, str(scheme)) for scheme in dict.fromkeys(heads["scheme"])]
    found = next((each for each in schemes if each.found), schemes[0])
    if not found.found:
        return [*told, f"No finding: {found.why_none}"]
    strongest = [one.sentence for one in found.strongest[:most]]
    counted = (
        f"{found.found:,} of {found.looked_at:,} pairs of a head and a class ({found.scheme}) are findings, such as"
    )
    return [*told, counted, *(f"  {sentence}" for sentence in strongest)]


def _changed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are beyond their control with an interval that excludes no effect, strongest first."""
    metric = ranking_metric(rows)
    return strongest_first(rows.loc[~indistinct(rows, metric) & (strength(rows, metric) > 0)], metric)


def _finding(row: dict, metric: Metric) -> Finding:
    head, scheme, token_class = f"L{row['layer']}H{row['head']}", str(row["scheme"]), str(row["token_class"])
    ratio, q = 2.0 ** row["log2_amplification"], row.get("beyond_shifted_q", np.nan)
    return Finding(
        head=head,
        token_class=token_class,
        word=plain_word(scheme, token_class),
        way="up" if ratio > 1 else "down",
        times=f"{ratio:,.{2 if ratio < 2 else 1 if ratio < 10 else 0}f}×",
        value=f"{number(row['log2_amplification'])} {_interval(row, '')}",
        parts=f"{number(row['log2_amplification_position'])} by position, "
        f"{number(row['log2_amplification_beyond'])} {_interval(row, 'beyond_')} beyond it"
        if "log2_amplification_beyond" in row
        else "",
        q="" if q != q else "q < 0.001" if q < 0.001 else f"q = {q:.3f}",
        singled_out=row.get("beyond_equal_spread") is True,
        n_tokens=f"{row['n_tokens']:,}",
        place={"head": head, "class": token_class, "scheme": scheme, "metric": metric.name},
    )


def strongest_pair(result: Amplification, heads: pd.DataFrame) -> dict[str, Any]:
    """Return layer, head, scheme and token_class of the strongest finding of the first scheme that has one.

    Without findings, of the strongest pair of the first scheme; of its first row where no class has enough tokens.
    """
    found, schemes = result.findings(), list(dict.fromkeys(heads["scheme"].astype(str)))
    for scheme in schemes:
        if len(rows := found.loc[found["scheme"].astype(str) == scheme]):
            break
    else:
        rows = rows_of_scheme(heads, schemes[0])
        metric = ranking_metric(heads)
        known = rows.loc[rankable(rows) & rows[metric.name].notna()]
        rows = strongest_first(known, metric) if len(known) else rows
    row = rows.iloc[0]
    return {"layer": int(row["layer"]), "head": int(row["head"]), "scheme": str(row["scheme"]),
            "token_class": str(row["token_class"])}  # fmt: skip


def opening(result: Amplification, heads: pd.DataFrame) -> dict[str, str]:
    """Return where the page opens, as its addresses name it: the `strongest_pair`, in the metric that it is ranked by."""
    pair = strongest_pair(result, heads)
    return {"head": f"L{pair['layer']}H{pair['head']}", "class": pair["token_class"], "scheme": pair["scheme"],
            "metric": ranking_metric(heads).name}  # fmt: skip


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
    return _known(
        ("model", _with(run["model"], _size(run))),
        ("corpus", _with(run["corpus"], run.get("split"))),
        (
            "read",
            f"{run['n_tokens']:,} tokens in {run['n_documents']:,} document{'' if run['n_documents'] == 1 else 's'}",
        ),
        ("token classes by", run.get("pipeline")),
        ("bias in force", _bias(run.get("bias"))),
        ("direction", DIRECTIONS.get(str(run.get("direction")), run.get("direction"))),
    )


def how_made(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label, text) pairs of what only who makes it again asks."""
    versions = " · ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items())
    return _known(
        ("command", run.get("command")),
        ("seed", run.get("seed")),
        ("made on", _date(run.get("date"))),
        ("took", f"{run['wall_seconds']:.0f} s" if run.get("wall_seconds") is not None else None),
        ("versions", versions or None),
    )


def _known(*pairs: tuple[str, Any]) -> list[tuple[str, str]]:
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
    """Return, for every head, the strongest class that is beyond its control with its A, or a dash."""
    rows = rows_of_scheme(heads, scheme)
    strongest = _changed(rows.loc[rankable(rows)]).drop_duplicates(["layer", "head"])
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

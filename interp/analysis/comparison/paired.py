"""Two amplification results over the same documents, replicate by replicate: paired differences of heads and of classes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64
from scipy import stats

from interp.analysis.comparison.result import NO_CORRESPONDENCE, SHIFTED, SURVIVES, Comparison
from interp.analysis.findings import vector_of
from interp.analysis.measurements.shares import KEY, replicate_values
from interp.analysis.result import Amplification
from interp.analysis.significance import (
    corrected_within,
    interval_over_documents,
    p_over_documents,
    replicate_deviation,
)
from interp.errors import InterpError, few

SHARED = {
    "corpus_sha256": "corpus", "split": "split", "n_documents": "number of documents", "n_tokens": "number of tokens",
    "tokenizer_sha256": "tokenizer", "schemes": "schemes", "pipeline": "pipeline", "seed": "seed",
    "replicates": "number of replicates",
}  # fmt: skip
"""What two runs must share for a document to weigh the same in both, and how a message calls it."""


@dataclass(frozen=True)
class Pair:
    """Two results side by side, heads of all layers in one axis; classes and replicates are the same for both."""

    a: Float[np.ndarray, "head_a token_class"]
    b: Float[np.ndarray, "head_b token_class"]
    replicates_a: Float[np.ndarray, "head_a token_class replicate"]
    replicates_b: Float[np.ndarray, "head_b token_class replicate"]
    effective_documents: Float[np.ndarray, " token_class"]
    classes: pd.DataFrame  # scheme, token_class, n_tokens, n_documents


def paired(a: Amplification, b: Amplification, part: str = "") -> Pair:
    """Return two results as a pair, of A or of the `part` of it that is "_beyond" position.

    Raises:
        InterpError: they are not of the same documents, tokenizer, schemes, seed and replicates, or have no replicates.
    """
    _refuse_unpaired(a, b)
    classes = _classes(a.heads)
    return Pair(
        _values(a, classes, part), _values(b, classes, part),
        _replicates(a, classes, part), _replicates(b, classes, part),
        np.asarray(a.tables["replicates"]["effective_documents"], dtype=np.float64)[: len(classes)], classes,
    )  # fmt: skip


def _refuse_unpaired(a: Amplification, b: Amplification) -> None:
    differing = [name for name in SHARED if a.run.get(name) != b.run.get(name)]
    if differing:
        values = {name: f" ({a.run.get(name)} and {b.run.get(name)})" for name in differing}
        told = few([SHARED[name] + ("" if name.endswith("sha256") else values[name]) for name in differing])
        raise InterpError(
            f"The two results cannot be paired: they differ in {told}. Measure both on the same documents with the same "
            "settings, or give the two checkpoints to interp.compare, which does so."
        )
    for side, result in (("first", a), ("second", b)):
        replicates = result.tables.get("replicates", pd.DataFrame())
        if len(replicates) != len(result.heads) or len(replicates.columns) < 2 + len(KEY) + 1:
            raise InterpError(
                f"The {side} result has fewer than 2 bootstrap replicates to pair (an earlier version kept none); measure "
                "it again with interp.amplification."
            )
    if not _classes(a.heads).equals(_classes(b.heads)):
        raise InterpError("The two results label their tokens differently; measure both with the same schemes.")


def _classes(heads: pd.DataFrame) -> pd.DataFrame:
    """Return scheme, class and counts of every class, in their order in the table."""
    first = (heads["layer"] == heads["layer"].iloc[0]) & (heads["head"] == heads["head"].iloc[0])
    return heads.loc[first, ["scheme", "token_class", "n_tokens", "n_documents"]].reset_index(drop=True)


def _values(result: Amplification, classes: pd.DataFrame, part: str) -> Float[np.ndarray, "head token_class"]:
    return np.asarray(result.heads[f"log2_amplification{part}"], dtype=np.float64).reshape(-1, len(classes))


def _replicates(
    result: Amplification, classes: pd.DataFrame, part: str
) -> Float[np.ndarray, "head token_class replicate"]:
    values = replicate_values(result.tables[f"replicates{part}"])
    return values.reshape(-1, len(classes), values.shape[1])


QUANTILES = {
    "minimum": 0.0, "quantile_10": 0.1, "quantile_25": 0.25, "median": 0.5, "quantile_75": 0.75, "quantile_90": 0.9,
    "maximum": 1.0,
}  # fmt: skip

OVER_DOCUMENTS = "documents"
OVER_HEADS = "heads, as if independent"
OfShifts = Float64[np.ndarray, "_ token_class"]
OfHeads = Float[np.ndarray, "head replicate"]
OfOthers = Float[np.ndarray, "other_head replicate"]
PerReplicate = Float[np.ndarray, " replicate"]


def classes_table(
    a: pd.DataFrame, b: pd.DataFrame, pair: Pair, beyond: Pair | None = None, shifted: Sequence[OfShifts] = ()
) -> pd.DataFrame:
    """Return the table `classes` of `Comparison`; a and b are the tables `heads` of the two results."""
    rows = []
    for place, known in enumerate(pair.classes.to_dict("records")):
        parts = _over_documents(beyond, place, "_beyond") if beyond else ()
        controls = [*_shifted(shifted, place), *_surviving(a, b, len(pair.classes), place)]
        found = [*_over_documents(pair, place), *parts, *controls]
        rows += [{**known, **row} for row in found]
    columns = [
        "scheme", "token_class", "statistic", "n_heads_a", "n_heads_b", "n_tokens", "n_documents", "value_a", "value_b",
        "difference", "ci_low", "ci_high", "interval_over",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def distribution(values: OfHeads) -> dict[str, PerReplicate]:
    """Return the statistics of one model's heads in every replicate; missing where a head has no value."""
    missing = np.isnan(values).any(0)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "mean": values.mean(0),
        "mean_absolute": np.abs(values).mean(0),
        "root_mean_square": np.sqrt(np.square(values).mean(0)),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "share_amplifying": np.where(missing, np.nan, (values > 0).mean(0)),
    }


def stronger(values: OfHeads, others: OfOthers) -> PerReplicate:
    """Return P(|value of a head| > |that of one of the others|) in every replicate, ties counting half."""
    ranks = stats.rankdata(np.abs(np.concatenate([values, others])), axis=0, nan_policy="propagate")
    n = len(values)
    return (ranks[:n].sum(0) - n * (n + 1) / 2) / (n * len(others))


def _both(a: OfHeads, b: OfOthers) -> dict[str, tuple[PerReplicate, PerReplicate]]:
    of_a, of_b = distribution(a), distribution(b)
    superior = stronger(b, a)
    return {**{name: (of_a[name], of_b[name]) for name in of_a}, "stronger": (1 - superior, superior)}


def _over_documents(pair: Pair, place: int, part: str = "") -> Iterator[dict[str, Any]]:
    values = _both(pair.a[:, [place]], pair.b[:, [place]])
    replicates = _both(*(of[:, place].astype(np.float64) for of in (pair.replicates_a, pair.replicates_b)))
    for statistic, (a, b) in values.items():
        resampled = replicates[statistic]
        sd = replicate_deviation((resampled[1] - resampled[0])[None])
        low, high = interval_over_documents(b - a, sd, pair.effective_documents[[place]])
        yield {
            "statistic": f"{statistic}{part}", "n_heads_a": len(pair.a), "n_heads_b": len(pair.b), "value_a": a[0],
            "value_b": b[0], "difference": b[0] - a[0], "ci_low": low[0], "ci_high": high[0],
            "interval_over": OVER_DOCUMENTS,
        }  # fmt: skip


def _shifted(shifted: Sequence[OfShifts], place: int) -> Iterator[dict[str, Any]]:
    """Root mean square over heads and shifts of A under shifted labels, where both results have it."""
    if len(shifted) == 2:
        of_a, of_b = (float(np.sqrt(np.mean(each[:, place]))) for each in shifted)
        yield {
            "statistic": SHIFTED, "n_heads_a": len(shifted[0]), "n_heads_b": len(shifted[1]), "value_a": of_a,
            "value_b": of_b, "difference": of_b - of_a, "ci_low": np.nan, "ci_high": np.nan, "interval_over": "nothing",
        }  # fmt: skip


def _squares_of_shifts(result: Amplification, n_classes: int) -> OfShifts | None:
    """Mean square of A under shifted labels, of each head and class; None where it was not measured."""
    nulls = result.nulls
    rows = nulls.loc[(nulls["null"] == "shifted") & (nulls["statistic"] == "amplification")] if len(nulls) else nulls
    if len(rows) != len(result.heads):
        return None
    return np.square(rows[["null_mean", "null_sd"]].to_numpy(np.float64)).sum(1).reshape(-1, n_classes)


def _surviving(a: pd.DataFrame, b: pd.DataFrame, n_classes: int, place: int) -> Iterator[dict[str, Any]]:
    for column in [name for name in a if str(name).endswith("_q") and name in b]:
        q = [np.asarray(heads[column], dtype=np.float64)[place::n_classes] for heads in (a, b)]
        known = [values[~np.isnan(values)] for values in q]
        counts = [int((values < SURVIVES).sum()) for values in known]
        (n_a, n_b), (of_a, of_b) = map(len, known), counts
        low, high = newcombe(of_a, n_a, of_b, n_b)
        value_a, value_b = (k / n if n else np.nan for k, n in zip(counts, (n_a, n_b), strict=True))
        yield {
            "statistic": f"surviving_{str(column).removesuffix('_q')}", "n_heads_a": n_a, "n_heads_b": n_b,
            "value_a": value_a, "value_b": value_b, "difference": value_b - value_a, "ci_low": low, "ci_high": high,
            "interval_over": OVER_HEADS,
        }  # fmt: skip


def newcombe(of_a: int, n_a: int, of_b: int, n_b: int) -> tuple[float, float]:
    """Return the 95% interval of of_b / n_b - of_a / n_a from the Wilson intervals of both; missing where an n is 0.

    With Wilson's l and u of each proportion p, it reaches sqrt((p_b - l_b)^2 + (u_a - p_a)^2) below the difference and
    sqrt((u_b - p_b)^2 + (p_a - l_a)^2) above it (Newcombe, Statistics in Medicine 17, 1998, method 10).
    """
    if not (n_a and n_b):
        return np.nan, np.nan
    wilson_a, wilson_b = (stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in ((of_a, n_a), (of_b, n_b)))
    (p_a, low_a, high_a), (p_b, low_b, high_b) = (of_a / n_a, *wilson_a), (of_b / n_b, *wilson_b)
    difference = p_b - p_a
    return difference - np.hypot(p_b - low_b, high_a - p_a), difference + np.hypot(high_b - p_b, p_a - low_a)


ONE_TRAINING = (
    "Intervals are over documents: what other texts would show of these two models. Another training of either, from other "
    "random weights, would differ by more."
)


def compare_results(a: Amplification, b: Amplification) -> Comparison:
    """Return the paired differences B - A.

    In every replicate of the bootstrap a document weighs the same in both runs, so the standard deviation of the
    replicates' differences is that of the difference: what the choice of documents does to both alike is no part of it. The
    interval is made of it as for a single run (`interp.analysis.significance.interval_over_documents`).

    Raises:
        InterpError: as `paired`.
    """
    pair = paired(a, b)
    split = all("replicates_beyond" in side.tables for side in (a, b))
    beyond = paired(a, b, "_beyond") if split else None
    run = {"a": a.run, "b": b.run, "shared": {name: a.run.get(name) for name in SHARED}, "notes": _notes(a.run, b.run)}
    run["losses"] = {side: found for side, of in (("a", a), ("b", b)) if (found := _loss_of(of))}
    if command := _instead(a, b):
        run["instead"] = command
    shifted = [found for side in (a, b) if (found := _squares_of_shifts(side, len(pair.classes))) is not None]
    classes = classes_table(a.heads, b.heads, pair, beyond, shifted)
    return Comparison(_heads_table(a.heads, b.heads, pair, beyond), classes, run)


PARTS = ["log2_amplification_position", "log2_amplification_beyond", "beyond_ci_low", "beyond_ci_high"]


def _heads_table(a: pd.DataFrame, b: pd.DataFrame, pair: Pair, beyond: Pair | None) -> pd.DataFrame:
    columns = ["log2_amplification", "ci_low", "ci_high", *(PARTS if beyond else ())]
    frame = a.loc[:, [*KEY, "n_tokens", "n_documents"]]
    if not frame[["layer", "head"]].equals(b[["layer", "head"]]):
        frame, a, b = frame.iloc[:0], a.iloc[:0], b.iloc[:0]  # other sizes: no pair of heads has the same place
    for side, heads in (("a", a), ("b", b)):
        frame = frame.assign(**{f"{column}_{side}": heads[column] for column in columns})
    for each, stem in ((pair, ""), (beyond, "beyond_")):
        if each:
            numbers = differences(each) if len(frame) else dict.fromkeys(NUMBERS, np.empty(0))
            frame = frame.assign(**{f"{stem}{name}": value.ravel() for name, value in numbers.items()})
            frame[f"{stem}q"] = corrected_within(frame.assign(p=frame[f"{stem}p"]), ["scheme"])
    return frame


NUMBERS = ("difference", "ci_low", "ci_high", "p")


def differences(pair: Pair) -> dict[str, Float[np.ndarray, "head token_class"]]:
    """Return the difference of every head and class, its interval over documents and its p."""
    difference = pair.b - pair.a
    sd = replicate_deviation(pair.replicates_b.astype(np.float64) - pair.replicates_a)
    effective = pair.effective_documents[None]
    low, high = interval_over_documents(difference, sd, effective)
    return {"difference": difference, "ci_low": low, "ci_high": high, "p": p_over_documents(difference, sd, effective)}


def _instead(a: Amplification, b: Amplification) -> str:
    """The command that reads both along the b_Q of the one that has one in force; "" where none or both have."""
    still = [bool((side.heads["log2_amplification"].fillna(0) == 0).all()) for side in (a, b)]
    if still[0] == still[1] or any(side.run.get("direction", "bias") != "bias" for side in (a, b)):
        return ""
    names = [str(side.run.get("checkpoint", side.run["model"])) for side in (a, b)]
    return shlex.join(["python", "-m", "interp.amplify", *names, "--direction", names[still.index(False)]])


def _loss_of(result: Amplification) -> dict[str, Any]:
    """Return what running a model again says of its loss over all tokens, in nats; nothing where that was not done.

    `n_tokens`; `loss_unchanged`; its `difference` without the `vector`, with `ci_low, ci_high`, and without its `control`.
    """
    if (uses := result.uses) is not None and len(uses.loss):  # first, as of the two controls this one is the fair one
        rows = uses.loss.query("predicted_scheme == 'overall'")
        removed, control = (rows.loc[rows["keeps"] == kind] for kind in ("nothing", "control"))
        vector, kind = vector_of(uses.run), "without scores that spread as much along other directions"
    elif (made := result.interventions) is not None and len(made.loss) and made.run.get("part", "q") == "q":
        rows = made.loss.query("scheme == 'overall' and intervention == 'all' and scale == 0")
        removed, control = (rows.loc[rows["direction"] == kind] for kind in ("bias", "random"))
        vector, kind = vector_of(made.run), "a random change of the same size"
    else:
        return {}
    if removed.empty:
        return {}
    row = {name: float(removed[name].iloc[0]) for name in ("loss_unchanged", "difference", "ci_low", "ci_high")}
    row["control"] = float(control["difference"].mean()) if len(control) else np.nan
    known = {name: value if np.isfinite(value) else None for name, value in row.items()}  # JSON has no NaN
    return {"n_tokens": int(removed["n_tokens"].iloc[0]), "vector": vector, "control_kind": kind, **known}


def _notes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    notes = [NO_CORRESPONDENCE, ONE_TRAINING]
    if (a["n_layers"], a["n_heads"]) != (b["n_layers"], b["n_heads"]):
        notes.append(
            f"A has {a['n_layers']} layers of {a['n_heads']} heads, B {b['n_layers']} of {b['n_heads']}: single heads are "
            "not compared."
        )
    for name, what in (("direction", "direction"), ("bias", "biases in force"), ("n_ctx", "context length")):
        if a.get(name) != b.get(name):
            notes.append(f"The {what} is not the same: {a.get(name)} for A, {b.get(name)} for B.")
    for side, run in (("A", a), ("B", b)):
        notes += [f"{side}: {warning}" for warning in run.get("warnings", [])]
    return notes

"""The comparison of two amplification results: paired differences head by head, and as distributions over heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.analysis.comparison import NO_CORRESPONDENCE, Comparison
from interp.analysis.head_distributions import classes_table
from interp.analysis.pairing import SHARED, Pair, paired
from interp.analysis.replicates import KEY
from interp.analysis.result import Amplification
from interp.analysis.significance import (
    corrected_within,
    interval_over_documents,
    p_of_deviation,
    replicate_deviation,
)

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
        InterpError: as `interp.analysis.pairing.paired`.
    """
    pair = paired(a, b)
    run = {"a": a.run, "b": b.run, "shared": {name: a.run.get(name) for name in SHARED}, "notes": _notes(a.run, b.run)}
    return Comparison(_heads_table(a.heads, b.heads, pair), classes_table(a.heads, b.heads, pair), run)


def _heads_table(a: pd.DataFrame, b: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    columns = ["log2_amplification", "ci_low", "ci_high"]
    frame = a.loc[:, [*KEY, "n_tokens", "n_documents"]]
    if not frame[["layer", "head"]].equals(b[["layer", "head"]]):
        frame, a, b = frame.iloc[:0], a.iloc[:0], b.iloc[:0]  # other sizes: no pair of heads has the same place
    for side, heads in (("a", a), ("b", b)):
        frame = frame.assign(**{f"{column}_{side}": heads[column] for column in columns})
    numbers = _differences(pair) if len(frame) else dict.fromkeys(("difference", "ci_low", "ci_high", "p"), np.empty(0))
    frame = frame.assign(**{name: value.ravel() for name, value in numbers.items()})
    return frame.assign(q=corrected_within(frame, ["scheme"]))


def _differences(pair: Pair) -> dict[str, Float[np.ndarray, "head token_class"]]:
    difference = pair.b - pair.a
    sd = replicate_deviation(pair.replicates_b.astype(np.float64) - pair.replicates_a)
    effective = pair.effective_documents[None]
    low, high = interval_over_documents(difference, sd, effective)
    freedom = np.where(effective >= 2, effective - 1, np.nan)
    p = p_of_deviation(difference, np.zeros_like(difference), sd * np.sqrt(1 + 1 / freedom), freedom)
    return {"difference": difference, "ci_low": low, "ci_high": high, "p": p}


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

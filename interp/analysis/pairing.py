"""Pair two amplification results: the same documents, the same bootstrap weights, so replicates can be subtracted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.analysis.replicates import KEY, replicate_values
from interp.analysis.result import Amplification
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


def paired(a: Amplification, b: Amplification) -> Pair:
    """Return two results as a pair.

    Raises:
        InterpError: they are not of the same documents, tokenizer, schemes, seed and replicates, or have no replicates.
    """
    _refuse_unpaired(a, b)
    classes = _classes(a.heads)
    return Pair(
        _values(a, classes), _values(b, classes),
        _replicates(a, classes), _replicates(b, classes),
        np.asarray(a.replicates["effective_documents"], dtype=np.float64)[: len(classes)], classes,
    )  # fmt: skip


def _refuse_unpaired(a: Amplification, b: Amplification) -> None:
    differing = [name for name in SHARED if a.run.get(name) != b.run.get(name)]
    if differing:
        told = few([_told(name, a.run.get(name), b.run.get(name)) for name in differing])
        raise InterpError(
            f"The two results cannot be paired: they differ in {told}. Measure both on the same documents with the same "
            "settings, or give the two checkpoints to interp.compare, which does so."
        )
    for side, result in (("first", a), ("second", b)):
        if len(result.replicates) != len(result.heads) or len(result.replicates.columns) < 2 + len(KEY) + 1:
            raise InterpError(
                f"The {side} result has fewer than 2 bootstrap replicates to pair (an earlier version kept none); measure "
                "it again with interp.amplification."
            )
    if not _classes(a.heads).equals(_classes(b.heads)):
        raise InterpError("The two results label their tokens differently; measure both with the same schemes.")


def _told(name: str, a: Any, b: Any) -> str:
    return SHARED[name] if name.endswith("sha256") else f"{SHARED[name]} ({a} and {b})"


def _classes(heads: pd.DataFrame) -> pd.DataFrame:
    """Return scheme, class and counts of every class, in their order in the table."""
    first = (heads["layer"] == heads["layer"].iloc[0]) & (heads["head"] == heads["head"].iloc[0])
    return heads.loc[first, ["scheme", "token_class", "n_tokens", "n_documents"]].reset_index(drop=True)


def _values(result: Amplification, classes: pd.DataFrame) -> Float[np.ndarray, "head token_class"]:
    return np.asarray(result.heads["log2_amplification"], dtype=np.float64).reshape(-1, len(classes))


def _replicates(result: Amplification, classes: pd.DataFrame) -> Float[np.ndarray, "head token_class replicate"]:
    values = replicate_values(result.replicates)
    return values.reshape(-1, len(classes), values.shape[1])

"""Which classes are over-represented among the tokens a head's bias points at, or away from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.alignment import extreme_tokens
from interp.analysis.significance import Z95

COLUMNS = ("token_class", "n_chosen", "n_pool", "log2_odds", "ci_low", "ci_high")


def enrichment(
    chosen: Int64[np.ndarray, " chosen"],
    pool: Int64[np.ndarray, " pool"],
    classes: Int64[np.ndarray, " d_vocab"],
    names: Sequence[str],
) -> pd.DataFrame:
    """Return how much more often each class is met among the chosen tokens than among the rest of the pool.

    log2_odds = log2 of (a + 1/2)(d + 1/2) / ((b + 1/2)(c + 1/2)) with a chosen tokens in the class, b not in it, c and d
    the same for the rest of the pool (Haldane, 1956; Anscombe, 1956): finite whatever is 0. The 95% interval is -+ 1.96
    standard errors, sqrt(1/(a + 1/2) + 1/(b + 1/2) + 1/(c + 1/2) + 1/(d + 1/2)) in nats (Gart, 1966). Missing for a class
    that the pool does not hold, and where nothing or everything is chosen.

    Args:
        chosen: token indices, such as a head's most aligned.
        pool: token indices they were chosen from.
        classes: class of every token of the vocabulary; names[i] is the name of class i.
    """
    n_classes = len(names)
    a = np.bincount(classes[chosen], minlength=n_classes)
    pooled = np.bincount(classes[pool], minlength=n_classes)
    b, c = len(chosen) - a, pooled - a
    d = len(pool) - len(chosen) - c
    cells = np.stack([a, b, c, d]) + 0.5
    missing = (pooled == 0) | (len(chosen) == 0) | (len(chosen) == len(pool))
    odds = np.where(missing, np.nan, np.log2(cells[0] * cells[3] / (cells[1] * cells[2])))
    half = Z95 * np.sqrt((1 / cells).sum(0)) / np.log(2)
    return pd.DataFrame({
        "token_class": list(names), "n_chosen": a, "n_pool": pooled, "log2_odds": odds, "ci_low": odds - half,
        "ci_high": odds + half,
    })  # fmt: skip


def enrichment_table(
    alignment: Float[Tensor, "layer head_index d_vocab"],
    count: Int64[np.ndarray, " d_vocab"],
    classes: Int64[np.ndarray, " d_vocab"],
    names: Sequence[str],
    k: int = 50,
    min_count: int = 10,
) -> pd.DataFrame:
    """Return the enrichment of every class among the k most and least aligned tokens of every head.

    One row per (layer, head, end, class), with the columns of `enrichment`; the pool are the tokens seen at least
    `min_count` times. Token types count once, however frequent they are. Heads without a bias have no rows.

    Raises:
        InterpError: fewer than 2 k tokens are that frequent.
    """
    frames = []
    pool = np.flatnonzero(count >= min_count)
    for layer, head in np.ndindex(*alignment.shape[:2]):
        values = alignment[layer, head]
        if values.isnan().all():
            continue
        for end, chosen in zip(("top", "bottom"), extreme_tokens(values, count, k, min_count), strict=True):
            frames.append(enrichment(chosen, pool, classes, names).assign(layer=layer, head=head, end=end))
    columns = ["layer", "head", "end", *COLUMNS]
    return pd.concat(frames, ignore_index=True).loc[:, columns] if frames else pd.DataFrame(columns=columns)

"""Tables of the mean biases themselves: what b_Q points at, read from the weights, and what b_V writes.

The counts of a run say which tokens are frequent enough to be listed. `Amplification` describes the columns.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.significance import Z95
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer

EXTREMES = ("layer", "head", "end", "rank", "token_index", "token_string", "count")
PerToken = Float[Tensor, "layer head_index d_vocab"]
PerType = Int64[np.ndarray, " d_vocab"]


def extreme_tokens(
    alignment: Float[Tensor, " d_vocab"], count: PerType, k: int = 50, min_count: int = 10
) -> tuple[Int64[np.ndarray, " top"], Int64[np.ndarray, " bottom"]]:
    """Return the k most and the k least aligned tokens of one head among those seen at least `min_count` times.

    Most extreme first; ties by token index. `count` is how often each token occurs in a corpus.

    Raises:
        InterpError: fewer than 2 k tokens are that frequent.
    """
    values = alignment.detach().cpu().double().numpy()
    frequent = np.flatnonzero((count >= min_count) & ~np.isnan(values))
    if len(frequent) < 2 * k:
        raise InterpError(
            f"Only {len(frequent)} tokens occur at least {min_count} times, and {2 * k} are needed for a top and a bottom "
            f"of {k}; ask for fewer or for less frequent ones."
        )
    order = frequent[np.argsort(values[frequent], kind="stable")]
    return frequent[np.argsort(-values[frequent], kind="stable")][:k], order[:k]


def ends_of_heads(
    values: PerToken, count: PerType, k: int, min_count: int
) -> Iterator[tuple[int, int, str, Int64[np.ndarray, " k"]]]:
    """Yield layer, head, "top" or "bottom" and these `extreme_tokens` of every head that has values."""
    for layer, head in np.ndindex(*values.shape[:2]):
        own = values[layer, head]
        if not own.isnan().all():
            for end, tokens in zip(("top", "bottom"), extreme_tokens(own, count, k, min_count), strict=True):
                yield layer, head, end, tokens


COLUMNS = ("token_class", "n_chosen", "n_pool", "log2_odds", "ci_low", "ci_high")


def enrichment(
    chosen: Int64[np.ndarray, " chosen"], pool: Int64[np.ndarray, " pool"], classes: PerType, names: Sequence[str]
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
    alignment: PerToken, count: PerType, classes: PerType, names: Sequence[str], k: int = 50, min_count: int = 10
) -> pd.DataFrame:
    """Return the enrichment of every class among the k most and least aligned tokens of every head.

    One row per (layer, head, end, class), with the columns of `enrichment`; the pool are the tokens seen at least
    `min_count` times. Token types count once, however frequent they are. Heads without a bias have no rows.

    Raises:
        InterpError: fewer than 2 k tokens are that frequent.
    """
    pool = np.flatnonzero(count >= min_count)
    frames = [
        enrichment(chosen, pool, classes, names).assign(layer=layer, head=head, end=end)
        for layer, head, end, chosen in ends_of_heads(alignment, count, k, min_count)
    ]
    columns = ["layer", "head", "end", *COLUMNS]
    return pd.concat(frames, ignore_index=True).loc[:, columns] if frames else pd.DataFrame(columns=columns)


K, MIN_COUNT = 50, 10

HEAD = ["model", "layer", "head"]
STATIC_COLUMNS = {
    "static_tokens": [*HEAD, *EXTREMES[2:], "static_alignment", "alignment"],
    "static_positions": [*HEAD, "pos", "static_alignment"],
    "static_agreement": [*HEAD, "n_tokens", "pearson", "spearman"],
    "static_enrichment": [*HEAD, "scheme", "end", *COLUMNS],
}

VALUE_COLUMNS = {
    "value_tokens": [*HEAD, *EXTREMES[2:], "logit"],
    "value_components": [
        *HEAD, "scheme", "token_class", "n_tokens", "bias_norm", "component_mean", "component_sd", "component_contrast",
    ],
}  # fmt: skip


def token_counts(tokens: pd.DataFrame, d_vocab: int) -> PerType:
    """Return how often each token of the vocabulary occurs, from `Amplification.tokens`."""
    counts = _one_head(tokens).set_index("token_index")["count"]
    return counts.reindex(range(d_vocab), fill_value=0).to_numpy(np.int64)


def fitting_k(values: PerToken, count: PerType, k: int, min_count: int) -> int:
    """Return k, or less where a head has fewer than 2 k tokens with a value that occur `min_count` times; 0 for none."""
    known = ~values.isnan().flatten(0, 1)
    known = known[known.any(-1)]  # heads without a bias have no values at all
    frequent = known & torch.from_numpy(count >= min_count).to(known.device)
    return min([k, *(frequent.sum(-1) // 2).tolist()])


def _enrichment(
    alignment: PerToken, tokens: pd.DataFrame, count: PerType, schemes: Sequence[str], k: int, min_count: int
) -> pd.DataFrame:
    if not k:
        return pd.DataFrame()
    seen, frames = _one_head(tokens), []
    for scheme in schemes:
        usual = pd.Categorical(seen[scheme])
        classes = np.zeros_like(count)
        classes[seen["token_index"].to_numpy()] = usual.codes
        table = enrichment_table(alignment, count, classes, list(usual.categories), k, min_count)
        frames.append(table.assign(scheme=scheme))
    return pd.concat(frames, ignore_index=True)


def _one_head(tokens: pd.DataFrame) -> pd.DataFrame:
    """Tokens occur as often for every head."""
    first = tokens.iloc[0]
    return tokens.loc[(tokens["layer"] == first["layer"]) & (tokens["head"] == first["head"])]


def _named(
    model: HookedSymmetryBrokenTransformer, columns: dict[str, list[str]], found: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """The tables with exactly these columns, the model's name first; those that were not found are empty."""
    tables = {}
    for name, known in columns.items():
        table = found.get(name, pd.DataFrame())
        table = table.assign(model=model.cfg.model_name) if len(table) else pd.DataFrame(columns=known)
        tables[name] = table.loc[:, known].reset_index(drop=True)
    return tables

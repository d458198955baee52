"""One row per family: each metric with its interval and with what a model that knows nothing would score.

Completions: `top1`, `top5` (the share of items whose first token is the likeliest, or among the five likeliest), `exact`
(every token is the likeliest), `rank` (of the first token, the median), `first_token_loss`, `completion_loss` (mean over
the tokens of an answer). Comparisons: `accuracy` (the better continuation has the lower perplexity), `log_ratio` (log of
the perplexity of the worse over that of the better; its interval is over groups of mirror images), `ratio` (its
exponential, the geometric mean of the ratios). Losses and logarithms are in nats. For who does not read the prompt the
items of a group go against each other, and Wilson's interval of `accuracy`, which takes items for independent, is wider
than it need be.

Chance is the score of equal logits for the whole vocabulary, ties broken at random. `constant` is the highest top1 that one
answer to every item of the family would have: what can be had without reading the prompt.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from interp.evals.puzzles.intervals import Interval, grouped_mean, mean, median, share

METRICS: dict[str, Callable[..., Interval]] = {
    "top1": share, "top5": share, "exact": share, "rank": median, "first_token_loss": mean, "completion_loss": mean,
    "accuracy": share,
}  # fmt: skip


def families_table(items: pd.DataFrame, d_vocab: int) -> pd.DataFrame:
    """Return a row per family and kind of item, in the order of the items; metrics of the other kind are missing."""
    groups = items.groupby(["family", "kind"], sort=False)
    return pd.DataFrame(
        [
            {"family": family, "kind": kind, "n": len(own), **_constant(own, str(kind)), **_summaries(own, d_vocab)}
            for (family, kind), own in groups  # type: ignore[misc] # pandas types the key as a scalar
        ]
    )


def _constant(items: pd.DataFrame, kind: str) -> dict[str, float]:
    most = items["first_token"].value_counts().iloc[0] / len(items)
    return {"constant": float(most) if kind == "completion" else np.nan}


def _summaries(items: pd.DataFrame, d_vocab: int) -> dict[str, float]:
    chances, row = _chances(items, d_vocab), {}
    for name, summary in METRICS.items():
        values = items[name].to_numpy(float) if name in items else np.full(len(items), np.nan)
        found = (np.nan,) * 4 if np.isnan(values).any() else (*summary(values), chances[name])
        row.update(zip(_columns(name), found, strict=True))
    compared = items["kind"].iloc[0] == "comparison"
    ratio = (
        grouped_mean(items["log_ratio"].to_numpy(float), items["group"].to_numpy(float)) if compared else (np.nan,) * 3
    )
    row.update(zip(_columns("log_ratio"), (*ratio, 0.0 if compared else np.nan), strict=True))
    return row | {f"ratio{end}": float(np.exp(row[f"log_ratio{end}"])) for end in ("", "_low", "_high", "_chance")}


def _columns(metric: str) -> tuple[str, str, str, str]:
    return metric, f"{metric}_low", f"{metric}_high", f"{metric}_chance"


def _chances(items: pd.DataFrame, d_vocab: int) -> dict[str, float]:
    loss, exact = float(np.log(d_vocab)), float(d_vocab) ** -items["n_tokens"].to_numpy(float)
    return {
        "top1": 1 / d_vocab, "top5": min(5 / d_vocab, 1.0), "exact": float(exact.mean()), "rank": (d_vocab + 1) / 2,
        "first_token_loss": loss, "completion_loss": loss, "accuracy": 0.5,
    }  # fmt: skip

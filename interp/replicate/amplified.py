"""An amplification result in a few numbers, so that runs can be compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from interp.analysis.enrichment import enrichment_table
from interp.analysis.result import Amplification

MIN_TOKENS = 100  # of a class, for its amplification to count
MOST_ALIGNED = 50  # tokens of a head whose classes are counted
CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "function": ("function", ("function",)),
    "frequent": ("freq", ("freq 1 (most frequent)", *(f"freq {n}" for n in range(2, 6)))),
    "rare": ("freq", ("freq 9", "freq 10 (rarest)")),
    "number": ("function", ("number",)),
}
"""What is counted, as classes of a scheme. Frequent tokens are those that make up half of all text: one of them is one of
many types, where the most frequent tenth is no more than a few."""


def summary(result: Amplification) -> dict[str, float]:
    """Return what the heads of a run do, over all heads and the parts of speech with at least 100 tokens.

    - rms_amplification: root mean square of A, in doublings;
    - significant: share of the pairs of head and class whose contrast of bias scores random directions of the same length
      do not reach (q < 0.05);
    - spread: how far the classes' mean keys lie apart along the direction, as a ratio to random directions (their root
      mean square), in the median head; 1 is what any direction has;
    - amplification_CLASS: A of function words, of the most frequent half and of the rarest fifth of tokens, and of numbers,
      the mean over heads;
    - enrichment_CLASS: how over-represented the class is among the 50 token types that a head's direction points at most,
      as log2 of an odds ratio (`interp.analysis.enrichment`), in the median head.
    """
    heads = result.heads
    enough = (heads["scheme"] == "pos") & (heads["token_class"] != "bos") & (heads["n_tokens"] >= MIN_TOKENS)
    numbers = {"rms_amplification": np.sqrt(np.square(heads.loc[enough, "log2_amplification"]).mean())}
    for name, (scheme, classes) in CLASSES.items():
        own = heads.loc[(heads["scheme"] == scheme) & heads["token_class"].isin(classes)]
        shares = own.groupby(["layer", "head"])[["share", "share_unbiased"]].sum()
        numbers[f"amplification_{name}"] = np.log2(shares["share"] / shares["share_unbiased"]).mean()
    found = {**numbers, **_against_nulls(result.nulls), **_enrichments(result.tokens)}
    return {name: float(value) for name, value in found.items()}


def _against_nulls(nulls: pd.DataFrame) -> dict[str, float]:
    """Contrasts of bias scores beside those along random directions; missing where there was no null."""
    tested = nulls.query(
        "null == 'direction' and statistic == 'contrast' and scheme == 'pos' and token_class != 'bos' "
        f"and n_tokens >= {MIN_TOKENS}"
    )
    if not len(tested):
        return {"significant": float("nan"), "spread": float("nan")}
    value, null = (np.square(tested[name].to_numpy(float)) for name in ("value", "null_sd"))
    sums = pd.DataFrame({"layer": tested["layer"], "head": tested["head"], "value": value, "null": null})
    sums = sums.pivot_table(index=["layer", "head"], aggfunc="sum")
    ratios = np.sqrt(sums["value"].to_numpy() / sums["null"].to_numpy())
    return {"significant": float(np.mean(tested["q"].to_numpy() < 0.05)), "spread": float(np.median(ratios))}


def _enrichments(tokens: pd.DataFrame) -> dict[str, float]:
    """The median over heads of the log2 odds of each class among the most aligned tokens."""
    tokens = tokens.loc[tokens["function"] != "bos"]
    places = [tokens[name].to_numpy(np.int64) for name in ("layer", "head", "token_index")]
    alignment = np.full([place.max() + 1 for place in places], np.nan, dtype=np.float32)
    alignment[tuple(places)] = tokens["alignment"]
    types = tokens.loc[(tokens["layer"] == 0) & (tokens["head"] == 0)].set_index("token_index")
    count = types["count"].reindex(range(alignment.shape[-1]), fill_value=0).to_numpy(np.int64)
    k = min(MOST_ALIGNED, int((count >= 10).sum()) // 2)
    found = {}
    for name, (scheme, members) in CLASSES.items():
        classes = types[scheme].isin(members).reindex(range(len(count)), fill_value=False).to_numpy(np.int64)
        table = enrichment_table(torch.from_numpy(alignment), count, classes, ["other", name], k)
        top = (table["end"] == "top") & (table["token_class"] == name)
        found[f"enrichment_{name}"] = float(np.median(table.loc[top, "log2_odds"].to_numpy(float)))
    return found

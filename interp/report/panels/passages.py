"""Real text: the sample passages and, for every head, what the bias does at each of their tokens."""

from typing import Any

import numpy as np
import pandas as pd

from interp.report.panels.packing import block, columns, pack, readable
from interp.report.panels.panel import View

NUMBERS = 260_000  # numbers the page can afford over all heads
FEWEST = 10  # passages shown however many heads there are


def payload(view: View) -> dict[str, Any] | None:
    """Return the passages' tokens and a block [head, token]: score minus the head's mean, attention, without bias.

    Raises:
        InterpError: a column is missing.
    """
    known = ["passage", "document", "place", "token_index", "token_string", *view.schemes]
    measured = ["layer", "head", "passage", "place", "bias_score", "attention", "attention_unbiased"]
    passages, scores = view.table("passages", known), view.table("passage_scores", measured)
    if passages is None or scores is None:
        return None
    rows = _sample(passages, len(view.head_numbers)).sort_values(["passage", "place"], kind="stable")
    shown, scored = (pd.MultiIndex.from_arrays([table["passage"], table["place"]]) for table in (rows, scores))
    means, scores = _head_means(view), view.numbered(scores.assign(token=shown.get_indexer(scored)))
    scores["contrast"] = scores["bias_score"] - means.reindex(scores["head_number"]).to_numpy()
    axes = {"head_number": view.head_numbers, "token": range(len(rows))}
    return {
        "total": passages["passage"].nunique(),
        "document": [
            int(name) if isinstance(name, int | np.integer) else str(name)
            for name in rows.drop_duplicates("passage")["document"]
        ],
        "strings": readable(rows["token_string"]),
        "classes": columns(rows, {}, view.schemes),
        **columns(rows, {"passage": "i4", "token_index": "i4"}),
        "means": pack(means.to_numpy(), "f4"),
        **block(scores, axes, ("contrast", "attention", "attention_unbiased")),
    }


def _sample(passages: pd.DataFrame, n_heads: int) -> pd.DataFrame:
    """Keep as many passages, evenly spaced, as the page can afford."""
    names = passages["passage"].unique()
    affordable = int(NUMBERS / (3 * n_heads * len(passages)) * len(names))
    chosen = np.linspace(0, len(names) - 1, min(len(names), max(affordable, FEWEST))).round().astype(int)
    return passages.loc[passages["passage"].isin(names[chosen].tolist())]


def _head_means(view: View) -> pd.Series:
    """Return each head's mean bias score over all tokens, which every class gives as its mean minus its contrast."""
    heads = view.numbered(view.heads)
    means = (heads["bias_score_mean"] - heads["bias_score_contrast"]).groupby(heads["head_number"]).mean()
    return pd.Series(means).reindex(list(view.head_numbers))

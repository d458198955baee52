"""Real text: what heads score highest and lowest of a class, and sample passages with what the bias does at each token."""

from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.findings import FEW_TOKENS
from interp.report.metrics import require
from interp.report.panels.packing import block, columns, pack, readable
from interp.report.panels.panel import View

NUMBERS = 200_000  # numbers the page can afford over all heads
TOP_BYTES = 60_000  # for the passages that heads score highest and lowest: about 900 of them
LONGEST = 160  # letters of a passage on either side of its token
ENDS = ("top", "bottom")
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
    if "title" not in passages:  # of an earlier version
        passages = passages.assign(title="")
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
        "titles": [", ".join(dict.fromkeys(readable(own["title"]))) for _, own in rows.groupby("passage", sort=False)],
        "top": _top(view),
        "strings": readable(rows["token_string"]),
        "classes": columns(rows, {}, view.schemes),
        **columns(rows, {"passage": "i4", "token_index": "i4"}),
        "means": pack(means.to_numpy(), "f4"),
        **block(scores, axes, ("contrast", "attention", "attention_unbiased")),
    }


def _top(view: View) -> dict[str, Any] | None:
    """Return the passages where heads score tokens of a class highest and lowest, as many as the page can afford.

    The first of every pair of a head and a class come before the second of any; of these, those of pairs that change the
    attention most, rare classes last. A passage is in the page once, however many `rows` name its place in the list.
    """
    table = view.result.tables.get("top_passages")
    if table is None or table.empty:
        return None
    pair, text = (
        ["layer", "head", "scheme", "token_class"],
        ["document", "title", "pos", "before", "token_string", "after"],
    )
    require(table, [*pair, "end", "rank", "bias_score_contrast", *text], "top_passages")
    strength = view.heads.assign(
        rare=view.heads["n_tokens"] < FEW_TOKENS, strength=-view.heads["log2_amplification"].abs()
    )
    strings = ("scheme", "token_class", "title", "before", "token_string", "after")
    table = table.assign(**{name: readable(table[name]) for name in strings})
    table = table.assign(before=table["before"].str[-LONGEST:], after=table["after"].str[:LONGEST])
    rows = view.numbered(table).merge(strength[[*pair, "rare", "strength"]], on=pair)
    rows = rows.sort_values(["rank", "rare", "strength", *pair, "end"], kind="stable")
    passage = rows.groupby(["document", "pos", "token_index", "before", "after"], sort=False).ngroup()
    lengths = rows["before"].str.len() + rows["after"].str.len()
    size = np.where(passage.duplicated(), 0, lengths + 22) + 19  # bytes: a row, and a passage that is new
    rows = rows.assign(passage=passage).loc[size.cumsum() <= TOP_BYTES]
    once = rows.drop_duplicates("passage")
    shared = {name: list(dict.fromkeys(once[name])) for name in ("title", "token_string")}
    places = {(scheme, name): at for scheme, known in view.schemes.items() for at, name in enumerate(known)}
    known = [places[key] for key in zip(rows["scheme"], rows["token_class"], strict=True)]
    rows = rows.assign(place=known).sort_values(["head_number", "scheme", "place", "end", "rank"], kind="stable")
    return {
        "pairs": len(rows[pair].drop_duplicates()),
        "total": len(table[pair].drop_duplicates()),
        "shared": shared,
        **columns(once, {"document": "i4", "pos": "i4"}, shared, ["before", "after"]),
        "rows": columns(
            rows,
            {"head_number": "i2", "place": "i2", "passage": "i2", "rank": "i2", "bias_score_contrast": "f2"},
            {"scheme": list(view.schemes), "end": ENDS},
        ),
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

"""Tables of the mean biases themselves: what b_Q points at, read from the weights, and what b_V writes.

They put `interp.analysis.alignment`, `enrichment`, `value_bias` and `value_effect` together for one model and the tokens of
one run, whose counts say which tokens are frequent enough to be listed. `Amplification` describes the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.alignment import (
    EXTREMES,
    StaticAlignment,
    agreement,
    extremes_table,
    static_alignment,
    with_static_alignment,
)
from interp.analysis.direction import Direction, query_shifts
from interp.analysis.enrichment import COLUMNS, enrichment_table
from interp.analysis.value_bias import value_bias_logits
from interp.analysis.value_effect import measure_value_bias
from interp.data.contexts import TaggedDocument
from interp.data.schemes import Scheme
from interp.model.bias import BiasSource
from interp.model.transformer import HookedSymmetryBrokenTransformer

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
PerToken = Float[Tensor, "layer head_index d_vocab"]
Counts = Int64[np.ndarray, " d_vocab"]


def static_tables(
    model: HookedSymmetryBrokenTransformer,
    tokens: pd.DataFrame,
    schemes: Sequence[str],
    *,
    bias: BiasSource = "mean",
    direction: Direction = "bias",
    k: int = K,
    min_count: int = MIN_COUNT,
) -> dict[str, pd.DataFrame]:
    """Return the tables `static_tokens`, `static_positions`, `static_agreement` and `static_enrichment`.

    Args:
        model: its embeddings and key weights are read; no forward pass is run.
        tokens: `Amplification.tokens` of the model.
        schemes: columns of `tokens` whose classes are counted.
        bias: "none" leaves b_Q out of the direction; else its mean is taken, for "sample" too.
        direction: as in `interp.analysis.direction.query_shifts`.
        k: tokens at either end; fewer where the corpus holds less than 2 k tokens that are frequent enough.
        min_count: how often a token must occur to be listed.

    Raises:
        InterpError: as `query_shifts`, or a table of a model of other sizes.
    """
    with model.bias(bias=_mean_of(bias)):
        found = static_alignment(model, query_shifts(model, direction).vector)
    if found.tokens.isnan().all():  # no head has a direction
        return _named(model, STATIC_COLUMNS, {})
    count = token_counts(tokens, model.cfg.d_vocab)
    alignment = found.tokens.cpu()
    k = fitting_k(alignment, count, k, min_count)
    in_context = tokens.loc[:, ["layer", "head", "token_index", "count", "alignment"]]
    extremes = extremes_table(model, alignment, count, k, min_count, "static_alignment") if k else pd.DataFrame()
    beside = in_context.drop(columns="count")
    return _named(model, STATIC_COLUMNS, {
        "static_tokens": extremes.merge(beside, "left", ["layer", "head", "token_index"]) if k else extremes,
        "static_positions": _positions(found),
        "static_agreement": agreement(with_static_alignment(in_context, found), min_count),
        "static_enrichment": _enrichment(alignment, tokens, count, schemes, k, min_count),
    })  # fmt: skip


def value_tables(
    model: HookedSymmetryBrokenTransformer,
    tokens: pd.DataFrame,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    *,
    bias: BiasSource = "mean",
    k: int = K,
    min_count: int = MIN_COUNT,
    max_tokens: int | None = None,
    batch_size: int = 8,
) -> dict[str, pd.DataFrame]:
    """Return the tables `value_tokens` and `value_components`; without a mean value bias both are empty, and nothing runs.

    Args:
        model: run over the documents in evaluation mode, for the components and for the scale of the final norm.
        tokens: `Amplification.tokens` of the model, from which tokens are listed.
        documents: tagged with exactly these schemes; not read where there is no value bias.
        schemes: partitions of the tokens.
        bias: "none" leaves b_V out; else its mean is taken, for "sample" too.
        k, min_count: as in `static_tables`.
        max_tokens: stop before the document that would exceed it.
        batch_size: contexts per forward pass.

    Raises:
        InterpError: no document.
    """
    with model.bias(bias=_mean_of(bias)):
        if not model.biases_in_force()[1].any():
            return _named(model, VALUE_COLUMNS, {})
        measured = measure_value_bias(model, documents, schemes, max_tokens=max_tokens, batch_size=batch_size)
        silent = (model.biases_in_force()[1] == 0).all(-1, keepdim=True)
        logits = value_bias_logits(model, measured.inverse_scale).masked_fill(silent, torch.nan).cpu()
    count = token_counts(tokens, model.cfg.d_vocab)
    k = fitting_k(logits, count, k, min_count)
    listed = extremes_table(model, logits, count, k, min_count, "logit") if k else pd.DataFrame()
    return _named(model, VALUE_COLUMNS, {"value_tokens": listed, "value_components": measured.components})


def token_counts(tokens: pd.DataFrame, d_vocab: int) -> Counts:
    """Return how often each token of the vocabulary occurs, from `Amplification.tokens`."""
    seen = _one_head(tokens)
    count = np.zeros(d_vocab, dtype=np.int64)
    count[seen["token_index"].to_numpy()] = seen["count"]
    return count


def fitting_k(values: PerToken, count: Counts, k: int, min_count: int) -> int:
    """Return k, or less where a head has fewer than 2 k tokens with a value that occur `min_count` times; 0 for none."""
    known = ~values.isnan().flatten(0, 1)
    known = known[known.any(-1)]  # heads without a bias have no values at all
    frequent = known & torch.from_numpy(count >= min_count).to(known.device)
    return min([k, *(frequent.sum(-1) // 2).tolist()])


def _enrichment(
    alignment: PerToken, tokens: pd.DataFrame, count: Counts, schemes: Sequence[str], k: int, min_count: int
) -> pd.DataFrame:
    if not k:
        return pd.DataFrame()
    seen, frames = _one_head(tokens), []
    for scheme in schemes:
        usual = pd.Categorical(seen[scheme])
        classes = np.zeros(len(count), dtype=np.int64)
        classes[seen["token_index"].to_numpy()] = usual.codes
        names = list(usual.categories)
        frames.append(enrichment_table(alignment, count, classes, names, k, min_count).assign(scheme=scheme))
    return pd.concat(frames, ignore_index=True)


def _positions(found: StaticAlignment) -> pd.DataFrame:
    if found.positions is None:
        return pd.DataFrame()
    layer, head, pos = (axis.ravel() for axis in np.indices(found.positions.shape, dtype=np.int32))
    values = found.positions.detach().cpu().numpy().ravel()
    return pd.DataFrame({"layer": layer, "head": head, "pos": pos, "static_alignment": values}).dropna()


def _one_head(tokens: pd.DataFrame) -> pd.DataFrame:
    """Tokens occur as often for every head."""
    first = tokens.iloc[0]
    return tokens.loc[(tokens["layer"] == first["layer"]) & (tokens["head"] == first["head"])]


def _mean_of(bias: BiasSource) -> BiasSource:
    return "none" if bias == "none" else "mean"


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

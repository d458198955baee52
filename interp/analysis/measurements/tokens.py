"""The table `tokens`: bias scores of every token type that occurs, for every head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.batch import DocumentCounts, class_ranges
from interp.analysis.measurements.bias_scores import _numpy, _tiled, _token_values
from interp.model.transformer import HookedSymmetryBrokenTransformer


def tokens_table(
    model: HookedSymmetryBrokenTransformer, sums: Any, counts: DocumentCounts, names: dict[str, list[str]]
) -> pd.DataFrame:
    """Return the table `tokens` of `Amplification`: the tokens that occur, with their string and usual class."""
    seen = sums.tokens.count.nonzero().flatten()
    count = sums.tokens.count[seen]
    layers, heads, _ = sums.tokens.sum.shape
    n_heads, n_seen = layers * heads, len(seen)
    labels = {"token_string": pd.Categorical(model.to_str_tokens(seen))}
    for scheme, (first, last) in class_ranges(names).items():
        usual = counts.token_classes[_numpy(seen), first:last].argmax(-1)
        labels[scheme] = pd.Categorical.from_codes(usual, names[scheme])
    # a layer at a time and in narrow types, because every token stands here once for every head
    values = np.empty((5, layers, heads, n_seen), dtype=np.float32)
    for layer in range(layers):
        values[:4, layer] = _token_values(count, sums.tokens.sum[layer, :, seen], sums.tokens.squares[layer, :, seen])
        values[4, layer] = _numpy(sums.token_cosines.sum[layer, :, seen] / count)
    columns = zip(("bias_score_mean", "bias_score_contrast", "ci_low", "ci_high", "alignment"), values, strict=True)
    return pd.DataFrame(
        {
            "model": pd.Categorical.from_codes(np.zeros(n_heads * n_seen, dtype=np.int8), [model.cfg.model_name]),
            "layer": np.repeat(np.arange(layers, dtype=np.int32), heads * n_seen),
            "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), n_seen), layers),
            "token_index": np.tile(_numpy(seen).astype(np.int32), n_heads),
            "count": np.tile(_numpy(count).astype(np.int32), n_heads),
            **{name: _tiled(label, n_heads) for name, label in labels.items()},
            **{name: value.ravel() for name, value in columns},
        }
    )

"""The table `tokens`: bias scores of every token type that occurs, for every head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from interp.analysis.accumulators import TypeSums, variance
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.analysis.significance import Z95
from interp.errors import InterpError, nearest
from interp.spelling import token_strings


class Tokens(Measurement):
    """Moments of bias scores, and mean cosines, per head and token type.

    Memory: n_layers * n_heads * 24 bytes for each type that occurs (`TypeSums`), however large the vocabulary.
    """

    PARTS = ("sums",)

    def __init__(self, context: Context) -> None:
        self.sums = TypeSums([(3, context.heads)] * context.layers, device=context.device)

    def start(self, batch: Batch) -> None:
        """Count the tokens."""
        self.rows = self.sums.count_tokens(batch.tokens)

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add the keys of one layer."""
        scores = view.scores.double()
        values = torch.stack([scores, scores.square(), view.cosines.double()])
        self.sums.sums[view.layer].index_add_(0, self.rows, values.permute(2, 0, 1))

    def of_layer(self, layer: int) -> Float64[Tensor, "sum head_index type"]:
        """Return the sums of bias scores, of their squares and of cosines, for the types that occur, ascending."""
        return self.sums.read(layer).permute(1, 2, 0)

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the table `tokens` of `Amplification`: the tokens that occur, with their string and usual class."""
        context = found.context
        seen, count = self.sums.types()
        layers, heads, n_seen = context.layers, context.heads, len(seen)
        labels = {"token_string": pd.Categorical(token_strings(context.reader.tokenizer, seen.tolist()))}
        for scheme, (first, last) in context.classes.ranges.items():
            usual = as_numpy(found.counts.token_classes.read()[:, first:last]).argmax(-1)
            labels[scheme] = pd.Categorical.from_codes(usual, context.classes.names[scheme])
        # a layer at a time and in narrow types, because every token stands here once for every head
        values = np.empty((5, layers, heads, n_seen), dtype=np.float32)
        for layer in range(layers):
            total, squares, cosines = self.of_layer(layer)
            values[:4, layer] = _with_interval(count, total, squares)
            values[4, layer] = as_numpy(cosines / count)
        names = ("bias_score_mean", "bias_score_contrast", "ci_low", "ci_high", "alignment")
        n_heads = layers * heads
        return {"tokens": pd.DataFrame({
            "model": pd.Categorical.from_codes(np.zeros(n_heads * n_seen, dtype=np.int8), [context.reader.name]),
            "layer": np.repeat(np.arange(layers, dtype=np.int32), heads * n_seen),
            "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), n_seen), layers),
            "token_index": np.tile(as_numpy(seen).astype(np.int32), n_heads),
            "count": np.tile(as_numpy(count).astype(np.int32), n_heads),
            **{
                name: pd.Categorical.from_codes(np.tile(label.codes, n_heads), dtype=label.dtype)
                for name, label in labels.items()
            },
            **{name: value.ravel() for name, value in zip(names, values, strict=True)},
        })}  # fmt: skip


def find_token(tokens: pd.DataFrame, token: str | int) -> pd.DataFrame:
    """Return the rows of one token of a table `tokens`, the head that amplifies it most first; ties by layer and head.

    Raises:
        InterpError: the token does not occur.
    """
    column = "token_string" if isinstance(token, str) else "token_index"
    rows = tokens.loc[tokens[column] == token]
    if rows.empty:
        known = list(tokens[column].unique())
        spaced = [name for name in (f" {token}", str(token).strip()) if name in known]
        hint = f"; did you mean {spaced[0]!r}?" if spaced else nearest(str(token), map(str, known))
        raise InterpError(
            f"The token {token!r} does not occur in the text; {len(known):,} tokens do, with their spaces and case{hint}"
        )
    order = ["bias_score_contrast", "layer", "head", "token_index"]
    return rows.sort_values(order, ascending=[False, True, True, True]).reset_index(drop=True)


def _with_interval(count: Tensor, total: Tensor, squares: Tensor) -> np.ndarray:
    """Mean, contrast to the head's mean and the ends of its interval, [4, head_index, token], of one layer."""
    mean = total / count
    contrast = mean - total.sum(-1, keepdim=True) / count.sum()
    half = Z95 * (variance(count, total, squares) / count).sqrt()
    return np.stack([as_numpy(value) for value in (mean, contrast, contrast - half, contrast + half)])

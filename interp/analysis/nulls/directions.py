"""The direction null: the same statistics along random directions as long as the bias."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.analysis.accumulators import ScoreHistogram
from interp.analysis.direction import random_directions

PerHead = Float[Tensor, "layer head_index d_head"]

Keys = Float[Tensor, "token head_index d_head"]


class DirectionNull:
    """What is summed for the direction null, over R random directions u of every head.

    Contrast and alignment are linear in the direction: they need only each class's mean key and mean unit key, and their
    null is exact, as if R were infinite. The AUROC is not: every key is projected on all directions in one batched
    product per layer, and the projections are kept in histograms. Memory: n_layers * n_heads * n_classes * 4 * bins * R
    bytes, which does not grow with the corpus.
    """

    PARTS = ("keys", "unit_keys", "histogram")

    def __init__(self, vector: PerHead, directions: int, seed: int, n_classes: int, bins: int = 128) -> None:
        layers, heads, size = vector.shape
        self.vector, self.directions = vector, random_directions(vector, directions, seed)
        self.keys = torch.zeros(layers, n_classes, heads, size, dtype=torch.float64, device=vector.device)
        self.unit_keys = torch.zeros_like(self.keys)
        self.histogram = ScoreHistogram(layers, heads * directions, n_classes, vector.device, bins)

    def update(self, layer: int, keys: Keys, classes: Int64[Tensor, "scheme token"]) -> None:
        """Add one layer's keys; `classes` numbers the classes of all schemes through."""
        projections = torch.einsum("hrd,thd->hrt", self.directions[layer], keys).flatten(0, 1)
        self.histogram.update(layer, projections / keys.shape[-1] ** 0.5, classes)
        unit = torch.nn.functional.normalize(keys, dim=-1)
        for sums, values in ((self.keys, keys.double()), (self.unit_keys, unit.double())):
            for row in classes:
                sums[layer].index_add_(0, row, values)

    def merge(self, other: DirectionNull) -> None:
        """Add what another accumulator, of the same seed, saw."""
        self.keys += other.keys
        self.unit_keys += other.unit_keys
        self.histogram.merge(other.histogram)

    def mean_keys(
        self, count: Int64[Tensor, " token_class"], ranges: list[tuple[int, int]]
    ) -> Float64[Tensor, "layer head_index token_class d_head"]:
        """Return each class's mean key less the mean key of all tokens; its product with b_Q / sqrt(d_head) is Delta_c."""
        parts = []
        for first, last in ranges:
            overall = self.keys[:, first:last].sum(1, keepdim=True) / count[first:last].sum()
            parts.append(self.keys[:, first:last] / count[first:last, None, None] - overall)
        return torch.cat(parts, 1).transpose(1, 2)

    def mean_unit_keys(
        self, count: Int64[Tensor, " token_class"]
    ) -> Float64[Tensor, "layer head_index token_class d_head"]:
        """Return each class's mean of k / |k|; its product with b_Q / |b_Q| is the alignment."""
        return (self.unit_keys / count[:, None, None]).transpose(1, 2)

    def aurocs(self, ranges: list[tuple[int, int]]) -> Float64[np.ndarray, "direction layer head_index token_class"]:
        """Return the AUROC of every class along every direction."""
        found = np.concatenate([self.histogram.auroc(first, last)[0] for first, last in ranges], axis=-1)
        layers, heads, directions, _ = self.directions.shape
        return np.moveaxis(found.reshape(layers, heads, directions, -1), 2, 0)

"""The distribution of bias scores per class in a histogram that widens itself, and the AUROC read from it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


class ScoreHistogram:
    """Counts of bias scores per head and class in bins over [-R, R], R a power of two per head that grows as needed.

    When a score falls outside, R doubles and neighbouring bins are added up, so the result depends only on the largest
    score of the stream, not on its order or batches. Memory: n_layers * n_heads * n_classes * bins * 4 bytes.
    """

    PARTS = ("counts", "exponent")
    SMALLEST = -20  # R is at least 2 ** -20

    def __init__(
        self, n_layers: int, n_heads: int, n_classes: int, device: torch.device | str = "cpu", bins: int = 512
    ) -> None:
        self.bins = bins
        self.counts = torch.zeros(n_layers, n_heads, n_classes, bins, dtype=torch.int32, device=device)
        self.exponent = torch.full(
            (n_layers, n_heads), self.SMALLEST, dtype=torch.int64, device=device
        )  # R = 2 ** exponent

    def update(
        self, layer: int, scores: Float[Tensor, "head_index token"], classes: Int64[Tensor, "scheme token"]
    ) -> None:
        """Add one layer's scores; `classes` numbers the classes of all schemes through."""
        if scores.shape[1] == 0:
            return
        largest = scores.abs().amax(1).clamp(min=2.0**self.SMALLEST)
        needed = torch.log2(largest).floor().long() + 1
        if bool(self.counts[layer].any()):
            self._widen(layer, needed)
        else:
            self.exponent[layer] = needed
        limit = torch.exp2(self.exponent[layer].to(scores.dtype))[:, None]
        bins = ((scores / limit + 1) * (self.bins / 2)).long().clamp(0, self.bins - 1)  # [head_index, token]
        n_heads, n_classes, _ = self.counts[layer].shape
        first = torch.arange(n_heads, device=scores.device)[:, None] * n_classes
        flat = self.counts[layer].view(-1)
        for row in classes:
            index = ((first + row) * self.bins + bins).flatten()
            flat.scatter_add_(0, index, torch.ones_like(index, dtype=torch.int32))

    def merge(self, other: ScoreHistogram) -> None:
        """Add what another accumulator saw."""
        for layer in range(len(self.counts)):
            self._widen(layer, other.exponent[layer])
            other._widen(layer, self.exponent[layer])
        self.counts += other.counts

    def _widen(self, layer: int, exponent: Int64[Tensor, " head_index"]) -> None:
        while bool((grow := exponent > self.exponent[layer]).any()):
            counts = self.counts[layer, grow]  # [head_index, token_class, bin]
            pairs = counts.unflatten(-1, (-1, 2)).sum(-1, dtype=torch.int32)
            quarter = self.bins // 4
            self.counts[layer, grow] = torch.nn.functional.pad(pairs, (quarter, quarter))
            self.exponent[layer, grow] += 1

    def auroc(self, first: int, last: int) -> tuple[Float64[np.ndarray, ...], Float64[np.ndarray, ...]]:
        """Return AUROC_c of the classes first..last of one scheme, and a bound of its error, [layer, head_index, class].

        AUROC_c = P(score of a c token > score of another token), ties counting half. Two scores in one bin count as a tie,
        so the true value is within half the probability that a pair shares a bin.
        """
        layers = [_auroc(counts[:, first:last].cpu().numpy().astype(np.float64)) for counts in self.counts]
        return np.stack([found for found, _ in layers]), np.stack([bound for _, bound in layers])


def _auroc(counts: Float64[np.ndarray, "head_index token_class bin"]) -> tuple[np.ndarray, np.ndarray]:
    rest = counts.sum(1, keepdims=True) - counts
    pairs = counts.sum(-1) * rest.sum(-1)
    below = np.cumsum(rest, axis=-1) - rest
    same = (counts * rest).sum(-1)
    with np.errstate(invalid="ignore"):
        return ((counts * below).sum(-1) + same / 2) / pairs, same / 2 / pairs

"""Exact amplification under nulls: random directions in the place of the bias, permuted labels in that of the labels."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.analysis.batch import Batch
from interp.analysis.shares import class_shares

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


class NullShares:
    """Sums over all queries of the attention per class, with (0) and without the bias (1), in every draw of both nulls.

    Each draw costs what the amplification itself costs, the model's own forward pass aside.
    """

    PARTS = ("directions", "labels")

    def __init__(
        self, draws: int, n_layers: int, n_heads: int, n_classes: int, device: torch.device | str = "cpu"
    ) -> None:
        self.directions = torch.zeros(draws, n_layers, 2, n_heads, n_classes, dtype=torch.float64, device=device)
        self.labels = torch.zeros_like(self.directions)

    def update(
        self,
        layer: int,
        q: HeadVectors,
        k: HeadVectors,
        vector: Float[Tensor, "head_index d_head"],
        directions: Float[Tensor, "head_index direction d_head"],
        batch: Batch,
    ) -> None:
        """Add one layer; q is without the bias `vector`, and as many `directions` as there are draws are used."""
        for draw in range(len(self.labels)):
            along = class_shares(q, k, directions[:, draw], batch.one_hot)
            permuted = class_shares(q, k, vector, batch.permuted[draw])
            self.directions[draw, layer] += along[:, batch.mask].sum(1, dtype=torch.float64)
            self.labels[draw, layer] += permuted[:, batch.mask].sum(1, dtype=torch.float64)

    def merge(self, other: NullShares) -> None:
        """Add what another accumulator, of the same seed, saw."""
        self.directions += other.directions
        self.labels += other.labels


def log2_ratio(
    shares: Float64[Tensor, "draw layer 2 head_index token_class"],
) -> Float64[Tensor, "draw layer head_index token_class"]:
    """Return A_c = log2(M_c / M0_c) of every draw; missing (nan) for a class that received no attention."""
    return torch.log2(shares[:, :, 0] / shares[:, :, 1])

"""Poisson bootstrap over documents, streamed: sums of values, and the same sums with every document counted w times."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def poisson_weights(
    documents: Int64[Tensor, " document"], replicates: int, seed: int
) -> Float64[Tensor, "document replicate"]:
    """Return how often each replicate counts the documents with these running indices: w ~ Poisson(1).

    Keyed by (seed, running index), so they do not depend on batches or workers, and two runs on the same documents can be
    paired. Source: Hanley and MacGibbon, "Creating non-parametric bootstrap samples using Poisson frequencies", 2006.
    """
    rows = [np.random.default_rng([seed, d]).poisson(1.0, replicates) for d in documents.tolist()]
    return torch.from_numpy(np.array(rows, dtype=np.float64)).to(documents.device)


class BootstrapSums:
    """Sums in float64 of values of any shape: `total` [*shape] and, under the weights, `resampled` [replicate, *shape]."""

    def __init__(self, shape: tuple[int, ...], replicates: int, device: torch.device | str = "cpu") -> None:
        self.total = torch.zeros(shape, dtype=torch.float64, device=device)
        self.resampled = torch.zeros(replicates, *shape, dtype=torch.float64, device=device)

    def add(
        self,
        place: int | slice,
        per_document: Float64[Tensor, "document *part"],
        weights: Float64[Tensor, "document replicate"],
    ) -> None:
        """Add the documents' sums at one place of the first axis, or at several."""
        self.total[place] += per_document.sum(0)
        self.resampled[:, place] += torch.tensordot(weights.T, per_document, 1)

    def merge(self, other: BootstrapSums) -> None:
        """Add what another accumulator, of the same seed, saw of other documents."""
        self.total += other.total
        self.resampled += other.resampled

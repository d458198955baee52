"""The sums behind the table `heads`: attention shares, bias scores and cosines per head and class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.batch import Batch, Ranges
from interp.analysis.direction import QueryShifts
from interp.analysis.histogram import ScoreHistogram
from interp.analysis.moments import GroupedMoments
from interp.analysis.shares import ShareSums, class_shares
from interp.model.transformer import HookedSymmetryBrokenTransformer

HeadVectors = Float[Tensor, "batch pos head_index d_head"]
PerToken = Float[Tensor, "head_index token"]


class HeadSums:
    """Sums over the corpus; `start` a batch, `add` every layer of it, `merge` with another's. Memory does not grow."""

    PARTS = ("shares", "scores", "cosines", "histogram")

    def __init__(
        self, model: HookedSymmetryBrokenTransformer, shifts: QueryShifts, ranges: Ranges, replicates: int, seed: int
    ) -> None:
        cfg, device = model.cfg, model.W_E.device
        n_classes = max(last for _, last in ranges.values())
        self.model, self.shifts, self.ranges = model, shifts, ranges
        self.shares = ShareSums(cfg.n_layers, cfg.n_heads, n_classes, replicates, seed, device)
        self.scores = GroupedMoments(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.cosines = GroupedMoments(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.histogram = ScoreHistogram(cfg.n_layers, cfg.n_heads, n_classes, device)

    def merge(self, other: HeadSums) -> None:
        """Add what another accumulator saw of other documents."""
        for mine, others in zip(self._parts(), other._parts(), strict=True):
            mine.merge(others)

    def _parts(self) -> Iterator[Any]:
        for part in (getattr(self, name) for name in self.PARTS):
            yield from part if isinstance(part, list) else [] if part is None else [part]

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers."""
        for moments in (self.scores, self.cosines):
            for row in batch.classes:
                moments.count_groups(row)
        self.weights = self.shares.weights(batch.document_indices)

    def add(self, layer: int, q: HeadVectors, k: HeadVectors, batch: Batch) -> tuple[PerToken, PerToken]:
        """Add one layer, q without the unlearned bias, and return its bias scores and cosines."""
        shares = class_shares(q + self.shifts.without_bias[layer], k, self.shifts.vector[layer], batch.one_hot)
        self.shares.update(layer, shares[:, batch.mask], batch.documents, self.weights)
        scores, cosines = self._along(layer, k[batch.mask])
        for row in batch.classes:
            self.scores.update(layer, scores, row)
            self.cosines.update(layer, cosines, row)
        self.histogram.update(layer, scores, batch.classes)
        return scores, cosines

    def _along(self, layer: int, keys: Float[Tensor, "token head_index d_head"]) -> tuple[PerToken, PerToken]:
        vector = self.shifts.vector[layer]  # [head_index, d_head]
        products = (keys * vector).sum(-1).T  # [head_index, token]
        norms = keys.norm(dim=-1).T * vector.norm(dim=-1)[:, None]
        return products / self.model.cfg.attn_scale, products / norms.clamp(min=torch.finfo(norms.dtype).tiny)

"""All streaming sums of one amplification run, fed context by context; formulas stand with each accumulator."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.batch import Batch, Ranges
from interp.analysis.capture import visit_queries_and_keys
from interp.analysis.direction import QueryShifts
from interp.analysis.histogram import ScoreHistogram
from interp.analysis.moments import GroupedMoments, GroupedSums
from interp.analysis.nulls import NullSums
from interp.analysis.shares import ShareSums, class_shares
from interp.analysis.strata import StratifiedSums, strata_of
from interp.data.contexts import Contexts
from interp.model.transformer import HookedSymmetryBrokenTransformer

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


class AmplificationSums:
    """Everything that is summed over the corpus; `update` with contexts, `merge` with another's, then read the parts.

    Memory does not grow with the corpus. Sums are float64, so batches and workers change a result only by the float32
    rounding of the model's own activations.
    """

    def __init__(
        self,
        model: HookedSymmetryBrokenTransformer,
        shifts: QueryShifts,
        ranges: Ranges,
        replicates: int,
        seed: int,
        nulls: NullSums | None = None,
        deciles: Int64[np.ndarray, " token"] | None = None,
    ) -> None:
        cfg, device = model.cfg, model.W_E.device
        n_classes = max(last for _, last in ranges.values())
        self.model, self.shifts, self.ranges, self.nulls = model, shifts, ranges, nulls
        self.shares = ShareSums(cfg.n_layers, cfg.n_heads, n_classes, replicates, seed, device)
        self.scores = GroupedMoments(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.cosines = GroupedMoments(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.histogram = ScoreHistogram(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.tokens = GroupedMoments(cfg.n_layers, cfg.n_heads, cfg.d_vocab, device)
        self.token_cosines = GroupedSums(cfg.n_layers, cfg.n_heads, cfg.d_vocab, device)
        self.positions = GroupedMoments(cfg.n_layers, cfg.n_heads, cfg.n_ctx, device)
        strata = strata_of(cfg.n_ctx, cfg.d_vocab, deciles, device)
        self.strata = [StratifiedSums(each, cfg.n_layers, cfg.n_heads, n_classes, device) for each in strata]

    def merge(self, other: AmplificationSums) -> None:
        """Add what another accumulator saw of other documents."""
        for name in ("shares", "scores", "cosines", "histogram", "tokens", "token_cosines", "positions"):
            getattr(self, name).merge(getattr(other, name))
        for mine, others in zip(self.strata, other.strata, strict=True):
            mine.merge(others)
        if self.nulls and other.nulls:
            self.nulls.merge(other.nulls)

    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts and add it."""
        permutations = len(self.nulls.shares.labels) if self.nulls else 0
        batch = Batch(contexts, self.ranges, self.model.W_E.device, permutations)
        for moments in (self.scores, self.cosines):
            for row in batch.classes:
                moments.count_groups(row)
        for sums in (self.tokens, self.token_cosines):
            sums.count_groups(batch.tokens)
        self.positions.count_groups(batch.places)
        for part in (*self.strata, *([self.nulls] if self.nulls else [])):
            part.start(batch)
        weights = self.shares.weights(batch.document_indices)

        def visit(layer: int, q: HeadVectors, k: HeadVectors) -> None:
            without = q + self.shifts.without_bias[layer]
            shares = class_shares(without, k, self.shifts.vector[layer], batch.one_hot)
            self.shares.update(layer, shares[:, batch.mask], batch.documents, weights)
            scores = self._add_scores(layer, k, batch)
            if self.nulls:
                self.nulls.update(layer, without, k, scores, batch)

        visit_queries_and_keys(self.model, batch.contexts, visit)

    def _add_scores(self, layer: int, k: HeadVectors, batch: Batch) -> Float[Tensor, "head_index token"]:
        vector = self.shifts.vector[layer]  # [head_index, d_head]
        keys = k[batch.mask]  # [token, head_index, d_head]
        products = (keys * vector).sum(-1).T  # [head_index, token]
        scores = products / self.model.cfg.attn_scale
        norms = keys.norm(dim=-1).T * vector.norm(dim=-1)[:, None]
        cosines = products / norms.clamp(min=torch.finfo(norms.dtype).tiny)
        for row in batch.classes:
            self.scores.update(layer, scores, row)
            self.cosines.update(layer, cosines, row)
        self.histogram.update(layer, scores, batch.classes)
        self.tokens.update(layer, scores, batch.tokens)
        self.token_cosines.update(layer, cosines, batch.tokens)
        self.positions.update(layer, scores, batch.places)
        for strata in self.strata:
            strata.update(layer, scores)
        return scores

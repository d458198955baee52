"""All streaming sums of one amplification run, fed context by context; formulas stand with each accumulator."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.batch import Batch, Ranges
from interp.analysis.bias_samples import BiasSamples
from interp.analysis.capture import visit_queries_and_keys
from interp.analysis.direction import QueryShifts
from interp.analysis.head_sums import HeadSums
from interp.analysis.moments import GroupedMoments, GroupedSums
from interp.analysis.nulls import NullSums
from interp.analysis.strata import StratifiedSums, strata_of
from interp.data.contexts import Contexts
from interp.model.transformer import HookedSymmetryBrokenTransformer

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


class AmplificationSums(HeadSums):
    """Everything that is summed over the corpus; `update` with contexts, `merge` with another's, then read the parts.

    Memory does not grow with the corpus. Sums are float64, so batches and workers change a result only by the float32
    rounding of the model's own activations.
    """

    PARTS = (*HeadSums.PARTS, "tokens", "token_cosines", "positions", "strata", "nulls", "samples")

    def __init__(
        self,
        model: HookedSymmetryBrokenTransformer,
        shifts: QueryShifts,
        ranges: Ranges,
        replicates: int,
        seed: int,
        nulls: NullSums | None = None,
        deciles: Int64[np.ndarray, " token"] | None = None,
        samples: BiasSamples | None = None,
    ) -> None:
        super().__init__(model, shifts, ranges, replicates, seed)
        cfg, device = model.cfg, model.W_E.device
        n_classes = max(last for _, last in ranges.values())
        self.nulls, self.samples = nulls, samples
        self.tokens = GroupedMoments(cfg.n_layers, cfg.n_heads, cfg.d_vocab, device)
        self.token_cosines = GroupedSums(cfg.n_layers, cfg.n_heads, cfg.d_vocab, device)
        self.positions = GroupedMoments(cfg.n_layers, cfg.n_heads, cfg.n_ctx, device)
        strata = strata_of(cfg.n_ctx, cfg.d_vocab, deciles, device)
        self.strata = [StratifiedSums(each, cfg.n_layers, cfg.n_heads, n_classes, device) for each in strata]

    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts and add it."""
        permutations = len(self.nulls.shares.labels) if self.nulls else 0
        batch = Batch(contexts, self.ranges, self.model.W_E.device, permutations)
        self.start(batch)
        visit_queries_and_keys(self.model, batch.contexts, lambda layer, q, k: self._visit(layer, q, k, batch))
        if self.samples:
            self.samples.update(batch)

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers."""
        super().start(batch)
        for sums in (self.tokens, self.token_cosines):
            sums.count_groups(batch.tokens)
        self.positions.count_groups(batch.places)
        for part in (*self.strata, *([self.nulls] if self.nulls else [])):
            part.start(batch)

    def _visit(self, layer: int, q: HeadVectors, k: HeadVectors, batch: Batch) -> None:
        scores, cosines = self.add(layer, q, k, batch)
        self.tokens.update(layer, scores, batch.tokens)
        self.token_cosines.update(layer, cosines, batch.tokens)
        self.positions.update(layer, scores, batch.places)
        for strata in self.strata:
            strata.update(layer, scores)
        if self.nulls:
            self.nulls.update(layer, q + self.shifts.without_bias[layer], k, scores, batch)

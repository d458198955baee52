"""All streaming sums behind a set of interventions, fed context by context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.analysis.batch import Batch, Ranges
from interp.analysis.bootstrap import BootstrapSums, poisson_weights
from interp.analysis.interventions.predictions import QUANTITIES, compare_predictions
from interp.analysis.interventions.runs import HeadVectors, Runs, See, run_changed, run_unchanged
from interp.analysis.shares import attended
from interp.data.contexts import Contexts
from interp.model.transformer import HookedSymmetryBrokenTransformer


class InterventionSums:
    """Attention per class of keys and predictions per class of predicted tokens, for every run; `update`, `merge`.

    Sums are float64 and do not grow with the corpus: a run that begins at layer f holds replicates * (n_layers - f) *
    n_heads * n_classes * 8 bytes. A run that changes nothing is the unchanged run itself, so its changes are exactly 0.
    """

    def __init__(
        self,
        model: HookedSymmetryBrokenTransformer,
        runs: Runs,
        predicting: Sequence[int],
        ranges: Ranges,
        replicates: int,
        seed: int,
        stack: int,
    ) -> None:
        cfg, device = model.cfg, model.W_E.device
        self.n_classes = max(last for _, last in ranges.values())
        self.model, self.runs, self.ranges, self.stack = model, runs, ranges, stack
        self.predicting, self.replicates, self.seed = set(predicting), replicates, seed
        sizes = [cfg.n_layers - (0 if run == runs.unchanged else first) for run, first in enumerate(runs.first)]
        self.attention = [BootstrapSums((size, cfg.n_heads, self.n_classes), replicates, device) for size in sizes]
        shape = (len(runs.first), len(QUANTITIES), self.n_classes)
        self.predictions = BootstrapSums(shape, replicates, device)
        self.predicted = BootstrapSums((1, self.n_classes), replicates, device)

    def merge(self, other: InterventionSums) -> None:
        """Add what another accumulator saw of other documents."""
        for mine, others in zip(self.attention, other.attention, strict=True):
            mine.merge(others)
        self.predictions.merge(other.predictions)
        self.predicted.merge(other.predicted)

    @torch.no_grad()
    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts, unchanged and with every change, and add it."""
        batch = Batch(contexts, self.ranges, self.model.W_E.device)
        weights = poisson_weights(batch.document_indices, self.replicates, self.seed)
        unchanged = self.runs.unchanged
        streams = run_unchanged(self.model, batch.contexts, self._see([unchanged], 0, batch, weights))
        ones = torch.ones(1, 1, int((batch.places > 0).sum()), device=batch.tokens.device)
        self.predicted.add(0, self._per_document(ones, batch)[:, 0, 0], weights)
        self._predict([unchanged], streams[-1], streams[-1][None], batch, weights)
        for first, runs in self.runs.stacks(self.stack):
            see = self._see(runs, first, batch, weights)
            last = run_changed(self.model, streams[first], first, self.runs.changes[runs], see)
            self._predict(runs, streams[-1], last, batch, weights)

    def _see(
        self, runs: Sequence[int], first: int, batch: Batch, weights: Float64[Tensor, "document replicate"]
    ) -> See:
        def see(layer: int, q: HeadVectors, k: HeadVectors) -> None:
            values = batch.one_hot.repeat(len(runs), 1, 1)[:, :, None]  # [run * batch, pos, 1, token_class]
            shares = attended(q, k, values).unflatten(0, (len(runs), -1))[:, batch.mask]  # [run, token, head, class]
            per_document = torch.einsum("rthc,td->rdhc", shares.double(), batch.documents)
            for run, found in zip(runs, per_document, strict=True):
                self.attention[run].add(layer - first, found, weights)

        return see

    def _predict(
        self,
        runs: Sequence[int],
        unchanged: Float[Tensor, "batch pos d_model"],
        changed: Float[Tensor, "run batch pos d_model"],
        batch: Batch,
        weights: Float64[Tensor, "document replicate"],
    ) -> None:
        kept = [place for place, run in enumerate(runs) if run in self.predicting]
        if not kept:
            return
        found = compare_predictions(self.model, unchanged, changed[kept], batch.contexts)
        per_document = self._per_document(found[:, :, batch.mask[:, 1:]], batch)
        for place, run in enumerate(kept):
            self.predictions.add(runs[run], per_document[:, place], weights)

    def _per_document(
        self, values: Float[Tensor, "run quantity token"], batch: Batch
    ) -> Float64[Tensor, "document run quantity token_class"]:
        """Sum values of the predicted tokens, which are all but the first of each context, by document and class."""
        after_first, documents = batch.places > 0, len(batch.document_indices)
        sums = values.new_zeros((*values.shape[:2], documents * self.n_classes), dtype=torch.float64)
        for row in batch.classes[:, after_first]:
            sums.index_add_(2, batch.document_places[after_first] * self.n_classes + row, values.double())
        return sums.unflatten(2, (documents, self.n_classes)).movedim(2, 0)

"""The label null of contrasts: what permuting the labels within each document would give, without permuting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interp.analysis.attention import class_shares
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.nulls.table import Null, amplified, value_of
from interp.analysis.significance import p_of_deviation


class LabelNull(Measurement):
    """Mean and variance of each class's sum of bias scores over all permutations of the labels within documents.

    Let document d have n_d tokens after its first, n_dc of class c, and bias scores of mean m_d and variance s_d^2
    (divided by n_d - 1). Drawing which of them are c tokens without replacement, independently in each document, the sum
    over c tokens has (Cochran, "Sampling Techniques", 1977, theorems 2.1 and 2.2)

        mean = sum_d n_dc m_d,    variance = sum_d n_dc (n_d - n_dc) / n_d * s_d^2,

    which is what infinitely many permutations would show; for many tokens the sum is normal (Hoeffding, 1951). The first
    token of a document (bos) keeps its label and counts as `fixed`.

    A document may go on in the next batch, so the last one of a batch stays open until another begins. Memory does not grow
    with the corpus.
    """

    PARTS = ("fixed", "mean", "variance", "shares")

    def __init__(self, context: Context) -> None:
        (n_layers, n_heads, n_classes), device = context.per_class, context.device
        draws = context.settings.amplified_nulls
        self.shares = torch.zeros(draws, n_layers, 2, n_heads, n_classes, dtype=torch.float64, device=device)
        self.fixed = torch.zeros(n_layers, n_heads, n_classes, dtype=torch.float64, device=device)
        self.mean = torch.zeros_like(self.fixed)
        self.variance = torch.zeros_like(self.fixed)
        self.open_document = -1
        self.open_sums = torch.zeros(n_layers, 2, n_heads, dtype=torch.float64, device=device)  # of scores, squares
        self.counts = torch.zeros(1, n_classes, dtype=torch.float64, device=device)  # [document, token_class]
        self.sizes = torch.zeros(1, dtype=torch.float64, device=device)  # [document]

    @classmethod
    def wanted(cls, context: Context) -> LabelNull | None:
        """Return a fresh one unless nulls are left out."""
        return cls(context) if context.settings.nulls else None

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers, before `update`."""
        documents, places = batch.document_of, batch.document_places
        self.continues = bool(documents[0] == self.open_document)
        if not self.continues:
            self.close()
        before = torch.cat([documents.new_tensor([self.open_document]), documents[:-1]])
        self.first, self.free = documents != before, documents == before
        counts = _counts(batch, self.free, self.counts.shape[1])
        sizes = torch.bincount(places[self.free], minlength=len(batch.document_indices)).double()
        if self.continues:
            counts[places[0]] += self.counts[-1]
            sizes[places[0]] += self.sizes[-1]
        number = torch.arange(len(sizes), device=sizes.device)
        self.order = torch.cat([number[number != places[-1]], places[-1:]])  # the document that stays open comes last
        self.counts, self.sizes, self.open_document = counts[self.order], sizes[self.order], int(documents[-1])

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add one layer's bias scores; each permutation that is amplified costs what the amplification itself costs."""
        layer, values = view.layer, view.scores.double()
        powers = torch.stack([values, values.square()])[..., self.free]  # [2, head_index, token]
        sums = powers.new_zeros(2, len(values), len(self.sizes))
        sums.index_add_(2, batch.document_places[self.free], powers)
        if self.continues:
            sums[:, :, batch.document_places[0]] += self.open_sums[layer]
        sums = sums[:, :, self.order]
        self.open_sums[layer] = sums[..., -1]
        self._add(layer, sums[..., :-1], self.counts[:-1], self.sizes[:-1])
        for row in batch.classes:
            self.fixed[layer].index_add_(1, row[self.first], values[:, self.first])
        for draw in range(len(self.shares)):
            permuted = class_shares(view.q, view.k, view.vector, batch.permuted[draw])
            self.shares[draw, layer] += permuted[:, batch.mask].sum(1, dtype=torch.float64)

    def _add(
        self,
        layer: int,
        sums: Float64[Tensor, "2 head_index document"],
        counts: Float64[Tensor, "document token_class"],
        sizes: Float64[Tensor, " document"],
    ) -> None:
        means = sums[0] / sizes.clamp(min=1)
        spread = (sums[1] - sums[0] * means).clamp(min=0) / (sizes - 1).clamp(min=1)
        self.mean[layer] += means @ counts
        self.variance[layer] += (spread / sizes.clamp(min=1)) @ (counts * (sizes[:, None] - counts))

    def close(self) -> None:
        """Add the document that is still open; another one begins, or the corpus is over."""
        for layer in range(len(self.mean)):
            self._add(layer, self.open_sums[layer, :, :, None], self.counts[-1:], self.sizes[-1:])
        self.open_sums.zero_()
        self.counts, self.sizes, self.open_document = self.counts[-1:] * 0, self.sizes[-1:] * 0, -1

    def nulls(self, found: Found) -> Iterator[Null]:
        """Yield the null of the contrast (exact) and, where asked for, of A."""
        scores = found.of(BiasScores).scores
        mean = as_numpy((self.fixed + self.mean) / scores.count - scores.overall(found.context.classes.spans))
        sd = as_numpy(self.variance.sqrt() / scores.count)
        p = p_of_deviation(value_of(found.heads, "contrast", mean.shape), mean, sd)
        yield Null("label", "contrast", mean, sd, p, np.full_like(p, np.nan), 0)
        if len(self.shares):
            yield amplified("label", found.heads, self.shares)


def _counts(batch: Batch, free: Tensor, n_classes: int) -> Float64[Tensor, "document token_class"]:
    n_documents = len(batch.document_indices)
    index: Int64[Tensor, "scheme token"] = batch.document_places[free] * n_classes + batch.classes[:, free]
    return torch.bincount(index.flatten(), minlength=n_documents * n_classes).view(n_documents, n_classes).double()

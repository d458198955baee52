"""How much attention each class of keys receives, with and without the bias, and how sure that is."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.analysis.bootstrap import poisson_weights
from interp.analysis.significance import interval_over_documents, replicate_deviation

HeadVectors = Float[Tensor, "batch pos head_index d_head"]
HeadBiases = Float[Tensor, "head_index d_head"]
OneHot = Float[Tensor, "batch pos token_class"]


WIDEST = 50.0
"""Spread of bias scores in nats up to which float32 keeps every term of the reweighted sums."""


def class_shares(
    q: HeadVectors, k: HeadVectors, vector: HeadBiases, one_hot: OneHot
) -> Float[Tensor, "2 batch pos head_index token_class"]:
    """Return each query's share of attention per class, with the bias `vector` added to the queries (0) and without (1).

    Without it the share is sum_{j in c} p0_ij, p0 = softmax(q . k / sqrt(d)). With it, p_ij is proportional to
    p0_ij exp(beta_j), beta_j = vector . k_j / sqrt(d), so the share is

        sum_{j in c} p0_ij exp(beta_j) / sum_j p0_ij exp(beta_j).

    One pass of scaled_dot_product_attention, whose values are the classes' one-hot columns plain and weighted by
    exp(beta), gives both, and no pattern is ever held. Bias scores that spread over more than 50 nats, where float32
    would lose terms, take a pass for each of the two queries instead.

    Args:
        q, k: queries without the bias, and keys.
        vector: the bias.
        one_hot: the class of each key; with several schemes side by side, one 1 in each.
    """
    scores = (k * vector).sum(-1) / q.shape[-1] ** 0.5  # [batch, pos, head_index]
    largest = scores.amax(1, keepdim=True)
    if bool((largest - scores).amax() > WIDEST):
        return torch.stack([attended(query, k, one_hot[:, :, None]) for query in (q + vector, q)])
    plain = one_hot[:, :, None].to(q.dtype)  # [batch, pos, 1, token_class]
    weighted = plain * (scores - largest).exp()[..., None]  # [batch, pos, head_index, token_class]
    both = attended(q, k, torch.cat([weighted, plain.expand_as(weighted)], dim=-1)).unflatten(-1, (2, -1))
    shares = both.mul_(one_hot[0, 0].sum() / both.sum(-1, keepdim=True)).movedim(-2, 0)
    still = ~vector.any(-1)
    if bool(still.any()):
        shares[0, :, :, still] = shares[1, :, :, still]  # exactly equal without a bias
    return shares


def attended(
    q: HeadVectors, k: HeadVectors, values: Float[Tensor, "batch pos #head_index column"]
) -> Float[Tensor, "batch pos head_index column"]:
    """Return the causal attention's mean of any number of value columns, in pieces of d_head of them.

    The fused kernels want values as wide as the keys; narrower ones take a path many times slower.
    """
    n_heads, d_head, columns = q.shape[2], q.shape[3], values.shape[-1]
    wide = F.pad(values, (0, -columns % d_head)) if columns % d_head else values
    wide = wide.to(q.dtype).transpose(1, 2).expand(-1, n_heads, -1, -1)
    q, k = q.transpose(1, 2), k.transpose(1, 2)  # [batch, head_index, pos, d_head]
    pieces = [F.scaled_dot_product_attention(q, k, piece, is_causal=True) for piece in wide.split(d_head, dim=-1)]
    together = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
    return together[..., :columns].transpose(1, 2)


class ShareSums:
    """Sums of attention per class over all queries, and the same sums under Poisson-bootstrap weights of documents.

    M_c = sum over queries of their share of class c, with the bias in force (index 0) and without (index 1);
    A_c = log2(M_c / M0_c). In replicate r the queries of document d count w_dr ~ Poisson(1) times; the weights are keyed by
    (seed, d), so they do not depend on batches or workers. Memory: replicates * n_layers * 2 * n_heads * n_classes.
    """

    PARTS = ("total", "resampled")

    def __init__(
        self, n_layers: int, n_heads: int, n_classes: int, replicates: int, seed: int, device: torch.device | str
    ) -> None:
        self.seed, self.replicates = seed, replicates
        self.total = torch.zeros(n_layers, 2, n_heads, n_classes, dtype=torch.float64, device=device)
        self.resampled = torch.zeros(n_layers, replicates, 2, n_heads, n_classes, dtype=torch.float64, device=device)

    def weights(self, documents: Int64[Tensor, " document"]) -> Float64[Tensor, "document replicate"]:
        """Return the Poisson(1) weights of the documents with these running indices."""
        return poisson_weights(documents, self.replicates, self.seed)

    def update(
        self,
        layer: int,
        shares: Float[Tensor, "2 query head_index token_class"],
        documents: Float64[Tensor, "query document"],
        weights: Float64[Tensor, "document replicate"],
    ) -> None:
        """Add one layer's shares; `documents` is one-hot over the documents of the batch."""
        per_document = torch.einsum("sqhc,qd->dshc", shares.double(), documents)
        self.total[layer] += per_document.sum(0)
        self.resampled[layer] += torch.einsum("dr,dshc->rshc", weights, per_document)

    def merge(self, other: ShareSums) -> None:
        """Add what another accumulator, of the same seed, saw of other documents."""
        self.total += other.total
        self.resampled += other.resampled

    def amplification(self) -> Float64[Tensor, "layer head_index token_class"]:
        """Return A_c = log2(M_c / M0_c); missing (nan) for a class that received no attention."""
        return torch.log2(self.total[:, 0] / self.total[:, 1])

    def resampled_amplification(self) -> Float64[Tensor, "layer replicate head_index token_class"]:
        """Return A_c of every replicate; missing (nan) where a replicate drew no document of the class."""
        return torch.log2(self.resampled[:, :, 0] / self.resampled[:, :, 1])

    def interval(
        self, effective_documents: Float64[np.ndarray, " token_class"], level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the interval of A_c, each [layer, head_index, token_class] (`interval_over_documents`)."""
        spread = replicate_deviation(self.resampled_amplification().movedim(1, -1).cpu().numpy())
        return interval_over_documents(self.amplification().cpu().numpy(), spread, effective_documents, level)

"""What amplification is: each class's share of attention with and without the bias, from queries and keys alone.

For head (l, h), with s_ij = q_i . k_j / sqrt(d_head) and bias score beta_j = b_Q . k_j / sqrt(d_head), in nats:

- share of class c: M_c = mean_i sum_{j in c} softmax(s + beta)_ij over the causal context; M0_c the same with s alone;
- direct amplification: A_c = log2(M_c / M0_c), positive where the bias draws attention to the class. What reaches the
  layer is held fixed, so this is exact (arXiv 2601.22257 plants the bias; the definition is this package's).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

HeadVectors = Float[Tensor, "batch pos head_index d_head"]
HeadBiases = Float[Tensor, "head_index d_head"]
OneHot = Float[Tensor, "batch pos token_class"]
BLOCK = 128  # queries whose attention is held at a time
WIDEST = 50.0
"""Spread of bias scores in nats up to which float32 keeps every term of the reweighted sums."""


def received_by_document(
    q: HeadVectors,
    k: HeadVectors,
    scores: Float[Tensor, "reading batch pos head_index"],
    documents: Float[Tensor, "batch pos document"],
) -> Float[Tensor, "reading document head_index batch pos"]:
    """Return the attention that each key receives from all queries of each document, under several readings of the scores.

    A reading adds a number r_j to the score of key j, for every query alike: the bias scores themselves, nothing, or what
    position alone explains of them. With E_ij = exp(s_ij) over the causal context, s_ij = q_i . k_j / sqrt(d),

        p_ij = E_ij exp(r_j) / sum_j' E_ij' exp(r_j'),    received_dj = sum_{i in d} p_ij,

    so one exponential of the scores serves all readings: each adds a column to two thin products, and no pattern is held
    but a block of queries of it. Shares of classes, A and its parts, and A under any other labels are sums of these
    numbers over keys.

    Readings that spread over more than 50 nats, where float32 would lose terms, take an exponential each instead.

    Args:
        q, k: queries without the bias, and keys.
        scores: r_j of every reading, nats.
        documents: one-hot; all zeros for a query that counts for none, such as padding.
    """
    spread = scores.amax(2, keepdim=True) - scores
    if bool(spread.amax() > WIDEST):
        apart = [
            received_by_document(*with_scores(q, k, reading), reading.new_zeros(1, *reading.shape), documents)
            for reading in scores
        ]
        return torch.cat(apart)
    weights = spread.neg().exp().permute(1, 3, 0, 2).contiguous()  # [batch, head_index, reading, pos]
    queries, keys = q.transpose(1, 2) / q.shape[-1] ** 0.5, k.transpose(1, 2)  # [batch, head_index, pos, d_head]
    n_readings, (n_contexts, pos, n_documents) = len(scores), documents.shape
    found = weights.new_zeros(n_contexts, q.shape[2], n_readings, n_documents, pos)
    future = torch.full((BLOCK, BLOCK), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    for row in range(n_contexts):
        for start in range(0, pos, BLOCK):
            end = min(start + BLOCK, pos)
            here = documents[row, start:end].T  # [document, query]
            of = here.any(1).nonzero().flatten()
            block = queries[row, :, start:end] @ keys[row, :, :end].transpose(-1, -2)  # [head_index, query, key]
            block[:, :, start:] += future[: end - start, : end - start]
            block = block.softmax(-1)  # any multiple of E_ij will do
            sums = (
                weights[row, :, :, :end] @ block.mT
            )  # [head_index, reading, query]: so thin, this way round is faster
            counted = here[of] / sums[:, :, None]  # [head_index, reading, document, query]
            columns = counted.flatten(1, 2) @ block
            found[row, :, :, of, :end] += columns.unflatten(1, (n_readings, len(of)))
    found *= weights[:, :, :, None]
    return found.permute(2, 3, 1, 0, 4)


def with_scores(
    q: HeadVectors, k: HeadVectors, scores: Float[Tensor, "batch pos head_index"]
) -> tuple[Float[Tensor, "batch pos head_index longer"], Float[Tensor, "batch pos head_index longer"]]:
    """Return queries and keys of one more dimension, whose scores are q . k / sqrt(d) + r_j."""
    size = q.shape[-1]
    longer = torch.cat([q * (1 + 1 / size) ** 0.5, q.new_full((*q.shape[:-1], 1), (size + 1) ** 0.5)], -1)
    return longer, torch.cat([k, scores[..., None].to(k)], -1)


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


def causal_pattern(
    q: HeadVectors, k: HeadVectors, queries: slice = slice(None)
) -> Float[Tensor, "batch head_index query key_pos"]:
    """Return the causal attention of some queries, by default of all, to the keys up to the last of them."""
    first, last, _ = queries.indices(q.shape[1])
    q, k = q[:, first:last].transpose(1, 2), k[:, :last].transpose(1, 2)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.full((last - first, last - first), -torch.inf, dtype=scores.dtype, device=q.device).triu(1)
    scores[..., first:] += future
    return scores.softmax(-1)


def received_attention(q: HeadVectors, k: HeadVectors) -> Float[Tensor, "batch head_index key_pos"]:
    """Return the mean attention each key receives from the queries that can see it (itself and later ones)."""
    pattern = causal_pattern(q, k)
    return pattern.sum(2) / torch.arange(pattern.shape[-1], 0, -1, device=q.device)


def log2_ratio(
    shares: Float64[Tensor, "*draws layer reading head_index token_class"], to: int = 0, start: int = 1
) -> Float64[Tensor, "*draws layer head_index token_class"]:
    """Return log2 of the sums of shares in reading `to` over those in `start`: by default A_c = log2(M_c / M0_c).

    Missing (nan) for a class that received no attention.
    """
    return torch.log2(shares.select(-3, to) / shares.select(-3, start))

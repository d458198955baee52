"""Static alignment: which tokens and positions a head's bias points at, from the weights alone.

The key of an embedding e, without the layer's norm and without what context adds, is e W_K; its alignment is
cos(e W_K, b_Q), as in the authors' release (arXiv 2601.22257). No forward pass is run. The contextual alignment, the mean
cosine of a token's keys in real text, comes from `Amplification.tokens`; `agreement` correlates the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from interp.analysis.direction import Direction, PerHead, query_shifts
from interp.analysis.measurement import as_numpy
from interp.analysis.measurements.top_tokens import (
    EXTREMES,
    MIN_COUNT,
    STATIC_COLUMNS,
    K,
    PerToken,
    PerType,
    _enrichment,
    _named,
    ends_of_heads,
    fitting_k,
    token_counts,
)
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.norm import Norm
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.spelling import token_strings

ROWS = 4096  # whose keys are held


@dataclass(frozen=True)
class StaticAlignment:
    """Cosines of every head's mean bias with the keys of all token and position embeddings.

    Attributes:
        tokens: cos(W_E[token] W_K, b_Q); nan for a head without a bias.
        positions: cos(W_pos[pos] W_K, b_Q); None with RoPE, which has no position embeddings.
    """

    tokens: Float[Tensor, "layer head_index d_vocab"]
    positions: Float[Tensor, "layer head_index n_ctx"] | None


@torch.no_grad()
def static_alignment(model: HookedSymmetryBrokenTransformer, direction: Direction = "bias") -> StaticAlignment:
    """Return the static alignment of every head with the whole vocabulary and all positions.

    The norm of keys, where they have one, is applied: no cosine knows its scale. With RoPE keys are rotated by their
    position before they meet b_Q; the cosines are those of position 0.

    Args:
        model: its mean biases are taken, whatever mode it is in.
        direction: as in `interp.analysis.direction.query_shifts`.

    Raises:
        InterpError: as `query_shifts`.
    """
    with model.bias(bias="mean"):
        vector = query_shifts(model, direction).vector
    learned = model.cfg.positional == "learned"
    positions = _cosines(model.W_pos, model.key_maps, vector) if learned else None
    return StaticAlignment(_cosines(model.W_E, model.key_maps, vector), positions)


def _cosines(
    embeddings: Float[Tensor, "row d_model"], maps: Float[Tensor, "layer head_index d_model d_head"], vector: PerHead
) -> Float[Tensor, "layer head_index row"]:
    """Cosines a layer at a time; the keys of all its heads are one product, of some rows after the others."""
    embeddings, layers = embeddings.to(vector), []
    for weights, bias in zip(maps.to(vector), vector, strict=True):
        products = torch.einsum("hmd,hd->hm", weights, bias) @ embeddings.T
        flat = weights.transpose(0, 1).flatten(1)  # [d_model, head_index * d_head]
        keys = ((rows @ flat).unflatten(1, bias.shape) for rows in embeddings.split(ROWS))
        lengths = torch.cat([torch.linalg.vector_norm(each, dim=-1) for each in keys]).T * bias.norm(dim=-1)[:, None]
        layers.append(torch.where(lengths > 0, products / lengths, torch.nan))
    return torch.stack(layers)


def extremes_table(
    model: HookedSymmetryBrokenTransformer,
    alignment: PerToken,
    count: PerType,
    k: int = 50,
    min_count: int = 10,
    column: str = "alignment",
) -> pd.DataFrame:
    """Return the `extreme_tokens` of every head, one row per (layer, head, end, rank).

    Anything else that a head has for every token will do too, such as `value_bias_logits`; `column` names it. `end` is
    "top" or "bottom"; rank 0 is the most extreme. Heads without a bias have no rows.
    """
    alignment = alignment.detach().cpu()
    frames = [
        pd.DataFrame({
            "layer": layer, "head": head, "end": end, "rank": range(k), "token_index": tokens,
            "token_string": token_strings(model.need_tokenizer(), tokens.tolist()), "count": count[tokens],
            column: alignment[layer, head, tokens].double().numpy(),
        })
        for layer, head, end, tokens in ends_of_heads(alignment, count, k, min_count)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*EXTREMES, column])


def with_static_alignment(tokens: pd.DataFrame, alignment: StaticAlignment) -> pd.DataFrame:
    """Return `Amplification.tokens`, whose column `alignment` is that of keys in context, with `static_alignment` beside it.

    Raises:
        InterpError: the table is of a model of other sizes.
    """
    where = [tokens[name].to_numpy() for name in ("layer", "head", "token_index")]
    if any(len(index) and index.max() >= size for index, size in zip(where, alignment.tokens.shape, strict=True)):
        raise InterpError(
            f"The table has layers, heads or tokens that a model of {list(alignment.tokens.shape)} has not; "
            "measure both on the same model."
        )
    return tokens.assign(static_alignment=alignment.tokens.detach().cpu().numpy()[tuple(where)])


def agreement(tokens: pd.DataFrame, min_count: int = 10) -> pd.DataFrame:
    """Return the correlation of static and contextual alignment over tokens, one row per (layer, head).

    Columns: n_tokens (types seen at least `min_count` times), pearson, spearman; missing for fewer than 3 types or where
    one of the two does not vary. `tokens` comes from `with_static_alignment`.
    """
    rows = []
    for key, table in tokens.groupby(["layer", "head"]):
        values = table.loc[table["count"] >= min_count, ["static_alignment", "alignment"]].to_numpy(np.float64)
        values = values[~np.isnan(values).any(1)]
        varies = len(values) > 2 and bool((np.ptp(values, axis=0) > 0).all())
        scales = (values, stats.rankdata(values, axis=0))  # Spearman's is Pearson's of the ranks
        both = [np.corrcoef(scale.T)[0, 1] if varies else np.nan for scale in scales]
        rows.append((*key, len(values), *both))  # pyright: ignore[reportGeneralTypeIssues] # a pair: two columns
    return pd.DataFrame(rows, columns=["layer", "head", "n_tokens", "pearson", "spearman"])


def static_tables(
    model: HookedSymmetryBrokenTransformer,
    tokens: pd.DataFrame,
    schemes: Sequence[str],
    *,
    bias: BiasSource = "mean",
    direction: Direction = "bias",
    k: int = K,
    min_count: int = MIN_COUNT,
) -> dict[str, pd.DataFrame]:
    """Return the tables `static_tokens`, `static_positions`, `static_agreement` and `static_enrichment`.

    Args:
        model: its embeddings and key weights are read; no forward pass is run.
        tokens: `Amplification.tokens` of the model.
        schemes: columns of `tokens` whose classes are counted.
        bias: "none" leaves b_Q out of the direction, "component:2" takes a component of it; else its mean is taken, for
            "sample" too.
        direction: as in `interp.analysis.direction.query_shifts`.
        k: tokens at either end; fewer where the corpus holds less than 2 k tokens that are frequent enough.
        min_count: how often a token must occur to be listed.

    Raises:
        InterpError: as `query_shifts`, or a table of a model of other sizes.
    """
    with model.bias(bias="mean" if bias == "sample" else bias):
        found = static_alignment(model, query_shifts(model, direction).vector)
    if found.tokens.isnan().all():  # no head has a direction
        return _named(model, STATIC_COLUMNS, {})
    count = token_counts(tokens, model.cfg.d_vocab)
    alignment = found.tokens.cpu()
    k = fitting_k(alignment, count, k, min_count)
    in_context = tokens.loc[:, ["layer", "head", "token_index", "count", "alignment"]]
    extremes = pd.DataFrame()
    if k:
        extremes = extremes_table(model, alignment, count, k, min_count, "static_alignment")
        extremes = extremes.merge(in_context.drop(columns="count"), "left", ["layer", "head", "token_index"])
    positions = pd.DataFrame()
    if found.positions is not None:
        places = np.indices(found.positions.shape, dtype=np.int32).reshape(3, -1)
        positions = pd.DataFrame(dict(zip(("layer", "head", "pos"), places, strict=True)))
        positions = positions.assign(static_alignment=found.positions.detach().cpu().numpy().ravel()).dropna()
    return _named(model, STATIC_COLUMNS, {
        "static_tokens": extremes,
        "static_positions": positions,
        "static_agreement": agreement(with_static_alignment(in_context, found), min_count),
        "static_enrichment": _enrichment(alignment, tokens, count, schemes, k, min_count),
    })  # fmt: skip


WRITES = ("layer", "head", "of", "end", "rank", "token_index", "token_string", "count", "value")
WRITTEN = 10  # tokens listed at either end


@torch.no_grad()
def writes_table(
    model: HookedSymmetryBrokenTransformer,
    tokens: pd.DataFrame,
    *,
    bias: BiasSource = "mean",
    direction: Direction = "bias",
    k: int = WRITTEN,
    min_count: int = MIN_COUNT,
) -> pd.DataFrame:
    """Return the table `writes`: what each head looks for and what it writes, from the weights alone.

    With e_t = W_E[t], over the tokens t that occur `min_count` times, and N1, N the linear maps that the norms before the
    layer and before the unembedding are at the scale 1:

    - "b_Q": cos(e_t W_K, b_Q), the static alignment; its k largest tokens are the set T.
    - "OV": N(N1(mean over T of e_t - mean over all of e_t) W_V W_O) W_U, what the head adds to the logits where it attends
      to T and not to tokens at large, known up to one positive factor of the layer.
    - "b_V": N(b_V W_O) W_U, what b_V adds to them everywhere, likewise.

    Logits are less their mean over the vocabulary. The circuits are those of Elhage et al., "A Mathematical Framework for
    Transformer Circuits", 2021. Fewer than k tokens are listed where fewer than 2 k are that frequent. The columns are told
    by `Amplification.writes`.

    Raises:
        InterpError: as `query_shifts`.
    """
    with model.bias(bias="mean" if bias == "sample" else bias):
        vector, value_bias = query_shifts(model, direction).vector, model.bias_OV
    count = token_counts(tokens, model.cfg.d_vocab)
    pool = torch.from_numpy(np.flatnonzero(count >= min_count)).to(model.W_E.device)
    k = min(k, len(pool) // 2)
    if not k:
        return pd.DataFrame(columns=list(WRITES))
    embedded = model.W_E[pool].to(vector)
    alignment = _cosines(embedded, model.key_maps, vector)
    sought = embedded[_order(alignment)[..., :k]].mean(2) - embedded.mean(0)  # [layer, head_index, d_model]
    layers = zip(model.blocks, sought, model.W_V, model.W_O, strict=True)
    written = torch.stack([
        torch.einsum("hm,hmd,hdn->hn", norm.linearize(1.0)(seen), W_V.to(seen), W_O.to(seen))
        for block, seen, W_V, W_O in layers if isinstance(norm := block.get_submodule("ln1"), Norm)
    ])  # fmt: skip
    silent = alignment.isnan().all(-1, keepdim=True), (value_bias == 0).all(-1, keepdim=True)
    unembedded = (model.W_U[:, pool] - model.W_U.mean(1, keepdim=True)).to(vector)
    logits = [
        (model.ln_final.linearize(1.0)(each.to(vector)) @ unembedded).masked_fill(of, torch.nan)
        for each, of in zip((written, value_bias), silent, strict=True)
    ]
    numbers = dict(zip(("b_Q", "OV", "b_V"), (alignment, *logits), strict=True))
    frames = [_ends(values, k).assign(of=name) for name, values in numbers.items()]
    table = pd.concat(frames, ignore_index=True)
    index = as_numpy(pool)[table["token_index"]]
    known = np.unique(index)
    strings = dict(zip(known.tolist(), token_strings(model.need_tokenizer(), known.tolist()), strict=True))
    table = table.assign(token_index=index, token_string=[strings[one] for one in index.tolist()], count=count[index])
    return table.sort_values(["layer", "head"], kind="stable", ignore_index=True).loc[:, list(WRITES)]


def _order(values: Float[Tensor, "layer head_index token"]) -> Tensor:
    """The largest first, ties as they stand."""
    return values.nan_to_num(nan=-torch.inf).argsort(dim=-1, descending=True, stable=True)


def _ends(values: Float[Tensor, "layer head_index token"], k: int) -> pd.DataFrame:
    """The k largest and the k smallest of every head that has any, and which they are."""
    frames = []
    for end, sign in (("top", 1), ("bottom", -1)):
        which = _order(sign * values)[..., :k]
        layer, head, rank = np.indices(which.shape).reshape(3, -1)
        columns = {"layer": layer, "head": head, "end": end, "rank": rank, "token_index": as_numpy(which).ravel()}
        frames.append(pd.DataFrame({**columns, "value": as_numpy(values.gather(-1, which)).ravel().astype(np.float64)}))
    return pd.concat(frames, ignore_index=True).dropna(subset="value")

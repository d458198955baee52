"""Directions that a bridged model has: its own query bias, raw or with a folded LayerNorm's shift, and its mean query."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge.bridge import TransformerBridge

from interp.analysis.direction import Held, PerHead, QueryShifts
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer

NAMES = ("effective", "folded", "mean-query")


def bridge_shifts(bridge: TransformerBridge, direction: Any) -> QueryShifts:
    """Return the two queries compared, relative to those that the model makes.

    Args:
        bridge: of the model.
        direction: "effective", its learned query bias, as the weights have it; "folded", with the shift of the LayerNorm
            before it, W_Q b_ln, as `enable_compatibility_mode` folds it in; or a tensor broadcastable to [layer, head_index,
            d_head], or another model's mean b_Q, that is added.

    Raises:
        InterpError: the model has no query bias, is folded where "effective" asks for the raw one, or the direction is of
            another shape or name.
    """
    zeros, name = _zeros(bridge), str(bridge.cfg.model_name)
    if isinstance(direction, HookedSymmetryBrokenTransformer):
        direction = direction.mean_biases()[0].detach()
    if isinstance(direction, Held):
        return QueryShifts(zeros, -direction.vector.to(zeros))
    if isinstance(direction, Tensor):
        try:
            return QueryShifts(direction.to(zeros).expand_as(zeros), zeros)
        except RuntimeError as error:
            raise InterpError(
                f"The direction has shape {list(direction.shape)}, expected {list(zeros.shape)}."
            ) from error
    if direction == "bias":
        raise InterpError(
            f"{name} has no unlearned query bias; choose --direction effective (its learned query bias), folded "
            "(with the shift of the LayerNorm before it) or mean-query (what its queries have in common)."
        )
    if direction == "mean-query":
        raise InterpError(
            "A mean query is fitted on text first; interp.amplification does it with direction='mean-query'."
        )
    if direction not in ("effective", "folded"):
        raise InterpError(f"There is no direction {direction!r}; choose {', '.join(NAMES)}, or pass a tensor.")
    folded = _is_folded(bridge)
    if folded and direction == "effective":
        raise InterpError(
            f"The LayerNorms of this {name} are folded into its weights, so its query bias holds their shift too; "
            "say --direction folded, or boot it without enable_compatibility_mode."
        )
    bias = _query_bias(bridge)
    if direction == "folded" and not folded:
        bias = bias + _shift_of_norms(bridge)
    if not bool(bias.any()):
        raise InterpError(
            f"{name} has no query bias to look along; --direction mean-query asks what its queries have in common."
        )
    return QueryShifts(zeros, -bias)


def _zeros(bridge: TransformerBridge) -> PerHead:
    cfg, device = bridge.cfg, next(bridge.original_model.parameters()).device
    return torch.zeros(int(cfg.n_layers), int(cfg.n_heads), int(cfg.d_head), device=device)


def _query_bias(bridge: TransformerBridge) -> PerHead:
    """Return b_Q of every layer; 0 where a layer has none."""
    found = _zeros(bridge)
    for of_layer, block in zip(found, bridge.blocks, strict=True):
        bias = getattr(block.attn, "b_Q", None)
        if bias is not None:
            of_layer += bias.detach().to(found).view(of_layer.shape)
    return found


def _shift_of_norms(bridge: TransformerBridge) -> PerHead:
    """Return W_Q times the shift of the LayerNorm before each layer's attention; 0 where the norm has none."""
    found = _zeros(bridge)
    for of_layer, block in zip(found, bridge.blocks, strict=True):
        shift = getattr(getattr(block, "ln1", None), "bias", None)
        if shift is not None:
            of_layer += torch.einsum("d,hde->he", shift.detach().float(), block.attn.W_Q.detach().float())
    return found


def _is_folded(bridge: TransformerBridge) -> bool:
    """Whether the shifts of LayerNorms are in what reads them: compatibility mode then leaves norms of weight 1, shift 0."""
    norms = [block.ln1 for block in bridge.blocks if getattr(getattr(block, "ln1", None), "bias", None) is not None]
    plain = all(bool((norm.weight == 1).all()) and not bool(norm.bias.any()) for norm in norms)
    return bool(bridge.compatibility_mode) and bool(norms) and plain

"""Directions that a bridged model has: its own query bias, raw or with a folded LayerNorm's shift, and its mean query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.analysis.direction import PerHead, QueryShifts
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer

if TYPE_CHECKING:
    from interp.analysis.readers.bridge import BridgeReader

NAMES = ("effective", "folded", "mean-query")


def bridge_shifts(reader: BridgeReader, direction: Any) -> QueryShifts:
    """Return the two queries compared, relative to those that the model makes.

    Args:
        reader: of the model.
        direction: "effective", its learned query bias, as the weights have it; "folded", with the shift of the LayerNorm
            before it, W_Q b_ln, as `enable_compatibility_mode` folds it in; or a tensor broadcastable to [layer, head_index,
            d_head], or another model's mean b_Q, that is added.

    Raises:
        InterpError: the model has no query bias, is folded where "effective" asks for the raw one, or the direction is of
            another shape or name.
    """
    shape = (reader.n_layers, reader.n_heads, reader.d_head)
    zeros = torch.zeros(shape, device=reader.device)
    if isinstance(direction, HookedSymmetryBrokenTransformer):
        direction = direction.mean_biases()[0].detach()
    if isinstance(direction, Tensor):
        try:
            return QueryShifts(direction.to(zeros).expand_as(zeros), zeros)
        except RuntimeError as error:
            raise InterpError(f"The direction has shape {list(direction.shape)}, expected {list(shape)}.") from error
    if direction == "bias":
        raise InterpError(
            f"{reader.name} has no unlearned query bias; choose --direction effective (its learned query bias), folded "
            "(with the shift of the LayerNorm before it) or mean-query (what its queries have in common)."
        )
    if direction not in ("effective", "folded"):
        raise InterpError(f"There is no direction {direction!r}; choose {', '.join(NAMES)}, or pass a tensor.")
    folded = _is_folded(reader)
    if folded and direction == "effective":
        raise InterpError(
            f"The LayerNorms of this {reader.name} are folded into its weights, so its query bias holds their shift too; "
            "say --direction folded, or boot it without enable_compatibility_mode."
        )
    bias = _query_bias(reader)
    if direction == "folded" and not folded:
        bias = bias + _shift_of_norms(reader)
    if not bool(bias.any()):
        raise InterpError(
            f"{reader.name} has no query bias to look along; --direction mean-query asks what its queries have in common."
        )
    return QueryShifts(zeros, -bias)


def _query_bias(reader: BridgeReader) -> PerHead:
    """Return b_Q of every layer; 0 where a layer has none."""
    found = torch.zeros(reader.n_layers, reader.n_heads, reader.d_head, device=reader.device)
    for layer, block in enumerate(reader.model.blocks):
        bias = getattr(block.attn, "b_Q", None)
        if bias is not None:
            found[layer] = bias.detach().to(found).view(found.shape[1:])
    return found


def _shift_of_norms(reader: BridgeReader) -> PerHead:
    """Return W_Q times the shift of the LayerNorm before each layer's attention; 0 where the norm has none."""
    found = torch.zeros(reader.n_layers, reader.n_heads, reader.d_head, device=reader.device)
    for layer, block in enumerate(reader.model.blocks):
        shift = getattr(getattr(block, "ln1", None), "bias", None)
        if shift is not None:
            found[layer] = torch.einsum("d,hde->he", shift.detach().float(), block.attn.W_Q.detach().float())
    return found


def _is_folded(reader: BridgeReader) -> bool:
    """Whether the bridge's LayerNorms were folded into what reads them."""
    return bool(getattr(reader.model, "compatibility_mode", False)) and str(
        reader.model.cfg.normalization_type
    ).endswith("Pre")

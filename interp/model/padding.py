"""Where the tokens of a padded batch, or after a cached past, stand and what they may see.

Positions follow TransformerLens: the first real token of a row has position 0, whatever padding stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from interp.errors import InterpError
from interp.model.config import ModelConfig

Mask = Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"]  # 1 or True: a real token


@dataclass(frozen=True)
class Positions:
    """The positions of the tokens of a forward pass, and which keys each of them may attend to."""

    ids: Int[Tensor, "batch pos"]
    visible: Bool[Tensor, "batch 1 pos key_pos"]

    @classmethod
    def of(cls, mask: Mask) -> Positions:
        """Return the positions of a whole batch: causal, and no key that `mask` names as padding."""
        real = mask.bool()
        causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=mask.device).tril()
        return cls((real.long().cumsum(1) - 1).clamp(min=0), (causal & real[:, None, :])[:, None])

    def last(self, count: int) -> Positions:
        """Return the last `count` positions, which see all keys they may."""
        return Positions(self.ids[:, -count:], self.visible[:, :, -count:])

    def softmax(
        self, scores: Float[Tensor, "batch head_index pos key_pos"]
    ) -> Float[Tensor, "batch head_index pos key_pos"]:
        """Return the pattern of masked scores; padding that sees nothing attends to nothing, and its gradient is 0."""
        blind = ~self.visible.any(-1, keepdim=True)  # [batch, 1, pos, 1]
        return scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)


def init_cache(cfg: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype) -> TransformerLensKeyValueCache:
    """Return an empty `past_kv_cache` for a batch of this size."""
    empty = torch.empty(batch, 0, cfg.n_heads, cfg.d_head, device=device, dtype=dtype)
    entries = [TransformerLensKeyValueCacheEntry(empty, empty) for _ in range(cfg.n_layers)]
    return TransformerLensKeyValueCache(entries, torch.empty(batch, 0, dtype=torch.int, device=device))


def positions_of(
    batch: int, pos: int, device: torch.device, mask: Mask | None, past: TransformerLensKeyValueCache | None, n_ctx: int
) -> Positions | None:
    """Return where the tokens stand; None stands for the plain case, no padding and no past.

    Raises:
        InterpError: a mask of another shape, or more positions than n_ctx with the past.
    """
    if mask is not None and mask.shape != (batch, pos):
        raise InterpError(f"attention_mask has shape {list(mask.shape)}; the tokens have {[batch, pos]}.")
    before = 0 if past is None else past.previous_attention_mask.shape[1]
    if before + pos > n_ctx:
        history = f", {before} of them in past_kv_cache" if before else ""
        raise InterpError(f"The input has {before + pos} positions{history}; this model has n_ctx {n_ctx}: pass fewer.")
    if mask is None and past is None:
        return None
    mask = torch.ones(batch, pos, dtype=torch.int, device=device) if mask is None else mask
    if past is None:
        return Positions.of(mask)
    return Positions.of(past.append_attention_mask(mask)).last(pos)

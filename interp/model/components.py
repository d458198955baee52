"""A block and its MLP, in forward order; each activation passes through a named HookPoint.

Axes: batch; pos (query_pos, key_pos in scores); head_index; d_model, d_head, d_mlp, d_vocab (sizes); layer.
A part computes an intermediate value in the open only while a hook is attached to it: you pay for what you hook.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.hook_points import HookPoint

from interp.model.attention import Attention, HeadBiases, Residual
from interp.model.config import ModelConfig
from interp.model.hooking import is_hooked
from interp.model.tokens import Positions


class LayerNorm(nn.Module):
    """LayerNorm with TransformerLens' `hook_scale` and `hook_normalized`."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.w = nn.Parameter(torch.ones(d_model))
        self.b = nn.Parameter(torch.zeros(d_model))
        self.hook_scale = HookPoint()  # [batch, pos, 1]
        self.hook_normalized = HookPoint()  # [batch, pos, d_model]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """Normalize over d_model, then scale by w and shift by b."""
        if not is_hooked(self.hook_scale):
            return self.hook_normalized(self.normalize(x))
        centred = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(centred / scale * self.w + self.b)

    def normalize(self, x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """Do the same to vectors of any leading axes, past the hooks."""
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)


def prelu(x: Float[Tensor, "batch pos d_mlp"], slope: Float[Tensor, " d_mlp"]) -> Float[Tensor, "batch pos d_mlp"]:
    """Multiply what is negative by its feature's slope."""
    return F.prelu(x.flatten(0, 1), slope.to(x.dtype)).view_as(x)


class MLP(nn.Module):
    """Two linear maps around a GELU (tanh form, as GPT-2, or exact) or a PReLU with one learned slope per feature."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.fc_in = nn.Linear(cfg.d_model, cfg.d_mlp)
        self.fc_out = nn.Linear(cfg.d_mlp, cfg.d_model)
        self.slope = nn.Parameter(torch.empty(cfg.d_mlp)) if cfg.activation == "prelu" else None
        self.approximate = "none" if cfg.activation == "gelu_exact" else "tanh"
        self.hook_pre = HookPoint()  # [batch, pos, d_mlp]
        self.hook_post = HookPoint()  # [batch, pos, d_mlp]

    def forward(self, x: Residual) -> Residual:
        """Return what the layer writes to the residual stream; x is the normalized residual stream."""
        pre = self.hook_pre(self.fc_in(x))
        return self.fc_out(self.hook_post(self._activate(pre)))

    def _activate(self, pre: Float[Tensor, "batch pos d_mlp"]) -> Float[Tensor, "batch pos d_mlp"]:
        if self.slope is None:
            return F.gelu(pre, approximate=self.approximate)
        return prelu(pre, self.slope)

    W_in = property(lambda self: self.fc_in.weight.T, doc="[d_model, d_mlp], a view")
    W_out = property(lambda self: self.fc_out.weight.T, doc="[d_mlp, d_model], a view")
    b_in = property(lambda self: self.fc_in.bias, doc="[d_mlp]")
    b_out = property(lambda self: self.fc_out.bias, doc="[d_model]")


class TransformerBlock(nn.Module):
    """Attention and MLP, each on the normalized residual stream and added to it."""

    hook_out_is_single_residual_stream = True  # what TransformerLens' tools ask before they read the stream

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.dropout = cfg.dropout
        self.ln1 = LayerNorm(cfg.d_model, cfg.eps)
        self.attn = Attention(cfg)
        self.ln2 = LayerNorm(cfg.d_model, cfg.eps)
        self.mlp = MLP(cfg)
        self.hook_resid_pre = HookPoint()  # [batch, pos, d_model]
        self.hook_attn_out = HookPoint()  # [batch, pos, d_model]
        self.hook_resid_mid = HookPoint()  # [batch, pos, d_model]
        self.hook_mlp_in = HookPoint()  # [batch, pos, d_model], before the norm, only behind cfg.use_hook_mlp_in
        self.hook_mlp_out = HookPoint()  # [batch, pos, d_model]
        self.hook_resid_post = HookPoint()  # [batch, pos, d_model]

    def forward(
        self,
        x: Residual,
        bias_q: HeadBiases,
        bias_v: HeadBiases,
        positions: Positions | None = None,
        past: TransformerLensKeyValueCacheEntry | None = None,
    ) -> Residual:
        """Return the residual stream after this layer; arguments are those of `Attention.forward`."""
        x = self.hook_resid_pre(x)
        written = self.attn(self.attn.inputs(x, self.ln1), bias_q, bias_v, positions, past)
        x = self.hook_resid_mid(x + self.hook_attn_out(self._dropped(written)))
        mlp_in = self.hook_mlp_in(x.clone()) if self.cfg.use_hook_mlp_in else x
        return self.hook_resid_post(x + self.hook_mlp_out(self._dropped(self.mlp(self.ln2(mlp_in)))))

    def _dropped(self, x: Residual) -> Residual:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

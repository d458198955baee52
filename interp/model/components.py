"""The parts of a block, in forward order; each activation passes through a named HookPoint.

Axes: batch; pos (query_pos, key_pos in scores); head_index; d_model, d_head, d_mlp, d_vocab (sizes); layer.
A part computes an intermediate value in the open only while a hook is attached to it: you pay for what you hook.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.model.config import ModelConfig

Residual = Float[Tensor, "batch pos d_model"]
HeadVectors = Float[Tensor, "batch pos head_index d_head"]
HeadBiases = Float[Tensor, "head_index d_head"]


def is_hooked(*hooks: HookPoint) -> bool:
    """Whether any of the hook points has a forward or backward hook attached."""
    return any(hook._forward_hooks or hook._backward_hooks for hook in hooks)


def rotate(x: HeadVectors, rotary_dim: int, base: float) -> HeadVectors:
    """Rotate the first `rotary_dim` dimensions by position (RoPE, arXiv 2104.09864, rotate-half layout)."""
    half = rotary_dim // 2
    exact = torch.promote_types(x.dtype, torch.float32)  # angles in bfloat16 would be whole positions off
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=exact) / half)
    angles = torch.arange(x.shape[1], device=x.device, dtype=exact)[:, None] * frequencies  # [pos, half]
    cos, sin = angles.cos().to(x.dtype)[:, None], angles.sin().to(x.dtype)[:, None]  # [pos, 1, half]
    first, second, rest = x[..., :half], x[..., half:rotary_dim], x[..., rotary_dim:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def through_aligned_hook(x: HeadVectors, bias: HeadBiases, hook: HookPoint) -> HeadVectors:
    """Show `hook` the component of x along the unit bias direction, and put back what it returns.

    The component has shape [batch, pos, head_index]; without a bias there is no direction, and it is 0.
    """
    if not is_hooked(hook):
        return x
    unit = F.normalize(bias, dim=-1)
    component = (x * unit).sum(-1)  # [batch, pos, head_index]
    return x + (hook(component) - component)[..., None] * unit


class LayerNorm(nn.Module):
    """LayerNorm with TransformerLens' `hook_scale` and `hook_normalized`."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.w = nn.Parameter(torch.ones(d_model))
        self.b = nn.Parameter(torch.zeros(d_model))
        self.hook_scale = HookPoint()  # [batch, pos, 1]
        self.hook_normalized = HookPoint()  # [batch, pos, d_model]

    def forward(self, x: Residual) -> Residual:
        """Normalize over d_model, then scale by w and shift by b."""
        if not is_hooked(self.hook_scale):
            return self.hook_normalized(F.layer_norm(x, self.w.shape, self.w, self.b, self.eps))
        centred = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(centred / scale * self.w + self.b)


class Attention(nn.Module):
    """Causal attention with an unlearned bias on queries and values (arXiv 2601.22257).

    One scaled_dot_product_attention call, unless a hook is attached to `hook_bias_scores`, `hook_attn_scores` or
    `hook_pattern`: then scores and pattern are computed in the open. Both agree to rounding.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.qkv = nn.Linear(cfg.d_model, 3 * cfg.d_model)
        self.out = nn.Linear(cfg.d_model, cfg.d_model)
        self.hook_q = HookPoint()  # [batch, pos, head_index, d_head], before rotation and bias
        self.hook_k = HookPoint()  # [batch, pos, head_index, d_head]
        self.hook_v = HookPoint()  # [batch, pos, head_index, d_head], without the bias
        if cfg.positional == "rope":
            self.hook_rot_q = HookPoint()  # [batch, pos, head_index, d_head]
            self.hook_rot_k = HookPoint()  # [batch, pos, head_index, d_head]
        self.hook_bias_q = HookPoint()  # [head_index, d_head]
        self.hook_bias_v = HookPoint()  # [head_index, d_head]
        self.hook_q_aligned = HookPoint()  # [batch, pos, head_index]
        self.hook_k_aligned = HookPoint()  # [batch, pos, head_index]
        self.hook_v_aligned = HookPoint()  # [batch, pos, head_index]
        self.hook_q_biased = HookPoint()  # [batch, pos, head_index, d_head]
        self.hook_v_biased = HookPoint()  # [batch, pos, head_index, d_head]
        self.hook_bias_scores = HookPoint()  # [batch, head_index, key_pos]
        self.hook_attn_scores = HookPoint()  # [batch, head_index, query_pos, key_pos]
        self.hook_pattern = HookPoint()  # [batch, head_index, query_pos, key_pos]
        self.hook_z = HookPoint()  # [batch, pos, head_index, d_head]

    def forward(self, x: Residual, bias_q: HeadBiases, bias_v: HeadBiases) -> Residual:
        """Return what the heads write to the residual stream; x is the normalized residual stream."""
        batch, pos, d_model = x.shape
        q, k, v = self.qkv(x).view(batch, pos, 3, self.cfg.n_heads, self.cfg.d_head).unbind(2)
        q, k, v = self._rotated(self.hook_q(q), self.hook_k(k), self.hook_v(v))
        bias_q, bias_v = self.hook_bias_q(bias_q.to(q.dtype)), self.hook_bias_v(bias_v.to(v.dtype))
        k = through_aligned_hook(k, bias_q, self.hook_k_aligned)
        q = self.hook_q_biased(through_aligned_hook(q, bias_q, self.hook_q_aligned) + bias_q)
        v = self.hook_v_biased(through_aligned_hook(v, bias_v, self.hook_v_aligned) + bias_v)
        z = self.hook_z(self._attend(q, k, v, bias_q))
        return self.out(z.reshape(batch, pos, d_model))

    def _rotated(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.cfg.positional == "rope":
            q = self.hook_rot_q(rotate(q, self.cfg.rotary_dim, self.cfg.rotary_base))
            k = self.hook_rot_k(rotate(k, self.cfg.rotary_dim, self.cfg.rotary_base))
        return q, k, v

    def _attend(self, q: HeadVectors, k: HeadVectors, v: HeadVectors, bias_q: HeadBiases) -> HeadVectors:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [batch, head_index, pos, d_head]
        if not is_hooked(self.hook_bias_scores, self.hook_attn_scores, self.hook_pattern):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        scores = q @ k.transpose(-1, -2) / self.cfg.attn_scale  # [batch, head_index, query_pos, key_pos]
        if is_hooked(self.hook_bias_scores):
            bias_scores = (k * bias_q[:, None]).sum(-1) / self.cfg.attn_scale  # [batch, head_index, key_pos]
            scores = scores + (self.hook_bias_scores(bias_scores) - bias_scores)[:, :, None]
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = self.hook_attn_scores(scores.masked_fill(future, -torch.inf))
        pattern = self.hook_pattern(scores.softmax(-1))
        return (pattern @ v).transpose(1, 2)  # [batch, pos, head_index, d_head]

    def heads_in(self, part: int) -> tuple[Tensor, Tensor]:
        """Return views of the projection of queries (0), keys (1) or values (2) and of its learned bias.

        Shapes [head_index, d_model, d_head] and [head_index, d_head]; editing them in place edits the model.
        """
        n_heads, d_head, d_model = self.cfg.n_heads, self.cfg.d_head, self.cfg.d_model
        weight = self.qkv.weight.view(3, n_heads, d_head, d_model)[part].transpose(-1, -2)
        return weight, self.qkv.bias.view(3, n_heads, d_head)[part]

    W_Q = property(lambda self: self.heads_in(0)[0], doc="[head_index, d_model, d_head], a view")
    W_K = property(lambda self: self.heads_in(1)[0], doc="[head_index, d_model, d_head], a view")
    W_V = property(lambda self: self.heads_in(2)[0], doc="[head_index, d_model, d_head], a view")
    b_Q = property(lambda self: self.heads_in(0)[1], doc="The learned bias beta_Q, [head_index, d_head], a view")
    b_K = property(lambda self: self.heads_in(1)[1], doc="[head_index, d_head], a view")
    b_V = property(lambda self: self.heads_in(2)[1], doc="The learned bias beta_V, [head_index, d_head], a view")
    b_O = property(lambda self: self.out.bias, doc="[d_model]")

    @property
    def W_O(self) -> Float[Tensor, "head_index d_head d_model"]:
        """The output projection of each head, a view."""
        return self.out.weight.view(self.cfg.d_model, self.cfg.n_heads, self.cfg.d_head).permute(1, 2, 0)


class MLP(nn.Module):
    """Two linear maps around GELU (tanh form, as GPT-2) or a PReLU with one learned slope per feature."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.fc_in = nn.Linear(cfg.d_model, cfg.d_mlp)
        self.fc_out = nn.Linear(cfg.d_mlp, cfg.d_model)
        self.slope = nn.Parameter(torch.empty(cfg.d_mlp)) if cfg.activation == "prelu" else None
        self.hook_pre = HookPoint()  # [batch, pos, d_mlp]
        self.hook_post = HookPoint()  # [batch, pos, d_mlp]

    def forward(self, x: Residual) -> Residual:
        """Return what the layer writes to the residual stream; x is the normalized residual stream."""
        pre = self.hook_pre(self.fc_in(x))
        return self.fc_out(self.hook_post(self._activate(pre)))

    def _activate(self, pre: Float[Tensor, "batch pos d_mlp"]) -> Float[Tensor, "batch pos d_mlp"]:
        if self.slope is None:
            return F.gelu(pre, approximate="tanh")
        return F.prelu(pre.flatten(0, 1), self.slope.to(pre.dtype)).view_as(pre)

    W_in = property(lambda self: self.fc_in.weight.T, doc="[d_model, d_mlp], a view")
    W_out = property(lambda self: self.fc_out.weight.T, doc="[d_mlp, d_model], a view")
    b_in = property(lambda self: self.fc_in.bias, doc="[d_mlp]")
    b_out = property(lambda self: self.fc_out.bias, doc="[d_model]")


class TransformerBlock(nn.Module):
    """Attention and MLP, each on the normalized residual stream and added to it."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.dropout = cfg.dropout
        self.ln1 = LayerNorm(cfg.d_model, cfg.eps)
        self.attn = Attention(cfg)
        self.ln2 = LayerNorm(cfg.d_model, cfg.eps)
        self.mlp = MLP(cfg)
        self.hook_resid_pre = HookPoint()  # [batch, pos, d_model]
        self.hook_attn_out = HookPoint()  # [batch, pos, d_model]
        self.hook_resid_mid = HookPoint()  # [batch, pos, d_model]
        self.hook_mlp_out = HookPoint()  # [batch, pos, d_model]
        self.hook_resid_post = HookPoint()  # [batch, pos, d_model]

    def forward(self, x: Residual, bias_q: HeadBiases, bias_v: HeadBiases) -> Residual:
        """Return the residual stream after this layer."""
        x = self.hook_resid_pre(x)
        x = self.hook_resid_mid(x + self.hook_attn_out(self._dropped(self.attn(self.ln1(x), bias_q, bias_v))))
        return self.hook_resid_post(x + self.hook_mlp_out(self._dropped(self.mlp(self.ln2(x)))))

    def _dropped(self, x: Residual) -> Residual:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

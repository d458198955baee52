"""Causal attention with an unlearned bias on queries and values (arXiv 2601.22257), in forward order.

Axes: batch; pos (query_pos, key_pos in scores); head_index; d_model, d_head, d_mlp, d_vocab (sizes); layer; kv_head, the
heads of keys and values, which are as many as heads unless these are grouped.

Grouped heads (arXiv 2305.13245): query head h reads the keys and values of kv_head h // (n_heads / n_key_value_heads). They
are repeated for their readers after `hook_k`, `hook_rot_k` and `hook_v`; from there on everything has one axis of heads. b_Q
is a vector of each query head, for it is queries that it is added to; b_V one of each kv_head, for there are no more values.
It is added where these have been repeated, so that it can be changed, or taken away, for one of the heads that read them.

A part computes an intermediate value in the open only while a hook is attached to it: you pay for what you hook.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from interp.model.config import ModelConfig
from interp.model.hooking import HookPoint, is_hooked
from interp.model.norm import RMSNorm
from interp.model.tokens import Positions

Residual = Float[Tensor, "batch pos d_model"]
HeadInputs = Float[Tensor, "batch pos head_index d_model"]
HeadVectors = Float[Tensor, "batch pos head_index d_head"]
HeadBiases = Float[Tensor, "head_index d_head"]
KeyInputs = Float[Tensor, "batch pos kv_head d_model"]
AttentionInput = Residual | tuple[HeadInputs, KeyInputs, KeyInputs]  # normalized: of all heads, or q, k and v of each


def rotate(
    x: HeadVectors, rotary_dim: int, base: float, position_ids: Int[Tensor, "batch pos"] | None = None
) -> HeadVectors:
    """Rotate the first `rotary_dim` dimensions by position (RoPE, arXiv 2104.09864, rotate-half layout).

    Positions count from 0 unless `position_ids` says otherwise.
    """
    half = rotary_dim // 2
    exact = torch.promote_types(x.dtype, torch.float32)  # angles in bfloat16 would be whole positions off
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=exact) / half)
    positions = torch.arange(x.shape[1], device=x.device, dtype=exact) if position_ids is None else position_ids
    angles = positions[..., None] * frequencies  # [pos, half] or [batch, pos, half]
    cos, sin = angles.cos().to(x.dtype).unsqueeze(-2), angles.sin().to(x.dtype).unsqueeze(-2)  # [..., pos, 1, half]
    first, second, rest = x[..., :half], x[..., half:rotary_dim], x[..., rotary_dim:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def scored_hook(cfg: ModelConfig, part: Literal["q", "k"]) -> str:
    """Return the hook point of a layer's attention that shows queries or keys as they meet each other, b_Q left out.

    That of keys shows those of each kv_head; `for_each_head` repeats them.
    """
    if cfg.positional == "rope":
        return f"hook_rot_{part}"
    return f"{part}_norm.hook_normalized" if cfg.qk_norm else f"hook_{part}"


def for_each_head(x: Float[Tensor, "batch pos kv_head d_head"], n_heads: int) -> HeadVectors:
    """Repeat keys or values for the heads that read them; without groups they are returned as they are."""
    return x if x.shape[2] == n_heads else x.repeat_interleave(n_heads // x.shape[2], 2)


def bias_of(linear: Any) -> Float[Tensor, "*expert out"]:
    """Return the learned bias of a linear map, or of one for each expert; zeros where it has none."""
    return linear.weight.new_zeros(linear.weight.shape[:-1]) if linear.bias is None else linear.bias


def through_aligned_hook(x: HeadVectors, bias: HeadBiases, hook: HookPoint) -> HeadVectors:
    """Show `hook` the component of x along the unit bias direction, and put back what it returns.

    The component has shape [batch, pos, head_index]; without a bias there is no direction, and it is 0.
    """
    if not is_hooked(hook):
        return x
    unit = F.normalize(bias, dim=-1)
    component = (x * unit).sum(-1)  # [batch, pos, head_index]
    return x + (hook(component) - component)[..., None] * unit


class Attention(nn.Module):
    """The heads of a layer.

    One scaled_dot_product_attention call, unless a hook is attached to `hook_bias_scores`, `hook_attn_scores` or
    `hook_pattern`: then scores and pattern are computed in the open. Both agree to rounding. `hook_result`,
    `hook_attn_in` and `hook_{q,k,v}_input` fire only behind `cfg.use_attn_result`, `use_attn_in`, `use_split_qkv_input`.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.sizes = (cfg.n_heads, cfg.kv_heads, cfg.kv_heads)  # heads of queries, keys and values
        self.qkv = nn.Linear(cfg.d_model, sum(self.sizes) * cfg.d_head, cfg.learned_biases != "none")
        self.out = nn.Linear(cfg.n_heads * cfg.d_head, cfg.d_model, cfg.learned_biases == "all")
        self.q_norm = RMSNorm(cfg.d_head, cfg.eps) if cfg.qk_norm else None
        self.k_norm = RMSNorm(cfg.d_head, cfg.eps) if cfg.qk_norm else None
        self.hook_attn_in = HookPoint()  # [batch, pos, head_index, d_model], before the norm
        self.hook_q_input = HookPoint()  # [batch, pos, head_index, d_model], before the norm
        self.hook_k_input = HookPoint()  # [batch, pos, kv_head, d_model], before the norm
        self.hook_v_input = HookPoint()  # [batch, pos, kv_head, d_model], before the norm
        self.hook_q = HookPoint()  # [batch, pos, head_index, d_head], before q_norm, rotation and bias
        self.hook_k = HookPoint()  # [batch, pos, kv_head, d_head], before k_norm and rotation
        self.hook_v = HookPoint()  # [batch, pos, kv_head, d_head], without the bias
        if cfg.positional == "rope":
            self.hook_rot_q = HookPoint()  # [batch, pos, head_index, d_head]
            self.hook_rot_k = HookPoint()  # [batch, pos, kv_head, d_head]
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
        self.hook_result = HookPoint()  # [batch, pos, head_index, d_model]

    def forward(
        self,
        x: AttentionInput,
        bias_q: HeadBiases,
        bias_v: HeadBiases,
        positions: Positions | None = None,
        past: TransformerLensKeyValueCacheEntry | None = None,
    ) -> Residual:
        """Return what the heads write to the residual stream.

        Args:
            x: the normalized residual stream, or what each head's query, key and value read of it.
            bias_q, bias_v: b_Q and b_V in force.
            positions: of padded or cached tokens (default: 0, 1, 2, ... and causal).
            past: keys and values of earlier positions, which grows by these; keys as scored, values with their bias.
        """
        q, k, v = self._project(x)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q).to(q.dtype), self.k_norm(k).to(k.dtype)
        if self.cfg.positional == "rope":
            how = self.cfg.rotary_dim, self.cfg.rotary_base, None if positions is None else positions.ids
            q, k = self.hook_rot_q(rotate(q, *how)), self.hook_rot_k(rotate(k, *how))
        k, v = for_each_head(k, self.cfg.n_heads), for_each_head(v, self.cfg.n_heads)
        bias_q, bias_v = self.hook_bias_q(bias_q.to(q.dtype)), self.hook_bias_v(bias_v.to(v.dtype))
        k = through_aligned_hook(k, bias_q, self.hook_k_aligned)
        q = self.hook_q_biased(through_aligned_hook(q, bias_q, self.hook_q_aligned) + bias_q)
        v = self.hook_v_biased(through_aligned_hook(v, bias_v, self.hook_v_aligned) + bias_v)
        if past is not None:
            k, v = past.append(k, v)
        z = self.hook_z(self._attend(q, k, v, bias_q, positions))
        if self.cfg.use_attn_result:
            return self.hook_result(torch.einsum("bphd,hdm->bphm", z, self.W_O)).sum(2) + self.b_O
        return self.out(z.flatten(2))

    def _project(self, x: AttentionInput) -> tuple[Tensor, Tensor, Tensor]:
        if isinstance(x, Tensor):
            heads = self.qkv(x).unflatten(-1, (sum(self.sizes), self.cfg.d_head))
            q, k, v = heads.split(self.sizes, 2)
        else:
            parts = (torch.einsum("bphm,hmd->bphd", each, self.heads_in(i)[0]) for i, each in enumerate(x))
            q, k, v = (part + self.heads_in(i)[1] for i, part in enumerate(parts))
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias_q: HeadBiases, positions: Positions | None) -> HeadVectors:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [batch, head_index, pos, d_head]
        if not is_hooked(self.hook_bias_scores, self.hook_attn_scores, self.hook_pattern):
            mask = None if positions is None else positions.visible
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2)
        scores = q @ k.transpose(-1, -2) / self.cfg.attn_scale  # [batch, head_index, query_pos, key_pos]
        if is_hooked(self.hook_bias_scores):
            bias_scores = (k * bias_q[:, None]).sum(-1) / self.cfg.attn_scale  # [batch, head_index, key_pos]
            scores = scores + (self.hook_bias_scores(bias_scores) - bias_scores)[:, :, None]
        if positions is None:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            pattern = self.hook_attn_scores(scores.masked_fill(future, -torch.inf)).softmax(-1)
        else:
            pattern = positions.softmax(self.hook_attn_scores(scores.masked_fill(~positions.visible, -torch.inf)))
        return (self.hook_pattern(pattern) @ v).transpose(1, 2)  # [batch, pos, head_index, d_head]

    def heads_in(self, part: int) -> tuple[Tensor, Tensor]:
        """Return views of the projection of queries (0), keys (1) or values (2) and of its learned bias.

        Shapes [head_index, d_model, d_head] and [head_index, d_head], of keys and values with kv_head; editing them in
        place edits the model. A bias that is not learned is zeros.
        """
        of_heads = self.qkv.weight.unflatten(0, (-1, self.cfg.d_head)).split(self.sizes)
        biases = bias_of(self.qkv).view(-1, self.cfg.d_head).split(self.sizes)
        return of_heads[part].transpose(-1, -2), biases[part]

    def _of_each_head(self, part: int, which: int) -> Tensor:
        found = self.heads_in(part)[which]
        return found if len(found) == self.cfg.n_heads else found.repeat_interleave(self.cfg.n_heads // len(found), 0)

    W_Q = property(lambda self: self.heads_in(0)[0], doc="[head_index, d_model, d_head], a view")
    W_K = property(lambda self: self._of_each_head(1, 0), doc="[head_index, d_model, d_head], a view unless grouped")
    W_V = property(lambda self: self._of_each_head(2, 0), doc="[head_index, d_model, d_head], a view unless grouped")
    b_Q = property(lambda self: self.heads_in(0)[1], doc="The learned bias beta_Q, [head_index, d_head], a view")
    b_K = property(lambda self: self._of_each_head(1, 1), doc="[head_index, d_head], a view unless grouped")
    b_V = property(lambda self: self._of_each_head(2, 1), doc="The learned bias beta_V, alike, a view unless grouped")
    b_O = property(lambda self: bias_of(self.out), doc="[d_model]; zeros where there is none")
    _W_K = property(lambda self: self.heads_in(1)[0], doc="[kv_head, d_model, d_head], a view")
    _W_V = property(lambda self: self.heads_in(2)[0], doc="[kv_head, d_model, d_head], a view")
    _b_K = property(lambda self: self.heads_in(1)[1], doc="[kv_head, d_head], a view")
    _b_V = property(lambda self: self.heads_in(2)[1], doc="[kv_head, d_head], a view")

    @property
    def W_O(self) -> Float[Tensor, "head_index d_head d_model"]:
        """The output projection of each head, a view."""
        return self.out.weight.view(self.cfg.d_model, self.cfg.n_heads, self.cfg.d_head).permute(1, 2, 0)

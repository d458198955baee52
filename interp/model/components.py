"""What stands around attention: the MLPs and the block; each activation passes through a named HookPoint.

Axes as in `attention`.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from interp.model.attention import Attention, AttentionInput, HeadBiases, HeadInputs, Residual, bias_of
from interp.model.config import ModelConfig
from interp.model.experts import MixtureOfExperts
from interp.model.hooking import HookPoint, is_hooked
from interp.model.norm import NORMS
from interp.model.tokens import Positions


class Embed(nn.Embedding):
    """One vector a token."""

    W_E = property(lambda self: self.weight, doc="[d_vocab, d_model]")


class PosEmbed(nn.Embedding):
    """One vector a position."""

    W_pos = property(lambda self: self.weight, doc="[n_ctx, d_model]")


class Unembed:
    """The way back from the residual stream to tokens, by the embeddings to which it is tied or by a matrix of its own."""

    def __init__(self, of: Embed | nn.Linear) -> None:
        self.of = of

    def __call__(self, x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_vocab"]:
        """Return the logits of what has gone through the final norm."""
        return F.linear(x, self.of.weight)

    def blocks(self, x: Float[Tensor, "*any d_model"], size: int) -> Iterator[Float[Tensor, "*any block"]]:
        """Yield the same in blocks of so many tokens of the vocabulary; the last may be smaller."""
        return (F.linear(x, weight) for weight in self.of.weight.split(size))

    W_U = property(lambda self: self.of.weight.T, doc="[d_model, d_vocab], a view")
    b_U = property(lambda self: self.of.weight.new_zeros(len(self.of.weight)), doc="[d_vocab]; there is none: zeros")


def prelu(x: Float[Tensor, "batch pos d_mlp"], slope: Float[Tensor, " d_mlp"]) -> Float[Tensor, "batch pos d_mlp"]:
    """Multiply what is negative by its feature's slope."""
    return F.prelu(x.flatten(0, 1), slope.to(x.dtype)).view_as(x)


class MLP(nn.Module):
    """Two linear maps around a GELU (tanh form, as GPT-2, or exact) or a PReLU with one learned slope per feature."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        bias = cfg.learned_biases == "all"
        self.fc_in = nn.Linear(cfg.d_model, cfg.d_mlp, bias)
        self.fc_out = nn.Linear(cfg.d_mlp, cfg.d_model, bias)
        self.slope = nn.Parameter(torch.empty(cfg.d_mlp)) if cfg.activation == "prelu" else None
        self.approximate = "none" if cfg.activation == "gelu_exact" else "tanh"
        self.hook_pre = HookPoint()  # [batch, pos, d_mlp]
        self.hook_post = HookPoint()  # [batch, pos, d_mlp]

    def forward(self, x: Residual) -> Residual:
        """Return what the layer writes to the residual stream; x is the normalized residual stream."""
        pre = self.hook_pre(self.fc_in(x))
        post = F.gelu(pre, approximate=self.approximate) if self.slope is None else prelu(pre, self.slope)
        return self.fc_out(self.hook_post(post))

    W_in = property(lambda self: self.fc_in.weight.T, doc="[d_model, d_mlp], a view")
    W_out = property(lambda self: self.fc_out.weight.T, doc="[d_mlp, d_model], a view")
    b_in = property(lambda self: bias_of(self.fc_in), doc="[d_mlp]; zeros where there is none")
    b_out = property(lambda self: bias_of(self.fc_out), doc="[d_model]; zeros where there is none")


class GatedMLP(MLP):
    """silu(x W_gate) * (x W_in), mapped back by W_out (SwiGLU, arXiv 2002.05202); `hook_pre` shows x W_gate."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__(cfg)
        self.fc_gate = nn.Linear(cfg.d_model, cfg.d_mlp, cfg.learned_biases == "all")
        self.hook_pre_linear = HookPoint()  # [batch, pos, d_mlp], x W_in

    def forward(self, x: Residual) -> Residual:
        """Return what the layer writes to the residual stream; x is the normalized residual stream."""
        gate = F.silu(self.hook_pre(self.fc_gate(x)))
        return self.fc_out(self.hook_post(gate * self.hook_pre_linear(self.fc_in(x))))

    W_gate = property(lambda self: self.fc_gate.weight.T, doc="[d_model, d_mlp], a view")
    b_gate = property(lambda self: bias_of(self.fc_gate), doc="[d_mlp]; zeros where there is none")


class TransformerBlock(nn.Module):
    """Attention and MLP, each on the normalized residual stream and added to it."""

    hook_out_is_single_residual_stream = True  # what TransformerLens' tools ask before they read the stream

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.dropout = cfg.dropout
        self.ln1 = NORMS[cfg.norm](cfg.d_model, cfg.eps)
        self.attn = Attention(cfg)
        self.ln2 = NORMS[cfg.norm](cfg.d_model, cfg.eps)
        self.mlp = (MixtureOfExperts if cfg.num_experts else GatedMLP if cfg.gated_mlp else MLP)(cfg)
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
        written = self.attn(self._attention_input(x), bias_q, bias_v, positions, past)
        x = self.hook_resid_mid(x + self.hook_attn_out(self._dropped(written)))
        mlp_in = self.hook_mlp_in(x) if self.cfg.use_hook_mlp_in else x
        return self.hook_resid_post(x + self.hook_mlp_out(self._dropped(self.mlp(self.ln2(mlp_in)))))

    def _attention_input(self, x: Residual) -> AttentionInput:
        """Return the normalized residual stream, or under a `use_*` switch a copy for each head."""
        if not (self.cfg.use_split_qkv_input or self.cfg.use_attn_in):
            return self.ln1(x)
        if is_hooked(self.ln1.hook_scale, self.ln1.hook_normalized):
            self.ln1(x)  # for who reads its hooks; the heads read their own copies

        def read(hook: HookPoint, heads: int) -> HeadInputs:
            return self.ln1.normalize(hook(x[:, :, None].expand(-1, -1, heads, -1)))

        heads, kv_heads = self.cfg.n_heads, self.cfg.kv_heads
        if self.cfg.use_attn_in:
            copies = read(self.attn.hook_attn_in, heads)
            first = copies[:, :, :: heads // kv_heads]  # of each group, whose keys and values are one
            return copies, first, first
        inputs = (self.attn.hook_q_input, heads), (self.attn.hook_k_input, kv_heads), (self.attn.hook_v_input, kv_heads)
        query, key, value = (read(*each) for each in inputs)
        return query, key, value

    def _dropped(self, x: Residual) -> Residual:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

"""What stands around attention: the norm, the MLP and the block; each activation passes through a named HookPoint.

Axes as in `attention`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from interp.model.attention import Attention, AttentionInput, HeadBiases, HeadInputs, Residual
from interp.model.config import ModelConfig
from interp.model.hooking import HookPoint, is_hooked
from interp.model.tokens import Positions

Vectors = Float[Tensor, "*any d_model"]


class Embed(nn.Embedding):
    """One vector a token."""

    W_E = property(lambda self: self.weight, doc="[d_vocab, d_model]")


class PosEmbed(nn.Embedding):
    """One vector a position."""

    W_pos = property(lambda self: self.weight, doc="[n_ctx, d_model]")


class Unembed:
    """The way back from the residual stream to tokens: the embeddings, to which it is tied, and so no module of its own."""

    def __init__(self, embed: Embed) -> None:
        self.embed = embed

    def __call__(self, x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_vocab"]:
        """Return the logits of what has gone through the final norm."""
        return F.linear(x, self.embed.weight)

    W_U = property(lambda self: self.embed.W_E.T, doc="[d_model, d_vocab], a view")
    b_U = property(lambda self: self.embed.W_E.new_zeros(len(self.embed.W_E)), doc="[d_vocab]; there is none: zeros")


class LayerNorm(nn.Module):
    """(x - mean(x)) / scale(x) * w + b, with TransformerLens' `hook_scale` and `hook_normalized`."""

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
            return self.hook_normalized(self.normalize(x))
        return self.hook_normalized(_centred(x) / self.hook_scale(self.scale(x)) * self.w + self.b)

    def normalize(self, x: Vectors) -> Vectors:
        """Do the same to vectors of any leading axes, past the hooks."""
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)

    def scale(self, x: Vectors) -> Float[Tensor, "*any 1"]:
        """Return what the norm divides each vector by: its standard deviation over d_model, eps added to the variance."""
        return (_centred(x).pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def linearize(self, inverse_scale: float | Float[Tensor, "*any 1"]) -> Callable[[Vectors], Vectors]:
        """Return the linear map that the norm is while its scale is held: x to (x - mean(x)) * w * inverse_scale.

        1 / scale is given, not the scale, because its mean over text makes this the mean of the maps at every token. The
        shift b is no part of a linear map: normalize(x) = linearize(1 / scale(x))(x) + b.
        """
        return lambda x: _centred(x) * self.w * inverse_scale


def _centred(x: Vectors) -> Vectors:
    return x - x.mean(-1, keepdim=True)


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
        post = F.gelu(pre, approximate=self.approximate) if self.slope is None else prelu(pre, self.slope)
        return self.fc_out(self.hook_post(post))

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

        def read(hook: HookPoint) -> HeadInputs:
            return self.ln1.normalize(hook(x[:, :, None].expand(-1, -1, self.cfg.n_heads, -1)))

        if self.cfg.use_attn_in:
            copies = read(self.attn.hook_attn_in)
            return copies, copies, copies
        return read(self.attn.hook_q_input), read(self.attn.hook_k_input), read(self.attn.hook_v_input)

    def _dropped(self, x: Residual) -> Residual:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

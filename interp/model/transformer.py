"""`HookedSymmetryBrokenTransformer`: GPT-2's or Llama's block with unlearned head biases, hooked as TransformerLens hooks.

Axes: batch; pos; layer; head_index; d_model, d_head, d_vocab (sizes).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.model.bias import HeadBias, bias_generator
from interp.model.circuits import Circuits
from interp.model.components import Embed, PosEmbed, TransformerBlock
from interp.model.config import ModelConfig, check_choice, check_number, shown
from interp.model.generation import Generation
from interp.model.hooking import HookMethods, HookPoint
from interp.model.norm import NORMS
from interp.model.tokens import Mask, PaddingSide, Positions, positions_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge
    from transformers import PreTrainedModel

ReturnType = Literal["logits", "loss", "both", None]


class HookedSymmetryBrokenTransformer(Circuits, Generation, HookMethods):
    """The `HookedTransformer` variant that is trained, loaded and looked into.

    Hook points are TransformerLens', and beyond them, on ``blocks.{l}.attn``: hook_bias_q, hook_bias_v, hook_q_biased,
    hook_v_biased, hook_q_aligned, hook_k_aligned, hook_v_aligned, hook_bias_scores. Every one can be edited with effect.

    In training mode the last draw of the biases is in force (`draw_biases`), in evaluation mode their mean, unless
    `bias` says otherwise.

    Args:
        config: sizes, choices, biases; the model keeps a copy as `cfg`.
        tokenizer: needed only to pass strings.

    Raises:
        InterpError: the weights need more memory than this machine has.
    """

    def __init__(self, config: ModelConfig, tokenizer: PreTrainedTokenizerFast | None = None) -> None:
        super().__init__()
        needed, memory = 4 * config.n_parameters, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > memory and torch.get_default_device().type == "cpu":
            raise InterpError(
                f"This model needs {needed / 1e9:,.0f} GB, this machine has {memory / 1e9:,.0f}; choose a smaller one."
            )
        self.cfg = copy(config)  # for the switches of hook points are this model's own
        self.tokenizer = tokenizer
        self.embed = Embed(config.d_vocab, config.d_model)
        self.hook_embed = HookPoint()  # [batch, pos, d_model]
        if config.positional == "learned":
            self.pos_embed = PosEmbed(config.n_ctx, config.d_model)
            self.hook_pos_embed = HookPoint()  # [batch, pos, d_model]
        self.blocks = nn.ModuleList([TransformerBlock(self.cfg) for _ in range(config.n_layers)])
        self.ln_final = NORMS[config.norm](config.d_model, config.eps)
        if not config.tied:
            self.unembedding = nn.Linear(config.d_model, config.d_vocab, bias=False)
        self.bias_q = HeadBias(config.q, config, config.n_heads)
        self.bias_v = HeadBias(config.v, config, config.kv_heads)
        self.bias_changes = ()
        self.register_buffer("bias_scale", torch.ones(config.n_layers, config.n_heads, 1), persistent=False)
        self.initialize()
        self.setup()

    def initialize(self) -> None:
        """Draw weights and biases from `cfg.seed`: N(0, init_range), residual projections scaled by 1/sqrt(2 n_layers)."""
        generator = torch.Generator().manual_seed(self.cfg.seed)
        for name, parameter in self.named_parameters():
            if name.endswith("slope"):
                nn.init.normal_(parameter, 0.2, 1.0, generator)
            elif parameter.ndim >= 2 and not name.endswith("bias"):
                residual = name.endswith(("attn.out.weight", "mlp.fc_out.weight"))
                scale = (2 * self.cfg.n_layers) ** -0.5 if residual else 1.0
                nn.init.normal_(parameter, 0.0, self.cfg.init_range * scale, generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        for bias in (self.bias_q, self.bias_v):
            bias.draw(bias_generator(self.cfg.seed, 0))

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, device: str = "auto") -> HookedSymmetryBrokenTransformer:
        """Load a checkpoint from a folder, by a bundled name or by a hub id: `interp.load_model` as a method.

        Raises:
            InterpError: there is none, or it is damaged.
        """
        from interp.model.checkpoint import load_model  # late: it makes objects of this class

        return load_model(path_or_name, device)

    def forward(
        self,
        input: str | list[str] | Int[Tensor, "batch pos"] | Int[Tensor, " pos"] | Float[Tensor, "batch pos d_model"],
        return_type: ReturnType = "logits",
        loss_per_token: bool = False,
        prepend_bos: bool | None = None,
        stop_at_layer: int | None = None,
        *,
        start_at_layer: int | None = None,
        tokens: Int[Tensor, "batch pos"] | None = None,
        attention_mask: Mask | None = None,
        padding_side: PaddingSide | None = None,
        past_kv_cache: TransformerLensKeyValueCache | None = None,
        bias_scale: float | Tensor | None = None,
    ) -> Any:
        """Run the model.

        Args:
            input: text, or token indices of at most n_ctx positions; with `start_at_layer` the residual stream.
            return_type: "logits" [batch, pos, d_vocab]; "loss", the mean cross-entropy of the next token in nats, in
                training mode with the balance of the experts, if there are any; "both", as a pair; or None.
            loss_per_token: give the loss as [batch, pos - 1], 0 where padding is predicted or predicts.
            prepend_bos: for text, whether it starts a document (default: `cfg.default_prepend_bos`, which is True).
            stop_at_layer: return the residual stream before this layer instead [batch, pos, d_model]; n_layers stops
                before the final norm, negative numbers count from the end.
            start_at_layer: take `input` for the residual stream before this layer, [batch, pos, d_model].
            tokens: what a loss is of, where `input` is not tokens.
            attention_mask: 1 for tokens, 0 for padding [batch, pos]. Texts of different lengths have theirs already.
            padding_side: of texts that are padded; for tokens, where to look for padding.
            past_kv_cache: keys and values of the positions before these, as `init_cache` makes it empty; it grows.
            bias_scale: times the biases in this pass, a number or [layer, head_index, 1]; see also `bias`.

        Raises:
            InterpError: more positions than n_ctx, text without a tokenizer, a loss without tokens, a layer that is not
                there, an input that is neither text nor tokens (with `start_at_layer`: no residual stream), an argument
                that is none of those named, or a past of grouped heads that was not made by `init_cache`.
        """
        check_choice("return_type", return_type, get_args(ReturnType))
        layers = self._layers(start_at_layer, stop_at_layer)
        if start_at_layer is None:
            if tokens is not None:
                raise InterpError(
                    "tokens=... goes with a residual stream; without start_at_layer, the input is the tokens."
                )
            tokens, known = self._tokens_of(input, prepend_bos, padding_side)
            attention_mask = known if attention_mask is None else attention_mask
            positions = positions_of(tokens, attention_mask, past_kv_cache, self.cfg.n_ctx)
            residual = self._embed(tokens, positions)
        else:
            residual = self._stream(input, tokens)
            positions = positions_of(residual, attention_mask, past_kv_cache, self.cfg.n_ctx)
        if past_kv_cache is not None and (kept := past_kv_cache[0].past_keys.shape[2]) != self.cfg.n_heads:
            raise InterpError(
                f"past_kv_cache has {kept} heads, this model {self.cfg.n_heads}: keys and values are kept for each head "
                "that reads them; make it with interp.model.tokens.init_cache."
            )
        bias_q, bias_v = self.biases_in_force()
        if bias_scale is not None:
            bias_q, bias_v = bias_q * bias_scale, bias_v * bias_scale
        for index in layers:
            past = None if past_kv_cache is None else past_kv_cache[index]
            residual = self.blocks[index](residual, bias_q[index], bias_v[index], positions, past)
        if stop_at_layer is not None:
            return residual
        logits = self.unembed(self.ln_final(residual))  # [batch, pos, d_vocab]
        if return_type in (None, "logits"):
            return logits if return_type else None
        if tokens is None:
            raise InterpError("A loss needs to know the tokens; pass tokens=... beside the residual stream.")
        loss = self.loss_fn(logits, tokens, attention_mask, loss_per_token)
        if self.training and self.cfg.num_experts and not loss_per_token:
            loss = loss + self.cfg.load_balancing * self.experts_balance
        return loss if return_type == "loss" else (logits, loss)

    @property
    def experts_balance(self) -> Float[Tensor, ""]:
        """How unevenly the experts were used in the last pass in training mode: 1 when evenly, the mean over layers.

        Times `cfg.load_balancing` it is part of the loss in training mode; see `interp.model.experts`.
        """
        layers: list[Any] = [block.mlp for block in self.blocks]
        return torch.stack([layer.balance for layer in layers]).mean()

    def _layers(self, start: int | None, stop: int | None) -> range:
        """Return the layers to run."""
        n_layers = self.cfg.n_layers
        for name, layer in (("start_at_layer", start), ("stop_at_layer", stop)):
            if layer is not None:
                check_number(f"In a model of n_layers {n_layers}, {name}", layer, -n_layers, n_layers, whole=True)
        layers = range(n_layers)[start:stop]
        if layers.start > layers.stop:
            raise InterpError(f"start_at_layer {start} is behind stop_at_layer {stop}; exchange them.")
        return layers

    def _stream(self, input: Any, tokens: Tensor | None) -> Float[Tensor, "batch pos d_model"]:
        """Return an input that is a residual stream, refusing what is none."""
        shape = f"[batch, pos, {self.cfg.d_model}]"
        if not isinstance(input, Tensor):
            raise InterpError(
                f"start_at_layer takes the residual stream {shape}, not text; the input is {shown(input)}."
            )
        if input.ndim != 3 or input.shape[-1] != self.cfg.d_model or not input.is_floating_point():
            raise InterpError(
                f"start_at_layer takes the residual stream {shape}, not tokens; the input is {shown(input)}."
            )
        if tokens is not None and tokens.shape != input.shape[:2]:
            raise InterpError(
                f"The tokens are {shown(tokens)}; the residual stream has {list(input.shape[:2])} of them."
            )
        return input

    def _embed(self, tokens: Tensor, positions: Positions | None) -> Float[Tensor, "batch pos d_model"]:
        embedded = self.hook_embed(self.embed(tokens))
        if self.cfg.positional == "learned":
            if positions is None:
                places = self.pos_embed.weight[: tokens.shape[1]].expand(len(tokens), -1, -1)
            else:
                places = self.pos_embed(positions.ids)
            embedded = embedded + self.hook_pos_embed(places)
        return F.dropout(embedded, self.cfg.dropout, self.training and self.cfg.dropout > 0)

    def loss_fn(
        self,
        logits: Float[Tensor, "batch pos d_vocab"],
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Mask | None = None,
        per_token: bool = False,
    ) -> Float[Tensor, ""] | Float[Tensor, "batch predicted_pos"]:
        """Return the cross-entropy of the next token in nats: its mean over real tokens, or [batch, pos - 1].

        Per token it is 0 where padding is predicted or predicts.
        """
        exact = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
        loss = F.cross_entropy(exact, tokens[:, 1:].flatten(), reduction="none")
        if attention_mask is None:
            return loss.view(len(tokens), -1) if per_token else loss.mean()
        real = (attention_mask[:, :-1] * attention_mask[:, 1:]).flatten()
        return (loss * real).view(len(tokens), -1) if per_token else (loss * real).sum() / real.sum()

    def to_bridge(self) -> TransformerBridge:
        """Return TransformerLens' `TransformerBridge` with the same logits, on copies of the weights.

        The biases in force in evaluation mode are folded into its b_Q and b_V. With RoPE b_Q is added after the rotation
        and cannot be: it stays beside them (see `interp.model.export.bridge`). Logits are equal but for rounding: in float32
        within 1e-5 (1 + |logit|), in float64 within 1e-12 for GPT-2's block; Llama's is computed in float32 in parts.

        Raises:
            InterpError: the block is neither GPT-2's nor Llama's, as TransformerLens' bridges are.
        """
        from interp.model.export.bridge import to_bridge  # late: few need it, and importing it takes a second

        return to_bridge(self)

    def to_huggingface(self) -> PreTrainedModel:
        """Return Hugging Face's GPT2LMHeadModel with the same logits, or its Llama, Qwen2 or Qwen3 where that is the block.

        The biases are folded into its own.

        Raises:
            InterpError: the model has what these do not know, such as a PReLU, or a b_Q beside RoPE.
        """
        from interp.model.export.huggingface import to_huggingface  # late, like the bridge

        return to_huggingface(self)

    def _apply(self, fn: Callable, recurse: bool = True) -> HookedSymmetryBrokenTransformer:
        """Move or cast, as torch does for `to`, `cuda`, `half`, and keep `cfg.device` and `cfg.dtype` true."""
        super()._apply(fn, recurse)
        self.cfg.device, self.cfg.dtype = self.embed.weight.device, self.embed.weight.dtype
        return self


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every entry of a model's `state_dict`, without the memory of one."""
    with torch.device("meta"):
        state = HookedSymmetryBrokenTransformer(config).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}

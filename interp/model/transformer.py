"""`HookedSymmetryBrokenTransformer`: a GPT-2 shaped model with unlearned head biases, hooked as TransformerLens hooks.

Axes: batch; pos; layer; head_index; d_model, d_head, d_vocab (sizes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError, nearest
from interp.model.bias import BiasSource, HeadBias, bias_generator
from interp.model.components import LayerNorm, TransformerBlock
from interp.model.config import ModelConfig
from interp.model.tokens import TokenMethods
from interp.model.weights import WeightAccessors

ReturnType = Literal["logits", "loss", "both"] | None


class HookedSymmetryBrokenTransformer(WeightAccessors, TokenMethods, HookedRootModule):
    """The `HookedTransformer` variant that is trained, loaded and looked into.

    Hook points are TransformerLens', and beyond them, on ``blocks.{l}.attn``: hook_bias_q, hook_bias_v, hook_q_biased,
    hook_v_biased, hook_q_aligned, hook_k_aligned, hook_v_aligned, hook_bias_scores. Every one can be edited with effect.

    In training mode the last draw of the biases is in force (`draw_biases`), in evaluation mode their mean, unless
    `bias` says otherwise.

    Args:
        config: sizes, choices, biases.
        tokenizer: needed only to pass strings.
    """

    bias_q: HeadBias
    bias_v: HeadBias
    bias_scale: Tensor  # [layer, head_index, 1]

    def __init__(self, config: ModelConfig, tokenizer: PreTrainedTokenizerFast | None = None) -> None:
        super().__init__()
        self.cfg = config
        self.tokenizer = tokenizer
        self.embed = nn.Embedding(config.d_vocab, config.d_model)
        self.hook_embed = HookPoint()  # [batch, pos, d_model]
        if config.positional == "learned":
            self.pos_embed = nn.Embedding(config.n_ctx, config.d_model)
            self.hook_pos_embed = HookPoint()  # [batch, pos, d_model]
        self.blocks = nn.ModuleList([TransformerBlock(config) for _ in range(config.n_layers)])
        self.ln_final = LayerNorm(config.d_model, config.eps)
        self.bias_q = HeadBias(config.q, config)
        self.bias_v = HeadBias(config.v, config)
        self.bias_source: BiasSource | None = None  # None: the draw in training mode, the mean in evaluation mode
        self.register_buffer("bias_scale", torch.ones(config.n_layers, config.n_heads, 1), persistent=False)
        self.initialize()
        self.setup()

    def initialize(self) -> None:
        """Draw weights and biases from `cfg.seed`: N(0, init_range), residual projections scaled by 1/sqrt(2 n_layers)."""
        generator = torch.Generator().manual_seed(self.cfg.seed)
        for name, parameter in self.named_parameters():
            if name.endswith("slope"):
                nn.init.normal_(parameter, 0.2, 1.0, generator)
            elif parameter.ndim == 2:
                residual = name.endswith(("attn.out.weight", "mlp.fc_out.weight"))
                scale = (2 * self.cfg.n_layers) ** -0.5 if residual else 1.0
                nn.init.normal_(parameter, 0.0, self.cfg.init_range * scale, generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        for bias in (self.bias_q, self.bias_v):
            bias.draw(bias_generator(self.cfg.seed, 0))

    def forward(
        self,
        input: str | list[str] | Int[Tensor, "batch pos"] | Int[Tensor, " pos"],
        return_type: ReturnType = "logits",
        loss_per_token: bool = False,
        prepend_bos: bool | None = None,
        stop_at_layer: int | None = None,
    ) -> Any:
        """Run the model.

        Args:
            input: text, or token indices of at most n_ctx positions.
            return_type: "logits" [batch, pos, d_vocab]; "loss", the mean cross-entropy of the next token in nats;
                "both", as a pair; or None.
            loss_per_token: give the loss as [batch, pos - 1].
            prepend_bos: for text, whether it starts a document (default: yes).
            stop_at_layer: return the residual stream before this layer instead [batch, pos, d_model]; n_layers stops
                before the final norm, negative numbers count from the end.

        Raises:
            InterpError: more positions than n_ctx, or text without a tokenizer.
        """
        tokens = self._tokens_of(input, prepend_bos)
        residual = F.dropout(self._embed(tokens), self.cfg.dropout, self.training and self.cfg.dropout > 0)
        bias_q, bias_v = self.biases_in_force()
        for block, query, value in zip(self.blocks[:stop_at_layer], bias_q, bias_v, strict=False):
            residual = block(residual, query, value)
        if stop_at_layer is not None:
            return residual
        logits = F.linear(self.ln_final(residual), self.embed.weight)  # [batch, pos, d_vocab]
        return self._returned(logits, tokens, return_type, loss_per_token)

    def draw_biases(self, step: int, seed: int | None = None) -> None:
        """Draw the biases of modes "batch" for this optimizer step, all layers at once, before the forward pass."""
        generator = bias_generator(self.cfg.seed if seed is None else seed, step)
        for bias in (self.bias_q, self.bias_v):
            if bias.config.mode == "batch":
                bias.draw(generator)

    def biases_in_force(
        self,
    ) -> tuple[Float[Tensor, "layer head_index d_head"], Float[Tensor, "layer head_index d_head"]]:
        """Return b_Q and b_V as the next forward pass adds them."""
        source = self.bias_source or ("sample" if self.training else "mean")
        return self.bias_q(source) * self.bias_scale, self.bias_v(source) * self.bias_scale

    @contextmanager
    def bias(
        self,
        scale: float = 1.0,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        bias: BiasSource | None = None,
    ) -> Iterator[HookedSymmetryBrokenTransformer]:
        """Change the biases inside a with block; blocks nest by multiplying scales, and everything is restored after.

        Args:
            scale: 0 removes the biases, 1 leaves them, 2 doubles them.
            layers, heads: where the scale acts (default: everywhere).
            bias: which biases are in force: "mean", "sample" (the last draw) or "none".
        """
        before = self.bias_source, self.bias_scale.clone()
        rows = torch.tensor(range(self.cfg.n_layers) if layers is None else layers)
        columns = torch.tensor(range(self.cfg.n_heads) if heads is None else heads)
        try:
            self.bias_source = bias or self.bias_source
            self.bias_scale[rows[:, None], columns[None, :]] *= scale
            yield self
        finally:
            self.bias_source = before[0]
            self.bias_scale.copy_(before[1])

    def run_with_cache(  # type: ignore[override]
        self, *model_args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, ActivationCache | dict[str, Tensor]]:
        """Run and return (output, ActivationCache); arguments are TransformerLens'.

        Raises:
            InterpError: `names_filter` names a hook point that does not exist.
        """
        self._check_hook_names(kwargs.get("names_filter"))
        output, cache = super().run_with_cache(*model_args, remove_batch_dim=remove_batch_dim, **kwargs)
        if not return_cache_object:
            return output, cache
        return output, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    @contextmanager
    def hooks(  # type: ignore[override]
        self,
        fwd_hooks: Sequence[tuple[str | Callable, Callable]] = (),
        bwd_hooks: Sequence[tuple[str | Callable, Callable]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[HookedSymmetryBrokenTransformer]:
        """Attach hooks inside a with block; arguments are TransformerLens'.

        Raises:
            InterpError: a name that is no hook point, with the nearest one.
        """
        self._check_hook_names([name for name, _ in [*fwd_hooks, *bwd_hooks]])
        with super().hooks(list(fwd_hooks), list(bwd_hooks), reset_hooks_end, clear_contexts):
            yield self

    def add_hook(self, name: str | Callable[[str], bool], *args: Any, **kwargs: Any) -> None:
        """Attach a hook until `reset_hooks`; arguments are TransformerLens'.

        Raises:
            InterpError: a name that is no hook point, with the nearest one.
        """
        self._check_hook_names(name)
        super().add_hook(name, *args, **kwargs)

    def _check_hook_names(self, names: str | Callable | Iterable[str | Callable] | None) -> None:
        for name in [names] if isinstance(names, str) or callable(names) else names or []:
            if isinstance(name, str) and name not in self.hook_dict:
                raise InterpError(
                    f"There is no hook point {name!r}{nearest(name, self.hook_dict)}; see model.hook_dict."
                )
            if callable(name) and not any(map(name, self.hook_dict)):
                raise InterpError("The names filter matches no hook point; see model.hook_dict for the names.")

    def _embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        embedded = self.hook_embed(self.embed(tokens))
        if self.cfg.positional == "rope":
            return embedded
        positions = self.pos_embed.weight[: tokens.shape[1]].expand(len(tokens), -1, -1)
        return embedded + self.hook_pos_embed(positions)

    def _returned(self, logits: Tensor, tokens: Tensor, return_type: ReturnType, loss_per_token: bool) -> Any:
        if return_type is None:
            return None
        if return_type == "logits":
            return logits
        loss = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        loss = loss.view(len(tokens), -1) if loss_per_token else loss.mean()
        return loss if return_type == "loss" else (logits, loss)

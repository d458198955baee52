"""TransformerLens' ActivationCache for a model with biases: what the parts write sums to the logits.

Two things differ from TransformerLens' class. `b_V W_O`, which every position receives (`model.bias_OV`), is a part of
its own and not hidden in the attention output: "{layer}_bias_v" in `decompose_resid`, "bias_v" in
`get_full_resid_decomposition`. And since the weight w of a norm is not folded into the matrices after it, applying a
norm to a stack multiplies by w; its shift b is no component's, and `logit_bias` gives what it adds to the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.utilities.slice import Slice

from interp.errors import InterpError
from interp.model.config import ModelConfig

UNBATCHED = ("hook_bias_q", "hook_bias_v")  # [head_index, d_head]
HEAD_NORMS = ("q_norm", "k_norm")  # whose hook points have an axis of heads
PER_HEAD = (
    "hook_q", "hook_k", "hook_v", "hook_rot_q", "hook_rot_k", "hook_q_biased", "hook_v_biased", "hook_z", "hook_result",
    "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input",
)  # fmt: skip

ALIASES = {  # other names of TransformerLens: what is seen and edited is the same
    # where `get_act_name` looks for what the heads read
    "blocks.{}.hook_attn_in": "blocks.{}.attn.hook_attn_in",
    "blocks.{}.hook_q_input": "blocks.{}.attn.hook_q_input",
    "blocks.{}.hook_k_input": "blocks.{}.attn.hook_k_input",
    "blocks.{}.hook_v_input": "blocks.{}.attn.hook_v_input",
    # since 4.0, what goes into a component and comes out of it
    "embed.hook_out": "hook_embed",
    "pos_embed.hook_out": "hook_pos_embed",
    "blocks.{}.hook_in": "blocks.{}.hook_resid_pre",
    "blocks.{}.ln1.hook_out": "blocks.{}.ln1.hook_normalized",
    "blocks.{}.attn.hook_in": "blocks.{}.ln1.hook_normalized",
    "blocks.{}.attn.q.hook_out": "blocks.{}.attn.hook_q",
    "blocks.{}.attn.k.hook_out": "blocks.{}.attn.hook_k",
    "blocks.{}.attn.v.hook_out": "blocks.{}.attn.hook_v",
    "blocks.{}.attn.o.hook_in": "blocks.{}.attn.hook_z",
    "blocks.{}.attn.o.hook_out": "blocks.{}.hook_attn_out",
    "blocks.{}.attn.hook_hidden_states": "blocks.{}.hook_attn_out",
    "blocks.{}.attn.hook_out": "blocks.{}.hook_attn_out",
    "blocks.{}.ln2.hook_in": "blocks.{}.hook_mlp_in",  # an edit is not one of hook_resid_mid: the stream keeps its own
    "blocks.{}.ln2.hook_out": "blocks.{}.ln2.hook_normalized",
    "blocks.{}.mlp.hook_in": "blocks.{}.ln2.hook_normalized",
    "blocks.{}.mlp.out.hook_out": "blocks.{}.hook_mlp_out",
    "blocks.{}.mlp.hook_out": "blocks.{}.hook_mlp_out",
    "blocks.{}.hook_out": "blocks.{}.hook_resid_post",
    "ln_final.hook_in": "blocks.{}.hook_resid_post",  # of the last layer
    "ln_final.hook_out": "ln_final.hook_normalized",
    "unembed.hook_in": "ln_final.hook_normalized",
}


ALIASES_OF_MLP = {  # by whether it has a gate; then what only its one map reads has no hook point; None: experts
    None: {},
    False: {
        "blocks.{}.mlp.out.hook_in": "blocks.{}.mlp.hook_post",
        "blocks.{}.mlp.in.hook_in": "blocks.{}.ln2.hook_normalized",
        "blocks.{}.mlp.in.hook_out": "blocks.{}.mlp.hook_pre",
    },
    True: {
        "blocks.{}.mlp.out.hook_in": "blocks.{}.mlp.hook_post",
        "blocks.{}.mlp.gate.hook_out": "blocks.{}.mlp.hook_pre",
        "blocks.{}.mlp.in.hook_out": "blocks.{}.mlp.hook_pre_linear",
    },
}


def aliases(cfg: ModelConfig) -> dict[str, str]:
    """Return the hook point that each other name of TransformerLens stands for in such a model."""
    return _aliases(cfg.n_layers, None if cfg.num_experts else cfg.gated_mlp)


@cache
def _aliases(n_layers: int, gated_mlp: bool | None) -> dict[str, str]:
    names = ALIASES | ALIASES_OF_MLP[gated_mlp]
    return {
        alias.format(layer): name.format(layer) for layer in range(n_layers) for alias, name in names.items()
    }  # the last layer is the last to be written


def is_unbatched(name: str) -> bool:
    """Whether a hook point's value has no axis of batch: the biases, and the rows of an expert."""
    return name.endswith(UNBATCHED) or ".experts." in name


def pos_dim(name: str) -> int | None:
    """Return the (negative) axis of positions of a hook point's value, or None if it has none to slice."""
    *inside, last = name.removesuffix("_grad").split(".")
    if inside and inside[-1] in HEAD_NORMS:
        return -3
    if last == "hook_bias_scores" or is_unbatched(name):
        return None
    return -3 if last in PER_HEAD else -2


class SymmetryBrokenCache(ActivationCache):
    """The activations of a run, by hook point name."""

    def __getitem__(self, key: Any) -> Tensor:
        """Return an activation by name, by another name of TransformerLens, or by its shorthand, such as ("pattern", 0)."""
        try:
            return super().__getitem__(key)
        except KeyError as missing:
            name, gradient, _ = missing.args[0].partition("_grad")
            known = self.cache_dict.get(aliases(cast(ModelConfig, self.model.cfg)).get(name, name) + gradient)
            if known is None:
                raise
            return known

    def __contains__(self, key: object) -> bool:
        """Whether indexing with this key gives an activation."""
        try:
            self[key]
        except (KeyError, TypeError, IndexError):
            return False
        return True

    def remove_batch_dim(self, batch_size: int | None = None) -> SymmetryBrokenCache:
        """Remove the batch dimension of a single row; the biases have none."""
        with self._biases_aside():
            super().remove_batch_dim(batch_size)
        return self

    def apply_slice_to_batch_dim(self, batch_slice: Any) -> SymmetryBrokenCache:
        """Return a cache of some rows of the batch."""
        with self._biases_aside() as biases:
            sliced = super().apply_slice_to_batch_dim(batch_slice)
        return SymmetryBrokenCache({**sliced.cache_dict, **biases}, self.model, sliced.has_batch_dim)

    @contextmanager
    def _biases_aside(self) -> Iterator[dict[str, Tensor]]:
        biases = {name: self.cache_dict.pop(name) for name in list(self.cache_dict) if is_unbatched(name)}
        try:
            yield biases
        finally:
            self.cache_dict.update(biases)

    def bias_constants(self, layer: int) -> Float[Tensor, "head_index d_model"] | None:
        """Return b_V W_O of a layer as this run added it; None if the run did not cache `hook_bias_v`."""
        bias = self.cache_dict.get(f"blocks.{layer}.attn.hook_bias_v")
        if bias is None or not bool(bias.any()):
            return None
        return torch.einsum("hd,hdm->hm", bias, self.model.blocks[layer].attn.W_O)

    def decompose_resid(  # type: ignore[override]
        self, layer: int | None = None, mlp_input: bool = False, mode: str = "all", apply_ln: bool = False,
        pos_slice: Any = None, incl_embeds: bool = True, return_labels: bool = False,
    ) -> Any:  # fmt: skip
        """Decompose the residual stream before a layer; arguments are TransformerLens'.

        After each "{layer}_attn_out" follows "{layer}_bias_v", the constant b_V W_O that is left out of it (where the
        run had a b_V and cached it).
        """
        stack, labels = super().decompose_resid(
            layer, mlp_input, mode, False, pos_slice, incl_embeds, return_labels=True  # type: ignore[arg-type]
        )  # fmt: skip
        parts = [part for row, label in zip(stack, labels, strict=True) for part in self._split(row, str(label))]
        stack, labels = torch.stack([row for row, _ in parts]), [label for _, label in parts]
        if apply_ln:
            stack = self.apply_ln_to_stack(stack, layer, pos_slice=pos_slice, mlp_input=mlp_input)
        return (stack, labels) if return_labels else stack

    def _split(self, row: Tensor, label: str) -> list[tuple[Tensor, str]]:
        number = label.removesuffix("_attn_out")
        constants = self.bias_constants(int(number)) if number != label else None
        if constants is None:
            return [(row, label)]
        constant = constants.sum(0).expand_as(row)
        return [(row - constant, label), (constant, f"{number}_bias_v")]

    def get_neuron_results(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Return what each neuron of a layer writes to the residual stream; arguments are TransformerLens'.

        Raises:
            InterpError: there are experts, of which each token has its own.
        """
        self._check_neurons()
        return super().get_neuron_results(*arguments, **keywords)

    def stack_neuron_results(self, *arguments: Any, **keywords: Any) -> Any:
        """Return what the neurons of all layers before one write; arguments are TransformerLens'.

        Raises:
            InterpError: there are experts, of which each token has its own.
        """
        self._check_neurons()
        return super().stack_neuron_results(*arguments, **keywords)

    def _check_neurons(self) -> None:
        if self.model.cfg.num_experts:
            raise InterpError(
                "Each token has neurons of its own experts, which do not stack; decompose with expand_neurons=False, or "
                "read blocks.N.mlp.experts.E.hook_post."
            )

    def get_full_resid_decomposition(  # type: ignore[override]
        self, layer: int | None = None, mlp_input: bool = False, expand_neurons: bool = True, apply_ln: bool = False,
        pos_slice: Any = None, return_labels: bool = False, project_output_onto: Tensor | None = None,
    ) -> Any:  # fmt: skip
        """Decompose into heads, neurons, embeddings and biases; arguments are TransformerLens'.

        Before the last row, "bias" (the learned b_O and b_out), stands "bias_v": b_V W_O of all heads, which is left
        out of the heads' rows (where the run had a b_V and cached it).
        """
        stack, labels = super().get_full_resid_decomposition(
            layer, mlp_input, expand_neurons, apply_ln, pos_slice, True, project_output_onto
        )
        n_layers = self.model.cfg.n_layers
        depth = (n_layers if layer in (None, -1) else layer) + mlp_input
        found = [self.bias_constants(index) for index in range(depth)]
        if any(constants is not None for constants in found):
            empty = stack.new_zeros(self.model.cfg.n_heads, self.model.cfg.d_model)
            rows = torch.cat([empty if constants is None else constants for constants in found])
            rows = self._seen(rows, stack, layer, mlp_input, apply_ln, pos_slice, project_output_onto)
            heads, rest = stack[: len(rows)] - rows, stack[len(rows) : -1]
            stack = torch.cat([heads, rest, rows.sum(0, keepdim=True), stack[-1:]])
            labels = [*labels[:-1], "bias_v", labels[-1]]
        return (stack, labels) if return_labels else stack

    def _seen(
        self, rows: Tensor, stack: Tensor, layer: int | None, mlp_input: bool, apply_ln: bool, pos_slice: Any,
        project_output_onto: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Put constants [component, d_model] through the norm and projection that the rows of a stack went through."""
        axes = stack.ndim - (1 if project_output_onto is not None and project_output_onto.ndim == 1 else 2)
        shape = (len(rows), *stack.shape[1 : 1 + axes], rows.shape[-1])
        rows = rows.view(len(rows), *[1] * axes, -1).expand(shape)
        rows = self.apply_ln_to_stack(rows, layer, mlp_input, pos_slice) if apply_ln else rows
        return rows if project_output_onto is None else rows @ project_output_onto

    def apply_ln_to_stack(  # type: ignore[override]
        self, residual_stack: Tensor, layer: int | None = None, mlp_input: bool = False, pos_slice: Any = None,
        batch_slice: Any = None, has_batch_dim: bool = True, recompute_ln: bool = False,
    ) -> Tensor:  # fmt: skip
        """Apply a norm to components, with the scale of the run and the norm's weight; arguments are TransformerLens'.

        The shift of the norm is left out, for it belongs to no component (with `recompute_ln` it is not: then each
        component is put through the norm as it is).
        """
        norm = self._norm(layer, mlp_input)
        if recompute_ln and norm is self.model.ln_final:
            return super().apply_ln_to_stack(
                residual_stack, layer, mlp_input, pos_slice, batch_slice, has_batch_dim, True
            )
        places, rows = (part if isinstance(part, Slice) else Slice(part) for part in (pos_slice, batch_slice))
        stack = rows.apply(residual_stack, dim=1) if has_batch_dim else residual_stack
        scale = self._get_cached_ln_scale(None if layer == -1 else layer, mlp_input, places, rows)
        return norm.linearize(1 / scale)(stack)

    def _norm(self, layer: int | None, mlp_input: bool = False) -> Any:
        if layer in (None, -1, self.model.cfg.n_layers):
            return self.model.ln_final
        block = self.model.blocks[layer]
        return block.ln2 if mlp_input else block.ln1

    def _stack_neuron_results_apply_ln_projected(
        self, layer: int, pos_slice: Slice, neuron_slice: Slice, project_2d: Tensor, mlp_input: bool = False
    ) -> Tensor:
        weighted = self._norm(layer, mlp_input).w[:, None] * project_2d
        return super()._stack_neuron_results_apply_ln_projected(layer, pos_slice, neuron_slice, weighted, mlp_input)

    def logit_bias(self, tokens: str | int | Tensor, incorrect_tokens: str | int | Tensor | None = None) -> Tensor:
        """Return what no component gives to the logits of `tokens`: the shift of the final norm, unembedded.

        A decomposition's `logit_attrs` sum to the logits less this. TransformerLens folds it into b_U.
        """
        direction = self.model.tokens_to_residual_directions(tokens)
        if incorrect_tokens is not None:
            direction = direction - self.model.tokens_to_residual_directions(incorrect_tokens)
        return direction @ self.model.ln_final.b

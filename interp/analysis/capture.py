"""Visit queries and keys of every layer while the model runs once, and hold no more than one layer of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.model.transformer import HookedSymmetryBrokenTransformer

HeadVectors = Float[Tensor, "batch pos head_index d_head"]
Visit = Callable[[int, HeadVectors, HeadVectors], None]


@torch.no_grad()
def visit_queries_and_keys(
    model: HookedSymmetryBrokenTransformer, tokens: Int[Tensor, "batch pos"], visit: Visit
) -> None:
    """Run the model up to the keys of the last layer and call ``visit(layer, q, k)`` in every layer.

    q and k have shape [batch, pos, head_index, d_head]; q is without the unlearned bias, both are after RoPE's rotation.
    """
    part = "hook_rot_" if model.cfg.positional == "rope" else "hook_"
    queries: list[HeadVectors] = []

    def keep(q: HeadVectors, hook: HookPoint) -> None:
        queries.append(q)

    def meet(k: HeadVectors, hook: HookPoint) -> None:
        visit(hook.layer(), queries.pop(), k)
        if hook.layer() == model.cfg.n_layers - 1:
            raise _SeenAll

    layers = range(model.cfg.n_layers)
    hooks = [
        (f"blocks.{layer}.attn.{part}{name}", hook) for layer in layers for name, hook in (("q", keep), ("k", meet))
    ]
    with model.hooks(fwd_hooks=hooks), suppress(_SeenAll):
        model(tokens, return_type=None)


class _SeenAll(Exception):  # noqa: N818 - nothing went wrong: what comes after the last keys is not needed
    """Leaves the forward pass."""

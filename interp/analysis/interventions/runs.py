"""Run a model many times over the same text with changed biases, each time from the first layer that is changed.

What the layers before it make of the text is that of the unchanged run, whose residual stream is kept before every layer.
Runs that begin at the same layer go side by side, stacked along the batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.model.transformer import HookedSymmetryBrokenTransformer

HeadVectors = Float[Tensor, "batch pos head_index d_head"]
Stream = Float[Tensor, "batch pos d_model"]
See = Callable[[int, HeadVectors, HeadVectors], None]
"""Called as ``see(layer, q, k)`` in every layer that runs, q with the bias, both after RoPE's rotation."""


@dataclass(frozen=True)
class Runs:
    """The different runs behind a list of changes.

    Attributes:
        changes: what each run adds to b_Q (0) and b_V (1), [run, 2, layer, head_index, d_head].
        of: the run of each change in the list; run `unchanged` adds nothing.
        first: the first layer that each run changes; n_layers for the unchanged run.
    """

    changes: Float[Tensor, "run 2 layer head_index d_head"]
    of: list[int]
    unchanged: int
    first: list[int]

    def stacks(self, size: int) -> Iterator[tuple[int, list[int]]]:
        """Yield (first layer, runs) of at most `size` runs that begin at the same layer, without the unchanged run."""
        for layer in range(self.changes.shape[2]):
            runs = [run for run, first in enumerate(self.first) if first == layer and run != self.unchanged]
            yield from ((layer, runs[start : start + size]) for start in range(0, len(runs), size))


def runs_of(changes: Sequence[Float[Tensor, "2 layer head_index d_head"]]) -> Runs:
    """Return the runs that these changes need: equal changes share one, and so do all that change nothing."""
    listed = torch.stack([torch.zeros_like(changes[0]), *changes])
    different, of = torch.unique(listed.flatten(1), dim=0, return_inverse=True)
    different = different.unflatten(1, listed.shape[1:])
    changed = different.ne(0).any(-1).any(-1).any(1)  # [run, layer]
    layers = changed.shape[1]
    first = [min([*row.nonzero().flatten().tolist(), layers]) for row in changed]
    return Runs(different, of[1:].tolist(), int(of[0]), first)


@torch.no_grad()
def run_unchanged(model: HookedSymmetryBrokenTransformer, tokens: Int[Tensor, "batch pos"], see: See) -> list[Stream]:
    """Run the model as it is; return the residual stream before every layer, and after the last."""
    streams: list[Stream] = []

    def keep(stream: Stream, hook: HookPoint) -> None:
        streams.append(stream)

    hooks = [(f"blocks.{layer}.hook_resid_pre", keep) for layer in range(model.cfg.n_layers)]
    with model.hooks(fwd_hooks=[*hooks, *_hooks(model, 0, None, see)]):
        last = model(tokens, stop_at_layer=model.cfg.n_layers)
    return [*streams, last]


@torch.no_grad()
def run_changed(
    model: HookedSymmetryBrokenTransformer,
    stream: Stream,
    first: int,
    changes: Float[Tensor, "run 2 layer head_index d_head"],
    see: See,
) -> Float[Tensor, "run batch pos d_model"]:
    """Run the model from layer `first` on once for each of the changes; return the residual streams after the last layer.

    `see` gets the runs along the batch axis, all contexts of the first run, then all of the second.
    """
    rows = stream.repeat(len(changes), 1, 1)  # [run * batch, pos, d_model]
    added = changes.repeat_interleave(len(stream), 0)
    with model.hooks(fwd_hooks=_hooks(model, first, added, see)):
        last = model(rows, start_at_layer=first, stop_at_layer=model.cfg.n_layers)
    return last.unflatten(0, (len(changes), -1))


def _hooks(
    model: HookedSymmetryBrokenTransformer,
    first: int,
    added: Float[Tensor, "row 2 layer head_index d_head"] | None,
    see: See,
) -> list[tuple[str, Callable]]:
    """Return hooks that add each row's changes to the biases and show queries and keys to `see`."""
    keys: list[HeadVectors] = []

    def keep_keys(k: HeadVectors, hook: HookPoint) -> None:
        keys.append(k)

    def change_queries(q: HeadVectors, hook: HookPoint) -> HeadVectors:
        q = q if added is None else q + added[:, 0, hook.layer(), None]
        see(hook.layer(), q, keys.pop())
        return q

    def change_values(v: HeadVectors, hook: HookPoint) -> HeadVectors:
        return v if added is None else v + added[:, 1, hook.layer(), None]

    key = "hook_rot_k" if model.cfg.positional == "rope" else "hook_k"
    each = [(key, keep_keys), ("hook_q_biased", change_queries), ("hook_v_biased", change_values)]
    layers = range(first, model.cfg.n_layers)
    return [(f"blocks.{layer}.attn.{name}", hook) for layer in layers for name, hook in each]

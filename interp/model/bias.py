"""The unlearned biases b_Q and b_V: drawn for all layers at once from (seed, step), and which of them are in force.

Because a draw happens outside of the forward pass and writes into a buffer in place, a compiled forward has no graph
break, every rank of a distributed run has the same bias, and a resumed run draws what the first run would have drawn.
Source: Silverstein, Kunin, Shyam, arXiv 2601.22257.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.errors import InterpError, check_choice, shown
from interp.model.config import BiasConfig, ModelConfig
from interp.options import COMPONENT, SOURCES

Biases = Float[Tensor, "layer head_index d_head"]
Heads = Bool[Tensor, "layer head_index 1"]
BiasSource = str  # one of SOURCES, or of `component_names` of a model whose biases have several directions
Replacement = BiasSource | Tensor | tuple[BiasSource | Tensor | None, BiasSource | Tensor | None]
Self = TypeVar("Self", bound="BiasControl")


def bias_generator(seed: int, step: int, micro_batch: int = 0) -> torch.Generator:
    """Return a CPU generator keyed by (seed, step, micro_batch): the same stream on every device and rank."""
    entropy = [seed, step, micro_batch] if micro_batch else [seed, step]
    (key,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(key >> np.uint64(1)))


class HeadBias(nn.Module):
    """The bias that one projection (queries or values) of every layer receives.

    Its `value` is the last draw (mode "batch", not saved), the one draw (mode "fixed", saved) or a parameter that
    starts at a draw (mode "learned"); shape [n_layers, heads or 1, d_head], where `heads` is how many the projection has:
    with grouped heads fewer values than queries. Heads that read the same values receive the same.

    `components` are the means of its directions, shape [directions, d_head], and `mean` is the mean of these.
    """

    components: Tensor
    mean: Tensor
    std: Tensor
    value: Tensor

    def __init__(self, config: BiasConfig, cfg: ModelConfig, heads: int) -> None:
        super().__init__()
        self.config = config
        self.n_heads = cfg.n_heads
        value = torch.zeros(cfg.n_layers, 1 if config.shared_across_heads else heads, cfg.d_head)
        components, std = config.components(cfg.d_head), config.profile("std", cfg.d_head)
        profiles = {"components": components, "mean": components.double().mean(0).float(), "std": std}
        for (
            name,
            profile,
        ) in profiles.items():  # on one device, also where that is torch.device("meta") around all of it
            self.register_buffer(name, profile.to(value.device), persistent=False)
        if config.mode == "learned":
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value, persistent=config.mode == "fixed")

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Write a new draw, mean + std * N(0, 1), into `value` in place.

        Of several directions each layer, or each head of it, takes one: the noise is drawn first, and is that of a bias of
        one direction under the same generator, then the numbers of the components.
        """
        noise = _sent(torch.randn(self.value.shape, generator=generator), self.value.device)
        mean = self.mean
        if self.config.directions > 1:
            layers, heads = self.value.shape[:2]
            shape = layers, heads if self.config.component_per == "head" else 1
            chosen = torch.randint(self.config.directions, shape, generator=generator)
            mean = self.components[_sent(chosen, self.value.device)]  # [layer, head_index or 1, d_head]
        self.value.copy_(mean + self.std * noise)

    @property
    def n_components(self) -> int:
        """How many means of components can be in force: the directions that are drawn anew, 0 where there is one or none."""
        return self.config.directions if self.config.directions > 1 and self.config.mode == "batch" else 0

    def forward(self, source: BiasSource) -> Biases:
        """Return the bias of every head: its mean (learned and fixed: its value), the last draw, zero, or a component.

        A bias of one direction, learned or fixed has no components; its mean stands for each.
        """
        if source.startswith(COMPONENT) and self.n_components:
            bias = self.components[int(source.removeprefix(COMPONENT))].expand_as(self.value)
        elif source == "none" or self.config.mode == "none":
            bias = torch.zeros_like(self.value)
        elif source != "sample" and self.config.mode == "batch":
            bias = self.mean.expand_as(self.value)
        else:
            bias = self.value
        if bias.shape[1] not in (1, self.n_heads):
            return bias.repeat_interleave(self.n_heads // bias.shape[1], 1)
        return bias.expand(-1, self.n_heads, -1)


def _sent(drawn: Tensor, device: torch.device) -> Tensor:
    """Return what was drawn where the bias is; a GPU fetches it from pinned memory when it gets there, and nobody waits."""
    ready = drawn.pin_memory() if device.type == "cuda" else drawn
    return ready.to(device, non_blocking=True)


class Change(NamedTuple):
    """What `bias` put in the place of the biases: b_Q and b_V (None: left alone) of the heads in `where`."""

    where: Heads
    values: tuple[BiasSource | Tensor | None, BiasSource | Tensor | None]


class BiasControl:
    """`draw_biases`, `biases_in_force` and `bias` of a model with `bias_q`, `bias_v`, `bias_scale` and `cfg`."""

    cfg: ModelConfig
    training: bool
    bias_q: HeadBias
    bias_v: HeadBias
    bias_scale: Tensor  # [layer, head_index, 1]
    bias_changes: tuple[Change, ...]  # of the `bias` blocks we are in, the outermost first

    def draw_biases(self, step: int, seed: int | None = None, micro_batch: int = 0) -> None:
        """Draw the biases of modes "batch" for this optimizer step, all layers at once, before the forward pass.

        `micro_batch` gives the parts of a step draws of their own.
        """
        generator = bias_generator(self.cfg.seed if seed is None else seed, step, micro_batch)
        for bias in (self.bias_q, self.bias_v):
            if bias.config.mode == "batch":
                bias.draw(generator)

    def biases_in_force(self) -> tuple[Biases, Biases]:
        """Return b_Q and b_V as the next forward pass adds them.

        They are the last draw in training mode and the mean in evaluation mode, unless `bias` says otherwise.
        """
        source: BiasSource = "sample" if self.training else "mean"
        return self._in_force(0, self.bias_q, source), self._in_force(1, self.bias_v, source)

    def mean_biases(self) -> tuple[Biases, Biases]:
        """Return `biases_in_force` of evaluation mode, whatever mode the model is in."""
        return self._in_force(0, self.bias_q, "mean"), self._in_force(1, self.bias_v, "mean")

    @property
    def component_names(self) -> list[str]:
        """What `bias` calls the components of the mixtures that b_Q and b_V are drawn from; empty without any."""
        return [f"{COMPONENT}{k}" for k in range(max(self.bias_q.n_components, self.bias_v.n_components))]

    @contextmanager
    def bias(
        self: Self,
        scale: float = 1.0,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        bias: Replacement | None = None,
    ) -> Iterator[Self]:
        """Change the biases inside a with block, and restore them exactly after it, whatever happens inside.

        Blocks nest: scales multiply, and where two blocks replace the bias of a head the inner one holds.

        Args:
            scale: 0 removes the biases, 1 leaves them, 2 doubles them.
            layers, heads: where the block acts (default: everywhere); negative numbers count from the end.
            bias: which biases are in force: "mean", "sample" (the last draw) or "none"; "component:2", the mean of
                component 2, from 0, where biases have several directions (one that has not is its mean then); or a tensor
                that takes the place of b_Q, of shape [layer, head_index, d_head] or one that broadcasts to it, such as
                [d_head]; or a pair of such for b_Q and b_V, None for one that is left alone. `scale` acts on them too.

        Raises:
            InterpError: a layer or head that is not there, or a bias that is none of those named or of another shape.
        """
        where = self._heads_at(layers, heads)
        if not isinstance(bias, str | Tensor | None) and not (isinstance(bias, tuple | list) and len(bias) == 2):
            raise InterpError(f"The bias is {shown(bias)}; a word, a tensor or a pair of tensors is expected.")
        query, value = (
            (bias, bias) if isinstance(bias, str | None) else (bias, None) if isinstance(bias, Tensor) else bias
        )
        change = Change(where, (self._fitting(query), self._fitting(value)))
        before = self.bias_changes, self.bias_scale.clone()
        try:
            self.bias_changes = (*self.bias_changes, change)
            self.bias_scale.copy_(torch.where(where, self.bias_scale * scale, self.bias_scale))
            yield self
        finally:
            self.bias_changes = before[0]
            self.bias_scale.copy_(before[1])

    def _in_force(self, which: int, head_bias: HeadBias, source: BiasSource) -> Biases:
        bias = head_bias(source)
        for where, values in self.bias_changes:
            value = values[which]
            if value is not None:
                bias = torch.where(where, head_bias(value) if isinstance(value, str) else value, bias)
        return bias * self.bias_scale

    def _heads_at(self, layers: Sequence[int] | None, heads: Sequence[int] | None) -> Heads:
        size = self.cfg.n_layers, self.cfg.n_heads
        for name, numbers, count in (("layer", layers, size[0]), ("head", heads, size[1])):
            if isinstance(numbers, int):
                raise InterpError(f"{name}s is {numbers}; a list of numbers is expected: {name}s=[{numbers}].")
            outside = [number for number in numbers or () if not -count <= number < count]
            if outside:
                raise InterpError(f"There is no {name} {outside[0]}; this model has {name}s 0 to {count - 1}.")
        where = torch.zeros(*size, 1, dtype=torch.bool, device=self.bias_scale.device)
        rows = torch.tensor(range(size[0]) if layers is None else layers, dtype=torch.long)
        columns = torch.tensor(range(size[1]) if heads is None else heads, dtype=torch.long)
        where[rows[:, None], columns[None, :]] = True
        return where

    def _fitting(self, bias: BiasSource | Tensor | None) -> BiasSource | Tensor | None:
        if not isinstance(bias, Tensor):
            check_choice("The bias", bias, (None, *SOURCES, *self.component_names))
            return bias
        shape = (self.cfg.n_layers, self.cfg.n_heads, self.cfg.d_head)
        try:
            return bias.to(self.bias_scale).expand(shape)
        except RuntimeError:
            raise InterpError(
                f"The bias has shape {list(bias.shape)}; {list(shape)}, or one that broadcasts to it, is expected."
            ) from None

"""Phase space: the positions and momenta that move in a step, and sums over them.

Names of mechanics: positions are the parameters theta, momenta P, the force is the gradient with weight decay
g' = g + wd theta. Every scalar stays a 0-dim tensor on the parameters' device, so nothing here waits for a device.
Of a sharded tensor this process moves its part; sums are over the whole tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.errors import InterpError
from interp.train.optim.sharding import Sharding, local

Scalar = Float[Tensor, ""]
CACHED = 1 << 16  # elements of a few arrays that fit into a core's cache together: the second product reads them there
HALVES = (torch.bfloat16, torch.float16)


@dataclass
class Block:
    """The tensors of one parameter group that move in a step."""

    group: int  # index of the parameter group
    decay: float  # its weight decay
    numbers: list[int] = field(default_factory=list)  # where each tensor stands among all that move
    positions: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    momenta: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class PhaseSpace:
    """All that moves in a step."""

    blocks: list[Block]
    dimension: int  # number of elements of all tensors, over all processes
    sharding: Sharding


@dataclass(frozen=True)
class Sums:
    """Sums over phase space in float64."""

    square: Scalar  # |P|^2 over all tensors
    power: Float[Tensor, " tensor"]  # <P, g'> of each tensor
    decay: Scalar  # wd |theta|^2 / 2 over all tensors


def phase_space(optimizer: torch.optim.Optimizer) -> PhaseSpace | None:
    """Return the parameters that have a gradient, with their momenta; None if no parameter has one.

    Momenta are kept as the parameter's ``momentum_buffer``; that of a tensor new to the motion is at rest.

    Raises:
        InterpError: a sparse gradient, parameters that are not real numbers, or sharded over different processes.
    """
    blocks, moving = [], []
    for group, settings in enumerate(optimizer.param_groups):
        block = Block(group, float(settings.get("weight_decay", 0.0)))
        for parameter in settings["params"]:
            if parameter.grad is not None:
                block.numbers.append(len(moving))
                moving.append(parameter)
                _add(block, parameter, optimizer.state[parameter])
        blocks += [block] if block.numbers else []
    return PhaseSpace(blocks, sum(tensor.numel() for tensor in moving), Sharding(moving)) if moving else None


def _add(block: Block, parameter: Tensor, state: dict[str, Tensor]) -> None:
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse:
        raise InterpError(f"A gradient of shape {list(gradient.shape)} is sparse; embeddings need sparse=False here.")
    if not parameter.is_floating_point():
        raise InterpError(
            f"A parameter of shape {list(parameter.shape)} is {parameter.dtype}; real numbers are needed."
        )
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    position, gradient = local(parameter.detach()), local(gradient.detach())
    block.positions.append(position)
    block.gradients.append(gradient.contiguous() if position.is_contiguous() else gradient)
    block.momenta.append(local(state["momentum_buffer"]))


def sums(space: PhaseSpace) -> Sums:
    """Return |P|^2, <P, g'> per tensor and wd |theta|^2 / 2 from one reading of everything."""
    columns = []
    for block in space.blocks:
        for theta, g, p in zip(block.positions, block.gradients, block.momenta, strict=True):
            if block.decay:
                pg, pt, pp, tt = products([p, g, theta], [(0, 1), (0, 2), (0, 0), (2, 2)])
                columns.append(torch.stack([pp, pg + block.decay * pt, tt * (block.decay / 2)]))
            else:
                pg, pp = products([p, g], [(0, 1), (0, 0)])
                columns.append(torch.stack([pp, pg, torch.zeros_like(pp)]))
    square, power, decay = space.sharding.total(torch.stack(columns, dim=1))
    return Sums(square.sum(), power, decay.sum())


def square_momentum(space: PhaseSpace) -> Float64[Tensor, " tensor"]:
    """Return |P|^2 of each tensor."""
    squares = [products([p], [(0, 0)])[0] for block in space.blocks for p in block.momenta]
    return space.sharding.total(torch.stack(squares)[None])[0]


def products(arrays: Sequence[Tensor], pairs: list[tuple[int, int]]) -> Float64[Tensor, " pair"]:
    """Return inner products of pairs of arrays; runs that fit the cache in the arrays' precision, their sum in float64.

    The first pairs should be of different arrays: reading those side by side is faster than one after the other.
    """
    size = CACHED if arrays[0].device.type == "cpu" else max(arrays[0].numel(), 1)
    runs = zip(*(array.reshape(-1).split(size) for array in arrays), strict=True)
    if arrays[0].dtype in HALVES:
        runs = ([array.float() for array in run] for run in runs)
    dots = [torch.dot(run[a], run[b]) for run in runs for a, b in pairs]
    return torch.stack(dots).view(-1, len(pairs)).sum(0, dtype=torch.float64)

"""Mechanics of a step: phase space, sums over it, the moves of momenta and positions, and sharded tensors.

Names of mechanics: positions are the parameters theta, momenta P, the force is the gradient with weight decay
g' = g + wd theta. Every scalar stays a 0-dim tensor on the parameters' device, so nothing here waits for a device.
Of a sharded tensor (FSDP2) this process moves its part; sums are over the whole tensor.
"""

# pyright: reportPrivateImportUsage=false
# (torch._foreach_* and torch._fused_sgd_ are what torch's own optimizers are written with, but are not exported)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64
from torch import Tensor

from interp.errors import InterpError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

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


def sums(space: PhaseSpace) -> Sums:
    """Return |P|^2, <P, g'> per tensor and wd |theta|^2 / 2 from one reading of everything."""
    columns = []
    for block in space.blocks:
        if block.decay:
            arrays = block.momenta, block.gradients, block.positions
            pg, pt, pp, tt = products(arrays, [(0, 1), (0, 2), (0, 0), (2, 2)])
            columns.append(torch.stack([pp, pg + block.decay * pt, tt * (block.decay / 2)]))
        else:
            pg, pp = products((block.momenta, block.gradients), [(0, 1), (0, 0)])
            columns.append(torch.stack([pp, pg, torch.zeros_like(pp)]))
    square, power, decay = space.sharding.total(torch.cat(columns, dim=1))
    return Sums(square.sum(), power, decay.sum())


def square_momentum(space: PhaseSpace) -> Float64[Tensor, " tensor"]:
    """Return |P|^2 of each tensor."""
    squares = [products((block.momenta,), [(0, 0)])[0] for block in space.blocks]
    return space.sharding.total(torch.cat(squares)[None])[0]


def products(lists: Sequence[list[Tensor]], pairs: list[tuple[int, int]]) -> Sequence[Float64[Tensor, " tensor"]]:
    """Return inner products of pairs of arrays, of which `lists` have one for each tensor; for each pair a vector.

    On a CPU runs that fit the cache are multiplied in the arrays' own precision and summed in float64. The first pairs
    should be of different arrays: reading those side by side is faster than one after the other.
    """
    # put together once for all tensors, since a GPU is called for every operation
    found = torch.stack([dot for arrays in zip(*lists, strict=True) for dot in _dots(arrays, pairs)])
    return found.double().view(-1, len(pairs)).unbind(1)


def _dots(arrays: Sequence[Tensor], pairs: list[tuple[int, int]]) -> Sequence[Scalar]:
    """The inner products of one tensor's arrays."""
    size = CACHED if arrays[0].device.type == "cpu" else max(arrays[0].numel(), 1)
    runs = list(zip(*(array.reshape(-1).split(size) for array in arrays), strict=True))
    if arrays[0].dtype in HALVES:
        runs = [tuple(array.float() for array in run) for run in runs]
    dots = [torch.dot(run[a], run[b]) for run in runs for a, b in pairs]
    return dots if len(runs) == 1 else torch.stack(dots).view(-1, len(pairs)).sum(0, dtype=torch.float64).unbind(0)


def launch(space: PhaseSpace, norm: Scalar, each: bool = False) -> None:
    """Set P along -g with |P| = `norm` over all tensors, or in every tensor if `each`."""
    for block in space.blocks:
        torch._foreach_copy_(block.momenta, block.gradients)
    square = square_momentum(space)
    square = square if each else square.sum().expand_as(square)
    factors = torch.where(square > 0, -norm * square.rsqrt(), 0.0)
    for block in space.blocks:
        scale(block, factors)


def scale(block: Block, factors: Float[Tensor, " tensor"]) -> None:
    """P *= factor, with one factor per tensor."""
    momenta = _accurate(block.momenta)
    torch._foreach_mul_(momenta, [factors[n] for n in block.numbers])
    _store(block.momenta, momenta)


def kick(block: Block, factors: Float[Tensor, " tensor"], impulse: Scalar) -> None:
    """P = factor P + impulse g', with one factor per tensor."""
    momenta = _accurate(block.momenta)
    torch._foreach_mul_(momenta, [factors[n] for n in block.numbers])
    torch._foreach_addcmul_(momenta, _accurate(block.gradients), [impulse] * len(momenta))
    if block.decay:
        torch._foreach_addcmul_(momenta, _accurate(block.positions), [impulse * block.decay] * len(momenta))
    _store(block.momenta, momenta)


def drift(block: Block, rate: Scalar) -> None:
    """Theta += rate P."""
    positions = _accurate(block.positions)
    torch._foreach_addcmul_(positions, _accurate(block.momenta), [rate] * len(positions))
    _store(block.positions, positions)


def kick_and_drift(block: Block, factors: Float[Tensor, " tensor"], impulse: Scalar, rate: Scalar) -> None:
    """Kick, then drift; on a CPU in a single reading and writing.

    P = factor P + impulse g', theta += rate P has the form of SGD with momentum = factor, dampening = 1 - impulse and
    lr = -rate, so torch's fused kernel for that does it. The kernel takes numbers: a CPU tensor gives them for nothing,
    any other device would have to be waited for. Half precision it gets wrong (torch 2.12 and 2.13, pytorch#191763).
    """
    arrays = [*block.positions, *block.gradients, *block.momenta]
    if any(a.device.type != "cpu" or a.dtype in HALVES or not a.is_contiguous() for a in arrays):
        kick(block, factors, impulse)
        drift(block, rate)
        return
    momentum, dampening, lr = factors.tolist(), 1 - float(impulse), -float(rate)
    tensors = list(zip(block.numbers, block.positions, block.gradients, block.momenta, strict=True))
    for number, theta, g, p in reversed(tensors):  # backwards: the end of the sums is still in the cache
        torch._fused_sgd_(
            [theta], [g], [p], weight_decay=block.decay, momentum=momentum[number] or 1e-300, lr=lr,  # 0 would mean none
            dampening=dampening, nesterov=False, maximize=False, is_first_step=False,
        )  # fmt: skip


def turn(space: PhaseSpace, keep: Scalar, noise: Scalar, generators: tuple[torch.Generator, torch.Generator]) -> None:
    """Turn P towards a random direction: P = keep P + noise |P| z with z ~ N(0, 1), scaled back to the old |P|.

    The first generator draws for whole tensors, the second for parts of tensors.
    """
    before = square_momentum(space).sum()
    size = noise * before.sqrt()
    for block in space.blocks:
        momenta = _accurate(block.momenta)
        torch._foreach_mul_(momenta, keep)
        drawing = [generators[space.sharding.sharded[n]] for n in block.numbers]
        z = [torch.empty_like(p).normal_(generator=own) for p, own in zip(momenta, drawing, strict=True)]
        torch._foreach_addcmul_(momenta, z, [size] * len(z))
        _store(block.momenta, momenta)
    square = square_momentum(space)
    factors = torch.where(square.sum() > 0, (before / square.sum()).sqrt(), 1.0).expand_as(square)
    for block in space.blocks:
        scale(block, factors)


class Sharding:
    """Which of some tensors are sharded, and over which processes.

    Attributes:
        sharded: for each tensor, whether other processes hold other parts of it.
        part: number of this process' part among those of the sharded tensors, from 1; 0 if nothing is sharded.

    Raises:
        InterpError: two tensors are sharded over different processes.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        places = [_place(tensor) for tensor in tensors]
        self.sharded = [place is not None for place in places]
        self.part, self._mesh, self._dims = 0, None, ()
        different = {place for place in places if place is not None}
        if len(different) > 1:
            raise InterpError(
                f"The parameters are sharded over {len(different)} different sets of processes; shard all over one."
            )
        for self._mesh, self._dims in different:
            for dim in self._dims:
                self.part = self.part * self._mesh.size(dim) + self._mesh.get_local_rank(dim)
            self.part += 1

    def total(self, sums: Float64[Tensor, "sum tensor"]) -> Float64[Tensor, "sum tensor"]:
        """Return sums over each tensor from those over its part here; one message for all of them."""
        if self._mesh is None:
            return sums
        whole = sums.clone()
        for dim in self._dims:
            dist.all_reduce(whole, group=self._mesh.get_group(dim))
        if all(self.sharded):
            return whole
        columns = zip(self.sharded, whole.unbind(1), sums.unbind(1), strict=True)
        return torch.stack([total if sharded else own for sharded, total, own in columns], dim=1)


def as_sharded(tensor: Tensor) -> DTensor | None:
    """Return a tensor of which this process holds a part only, None for any other."""
    if not dist.is_available() or not dist.is_initialized():
        return None
    from torch.distributed.tensor import DTensor  # not in every build of torch

    return tensor if isinstance(tensor, DTensor) else None


def local(tensor: Tensor) -> Tensor:
    """Return the part that this process holds, sharing its memory; an ordinary tensor as it is."""
    sharded = as_sharded(tensor)
    return tensor if sharded is None else sharded.to_local()


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


def _place(tensor: Tensor) -> tuple | None:
    """Return the mesh of a sharded tensor and the mesh's dimensions over which its parts lie."""
    sharded = as_sharded(tensor)
    dims = () if sharded is None else tuple(n for n, p in enumerate(sharded.placements) if not p.is_replicate())
    return (sharded.device_mesh, dims) if sharded is not None and dims else None


def _accurate(tensors: list[Tensor]) -> list[Tensor]:
    """Return half-precision tensors as float32, others as they are."""
    return [t.float() if t.dtype in HALVES else t for t in tensors]


def _store(targets: list[Tensor], values: list[Tensor]) -> None:
    """Write back what `_accurate` copied."""
    for target, value in zip(targets, values, strict=True):
        if target is not value:
            target.copy_(value)

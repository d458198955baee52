"""The two readings of an ECD step as kernels that torch.compile makes for exactly the tensors at hand.

They compute what `sums` and `kick_and_drift` of `mechanics` do, but read each array once for all that is asked of it:
|P|^2 and <P, g'> come from one reading of P and g. Sums are rounded differently, and on a CPU depend on how many threads
share them, so a compiled run repeats itself but not, to the last bit, one that is not compiled.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.train.optim.mechanics import HALVES, Block, PhaseSpace, Scalar, Sums

ROW, SHORTEST = 1024, 64  # elements that are added in the arrays' own precision


def sums(space: PhaseSpace) -> Sums:
    """Return `mechanics.sums` of the same arrays."""
    parts = []
    for block in space.blocks:
        found = _products(block.positions if block.decay else [], block.gradients, block.momenta, block.decay)
        parts.append(found if block.decay else torch.nn.functional.pad(found, (0, 0, 0, 1)))
    square, power, decay = space.sharding.total(torch.cat(parts, dim=1))
    return Sums(square.sum(), power, decay.sum())


def kick_and_drift(block: Block, factors: Float[Tensor, " tensor"], impulse: Scalar, rate: Scalar) -> None:
    """Do `mechanics.kick_and_drift` to the same arrays."""
    positions, gradients, momenta = map(_arrays, (block.positions, block.gradients, block.momenta))
    _move(positions, gradients, momenta, block.decay, factors[block.numbers], impulse, rate)


@torch.compile(dynamic=False)
def _products(
    positions: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], decay: float
) -> Float64[Tensor, "sum tensor"]:
    """|P|^2, <P, g'> and, with weight decay, wd |theta|^2 / 2 of each tensor, side by side so that one loop has them all."""
    found = []
    for number, (g, p) in enumerate(zip(gradients, momenta, strict=True)):
        g, p = _rows(g), _rows(p)
        if decay:
            theta = _rows(positions[number])
            found += [_total(p * p), _total(p * (g + decay * theta)), _total(theta * theta) * (decay / 2)]
        else:
            found += [_total(p * p), _total(p * g)]
    return torch.stack(found).view(len(momenta), -1).T


@torch.compile(dynamic=False)
def _move(
    positions: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], decay: float,
    factors: Float[Tensor, " tensor"], impulse: Scalar, rate: Scalar,
) -> None:  # fmt: skip
    tensors = list(zip(positions, gradients, momenta, factors, strict=True))
    for theta, g, p, factor in reversed(tensors):  # backwards: the end of the sums is still in the cache
        force = _accurate(g) + decay * _accurate(theta) if decay else _accurate(g)
        momentum = (factor.to(force.dtype) * _accurate(p) + impulse.to(force.dtype) * force).to(p.dtype)
        p.copy_(momentum)
        theta.copy_(_accurate(theta) + rate.to(force.dtype) * _accurate(momentum))


def _rows(tensor: Tensor) -> Tensor:
    """Divide a tensor into rows of 1,024 elements, fewer where its size is no multiple, or into one where it is odd."""
    length = math.gcd(tensor.numel(), ROW)
    return _accurate(tensor).reshape(-1, length if length >= SHORTEST else tensor.numel())


def _total(rows: Tensor) -> Tensor:
    """Add within rows in their own precision, and the rows in float64."""
    return rows.sum(-1).double().sum()


def _accurate(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in HALVES else tensor


def _arrays(tensors: list[Tensor]) -> list[Tensor]:
    """Give 0-dim tensors a dimension: compiled by torch 2.13 for a CPU, changing those in place goes wrong."""
    return [tensor.view(1) if tensor.ndim == 0 else tensor for tensor in tensors]

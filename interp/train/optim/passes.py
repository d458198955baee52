"""What the ECD family does to all tensors at once: sums over phase space, kicks of momenta, drifts of positions.

Names of mechanics: positions are the parameters theta, momenta P, the force is the gradient with weight decay
g' = g + wd theta. Every scalar stays a 0-dim tensor on the parameters' device, so nothing here waits for a device.
"""

# pyright: reportPrivateImportUsage=false
# (torch._foreach_* and torch._fused_sgd_ are what torch's own optimizers are written with, but are not exported)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

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
class Sums:
    """Sums over phase space in float64."""

    square: Scalar  # |P|^2 over all tensors
    power: Float[Tensor, " tensor"]  # <P, g'> of each tensor
    decay: Scalar  # wd |theta|^2 / 2 over all tensors


def sums(blocks: list[Block]) -> Sums:
    """Return |P|^2, <P, g'> per tensor and wd |theta|^2 / 2 from one reading of everything."""
    square, power, decay = [], [], []
    for block in blocks:
        for theta, g, p in zip(block.positions, block.gradients, block.momenta, strict=True):
            if block.decay:
                pp, pg, pt, tt = _products([p, g, theta], [(0, 0), (0, 1), (0, 2), (2, 2)])
                pg = pg + block.decay * pt
                decay.append(tt * (block.decay / 2))
            else:
                pp, pg = _products([p, g], [(0, 0), (0, 1)])
            square.append(pp)
            power.append(pg)
    nothing = torch.zeros_like(square[0])
    return Sums(torch.stack(square).sum(), torch.stack(power), torch.stack([nothing, *decay]).sum())


def square_momentum(blocks: list[Block]) -> Float[Tensor, " tensor"]:
    """Return |P|^2 of each tensor in float64."""
    return torch.stack([product for block in blocks for p in block.momenta for product in _products([p], [(0, 0)])])


def launch(blocks: list[Block], norm: Scalar, each: bool = False) -> None:
    """Set P along -g with |P| = `norm` over all tensors, or in every tensor if `each`."""
    for block in blocks:
        torch._foreach_copy_(block.momenta, block.gradients)
    square = square_momentum(blocks)
    square = square if each else square.sum().expand_as(square)
    factors = torch.where(square > 0, -norm * square.rsqrt(), 0.0)
    for block in blocks:
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
    any other device would have to be waited for.
    """
    arrays = [*block.positions, *block.gradients, *block.momenta]
    if any(a.device.type != "cpu" or a.dtype == torch.float16 or not a.is_contiguous() for a in arrays):
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


def turn(blocks: list[Block], keep: Scalar, noise: Scalar, generator: torch.Generator) -> None:
    """Turn P towards a random direction: P = keep P + noise |P| z with z ~ N(0, 1), scaled back to the old |P|."""
    before = square_momentum(blocks).sum()
    size = noise * before.sqrt()
    for block in blocks:
        momenta = _accurate(block.momenta)
        torch._foreach_mul_(momenta, keep)
        z = [torch.empty_like(p).normal_(generator=generator) for p in momenta]
        torch._foreach_addcmul_(momenta, z, [size] * len(z))
        _store(block.momenta, momenta)
    square = square_momentum(blocks)
    factors = torch.where(square.sum() > 0, (before / square.sum()).sqrt(), 1.0).expand_as(square)
    for block in blocks:
        scale(block, factors)


def _products(arrays: Sequence[Tensor], pairs: list[tuple[int, int]]) -> list[Scalar]:
    """Return inner products of pairs of arrays; runs that fit the cache in the arrays' precision, their sum in float64."""
    size = CACHED if arrays[0].device.type == "cpu" else arrays[0].numel()
    runs = zip(*(array.reshape(-1).split(max(size, 1)) for array in arrays), strict=True)
    products: list[list[Tensor]] = [[] for _ in pairs]
    for run in runs:
        run = _accurate(list(run))
        for product, (a, b) in zip(products, pairs, strict=True):
            product.append(torch.dot(run[a], run[b]))
    return [torch.stack(product).sum(dtype=torch.float64) for product in products]


def _accurate(tensors: list[Tensor]) -> list[Tensor]:
    """Return half-precision tensors as float32, others as they are."""
    return [t.float() if t.dtype in HALVES else t for t in tensors]


def _store(targets: list[Tensor], values: list[Tensor]) -> None:
    """Write back what `_accurate` copied."""
    for target, value in zip(targets, values, strict=True):
        if target is not value:
            target.copy_(value)

"""What the ECD family does to all tensors at once: launch, kicks of momenta, drifts of positions, turns."""

# pyright: reportPrivateImportUsage=false
# (torch._foreach_* and torch._fused_sgd_ are what torch's own optimizers are written with, but are not exported)

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.train.optim.phase_space import HALVES, Block, PhaseSpace, Scalar, square_momentum


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


def _accurate(tensors: list[Tensor]) -> list[Tensor]:
    """Return half-precision tensors as float32, others as they are."""
    return [t.float() if t.dtype in HALVES else t for t in tensors]


def _store(targets: list[Tensor], values: list[Tensor]) -> None:
    """Write back what `_accurate` copied."""
    for target, value in zip(targets, values, strict=True):
        if target is not value:
            target.copy_(value)

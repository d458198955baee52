"""Small problems and one table of optimizers for the tests of the ECD family."""

import pytest
import torch

from interp.train.optim import BBI, ECD, ECDSep

SHAPES = [(4, 6), (5,), (2, 3, 2)]
MAKERS = {
    "ecd": lambda p, **k: ECD(p, **{"lr": 0.3, "eta": 9.0, "F0": -0.5, **k}),
    "ecd global": lambda p, **k: ECD(p, **{"lr": 0.3, "eta": 9.0, "F0": -0.5, "projection": "global", **k}),
    "ecdsep": lambda p, **k: ECDSep(p, **{"lr": 0.05, "eta": 2.0, "F0": -0.5, "nu": 0.0, "deltaEn": 0.5, **k}),
    "bbi": lambda p, **k: BBI(p, **{"lr": 0.03, "v0": -0.5, "deltaEn": 1.0, **k}),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def parameters(seed=0, dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in shapes
    ]


def bowl(params):
    return sum((p.double() ** 2 / 2 + 0.1 * (1 - torch.cos(3 * p.double()))).sum() for p in params)


def run(optimizer, params, steps, function=bowl):
    """Take steps and return the loss before each."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = function(params)
        loss.backward()
        optimizer.step(loss)
        losses.append(float(loss.detach()))
    return losses


def momentum(optimizer, params):
    return torch.cat([optimizer.state[p]["momentum_buffer"].flatten().double() for p in params])

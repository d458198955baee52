"""The optimizers agree with the textbook to rounding, for every option, on random tensors of several shapes."""

import itertools
import sys

import numpy as np
import pytest
import torch

from interp.train.optim import BBI, ECD, ECDSep
from tests import commands
from tests.train.optim import textbook

SHAPES = [(3, 5), (7,), (2, 3, 4), ()]
STEPS = 100


def landscape(seed, shapes=SHAPES):
    """A bumpy bowl: start, loss and gradient on numpy arrays, loss on tensors."""
    random = np.random.default_rng(seed)
    start = [np.asarray(random.normal(size=shape)) for shape in shapes]
    curvature = [np.asarray(random.uniform(0.2, 1.0, size=shape)) for shape in shapes]

    def bumps(theta, cos, weights):
        return sum((w * t * t / 2 + 0.1 * (1 - cos(3 * t))).sum() for t, w in zip(theta, weights, strict=True)) + 0.5

    def gradient(theta):
        return [w * t + 0.3 * np.sin(3 * t) for t, w in zip(theta, curvature, strict=True)]

    def loss(t):
        return bumps(t, torch.cos, [torch.tensor(w, device=t[0].device) for w in curvature])

    return start, lambda t: bumps(t, np.cos, curvature), gradient, loss


def agree(make, expected, start, loss, transposed=False, device="cpu"):
    """Whether 100 steps of `make(parameters)` visit the same points; the last is far from the first."""
    parameters = [torch.nn.Parameter(torch.tensor(t, device=device)) for t in start]
    if transposed:  # a parameter that is not contiguous takes the way of a GPU
        parameters[0] = torch.nn.Parameter(torch.tensor(start[0].T.copy(), device=device).T)
        assert not parameters[0].is_contiguous()
    optimizer = make(parameters)
    for theta in expected:
        optimizer.zero_grad()
        value = loss(parameters)
        value.backward()
        optimizer.step(lambda value=value: value)
        for parameter, t in zip(parameters, theta, strict=True):
            np.testing.assert_allclose(parameter.detach().cpu().numpy(), t, rtol=0, atol=1e-10)
    assert max(np.abs(t - s).max() for t, s in zip(theta, start, strict=True)) > 0.05
    assert int(optimizer.skipped) == 0


def two_groups(parameters, first, second):
    return [{"params": parameters[:2], **first}, {"params": parameters[2:], **second}]


@pytest.mark.parametrize(
    ("decay", "conserve", "projection", "transposed"),
    list(itertools.product([0.0, 0.1], [True, False], ["tensor", "global"], [False, True])),
)
def test_ecd_follows_the_textbook(decay, conserve, projection, transposed):
    start, loss, gradient, tensor_loss = landscape(1)
    options = {"F0": -0.5, "conserve_energy": conserve, "projection": projection}
    n, lr = len(SHAPES), 0.3 if conserve else 0.05  # without conservation large steps feed |P|
    expected = textbook.ecd(start, gradient, loss, STEPS, [lr] * n, [9.0] * n, [decay] * n, **options)
    make = lambda p: ECD(p, lr=lr, eta=9.0, weight_decay=decay, **options)  # noqa: E731
    agree(make, expected, start, tensor_loss, transposed)


@pytest.mark.parametrize(
    ("decay", "conserve", "s", "excess", "eta"),
    [*itertools.product([0.0, 0.1], [True, False], [1.0, 0.0], [0.0, 0.7], [2.0]), (0.1, True, 1.0, 0.3, 1.0),
     (0.0, True, 0.5, 0.3, 3.5)],
)  # fmt: skip
def test_ecdsep_follows_the_textbook(decay, conserve, s, excess, eta):
    start, loss, gradient, tensor_loss = landscape(2)
    options = {"F0": -0.5, "s": s, "deltaEn": excess, "conserve_energy": conserve, "eta": eta}
    n = len(SHAPES)
    expected = textbook.ecdsep(start, gradient, loss, STEPS, [0.05] * n, decays=[decay] * n, **options)
    agree(lambda p: ECDSep(p, 0.05, nu=0.0, weight_decay=decay, **options), expected, start, tensor_loss)


@pytest.mark.parametrize(
    ("conserve", "excess", "transposed"), list(itertools.product([True, False], [0.0, 2.0], [True, False]))
)
def test_bbi_follows_the_textbook(conserve, excess, transposed):
    start, loss, gradient, tensor_loss = landscape(3)
    options = {"v0": -0.5, "deltaEn": excess, "conserve_energy": conserve}
    expected = textbook.bbi(start, gradient, loss, STEPS, [0.03] * len(SHAPES), **options)
    agree(lambda p: BBI(p, 0.03, **options), expected, start, tensor_loss, transposed)


@pytest.mark.slow
def test_groups_have_their_own_rates_and_decay_while_norm_and_energy_are_global():
    start, loss, gradient, tensor_loss = landscape(4)
    first, second = {"lr": 0.2, "eta": 4.0, "weight_decay": 0.3}, {"lr": 0.4, "eta": 9.0, "weight_decay": 0.0}
    rates, decays = [0.2, 0.2, 0.4, 0.4], [0.3, 0.3, 0.0, 0.0]
    for projection in ("tensor", "global"):
        etas = [4.0, 4.0, 9.0, 9.0]
        expected = textbook.ecd(start, gradient, loss, STEPS, rates, etas, decays, -0.5, True, projection)
        agree(
            lambda p, way=projection: ECD(two_groups(p, first, second), F0=-0.5, projection=way),
            expected,
            start,
            tensor_loss,
        )
    del first["eta"], second["eta"]
    rates = [rate / 10 for rate in rates]
    first["lr"], second["lr"] = 0.02, 0.04
    expected = textbook.ecdsep(start, gradient, loss, STEPS, rates, 2.0, decays, -0.5, 1.0, 0.5, True)
    agree(
        lambda p: ECDSep(two_groups(p, first, second), 1.0, 2.0, -0.5, 0.0, deltaEn=0.5), expected, start, tensor_loss
    )
    expected = textbook.bbi(start, gradient, loss, STEPS, rates, -0.5, 1.0, True)
    groups = {"lr": 0.02}, {"lr": 0.04}
    agree(lambda p: BBI(two_groups(p, *groups), 1.0, -0.5, 1.0), expected, start, tensor_loss)


def test_tensors_larger_than_the_cache_are_summed_in_full():
    start, loss, gradient, tensor_loss = landscape(5, [(300, 251), (1 << 16,), (70_001,)])
    floor = 0.9 * loss(start)
    expected = textbook.ecd(start, gradient, loss, 5, [20.0] * 3, [9.0] * 3, [0.1] * 3, floor, True, "tensor")
    agree(lambda p: ECD(p, 20.0, 9.0, floor, weight_decay=0.1), expected, start, tensor_loss)


COMPILED = """
import torch
from interp.train.optim import ECD
from tests.train.optim import textbook
from tests.train.optim.test_trajectories import SHAPES, agree, landscape, two_groups

def check(shapes, decays, projection, transposed):
    start, loss, gradient, tensor_loss = landscape(6, shapes)
    n = len(shapes)
    expected = textbook.ecd(start, gradient, loss, 100, [0.3] * n, [9.0] * n, decays, -0.5, True, projection)
    groups = {"weight_decay": decays[0]}, {"weight_decay": decays[-1]}
    make = lambda p: ECD(two_groups(p, *groups), 0.3, 9.0, -0.5, projection=projection, compile=True)
    agree(make, expected, start, tensor_loss, transposed)

check(SHAPES, [0.3, 0.3, 0.0, 0.0], "tensor", False)
check([(32, 64), (7,), (130,), (3, 100)], [0.0] * 4, "global", True)

halves = [torch.nn.Parameter(torch.randn(40, 64).bfloat16()) for _ in range(2)]
ends = []
for compile in (False, True):
    parameters = [torch.nn.Parameter(half.detach().clone()) for half in halves]
    optimizer = ECD(parameters, 20.0, F0=-1.0, compile=compile)
    for _ in range(5):
        optimizer.zero_grad()
        value = sum(p.float().square().mean() for p in parameters)
        value.backward()
        optimizer.step(value)
    ends.append(torch.stack([p.detach().float() for p in parameters]))
torch.testing.assert_close(*ends, rtol=0.02, atol=0.02)
assert (ends[0] - torch.stack([half.detach().float() for half in halves])).abs().max() > 0.05
"""


@pytest.mark.slow
def test_a_compiled_ecd_follows_the_textbook():
    # in a process of its own: a compiler cannot look through the type checker of the tests
    commands.run([sys.executable, "-c", COMPILED], check=True)

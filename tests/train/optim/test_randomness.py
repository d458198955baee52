"""What is random and what is not: basins reached with noise, noise, bounces, determinism without them."""

import itertools

import pytest
import torch

from interp.train.optim import BBI, ECD, ECDSep
from tests.train.optim.cases import MAKERS, every_optimizer, momentum, parameters, run


def zakharov(params):
    x = torch.cat([p.flatten() for p in params])
    line = (0.5 * torch.arange(1, len(x) + 1, dtype=x.dtype) * x).sum()
    return (x**2).sum() + line**2 + line**4


def ackley(params):
    x = torch.cat([p.flatten() for p in params])
    waves = torch.exp(torch.cos(2 * torch.pi * x).mean())
    return -20 * torch.exp(-0.2 * (x**2).mean().sqrt()) - waves + 20 + torch.e


@pytest.mark.parametrize(
    ("make", "function"),
    [
        (lambda p: ECD(p, lr=0.1, eta=30.0, F0=-0.01, projection="global"), zakharov),
        (lambda p: ECD(p, lr=0.1, eta=4.0, F0=-0.01, nu=1.0, projection="global"), ackley),
        (lambda p: ECDSep(p, lr=0.3, eta=2.0, F0=-0.01, nu=1e-3, deltaEn=0.1), zakharov),
        (lambda p: ECDSep(p, lr=0.3, eta=2.0, F0=-0.01, nu=1e-3, deltaEn=0.1), ackley),
        (lambda p: BBI(p, 0.03, -0.01, 0.5, threshold0=60, threshold=60, n_fixed_bounces=20), zakharov),
        (lambda p: BBI(p, 0.1, -0.01, 0.5, threshold0=60, threshold=60, n_fixed_bounces=20), ackley),
    ],
    ids=["ecd zakharov", "ecd ackley", "ecdsep zakharov", "ecdsep ackley", "bbi zakharov", "bbi ackley"],
)
def test_the_basin_of_zakharov_and_ackley_is_reached(make, function):
    torch.manual_seed(1)
    starts = torch.tensor([[1.2, -0.8], [0.7, 1.1]], dtype=torch.float64)  # Ackley: local minima between here and 0
    params = [torch.nn.Parameter(start.clone()) for start in starts]
    losses = run(make(params), params, 600, function)
    assert min(losses) < 0.1 * losses[0] < 10.0


@every_optimizer
def test_without_noise_two_runs_are_equal_bit_by_bit_whatever_the_seed(make):
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        params = parameters()
        run(make(params), params, 30)
        ends.append(params)
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize("make", [MAKERS["ecd"], MAKERS["ecdsep"]], ids=["ecd", "ecdsep"])
def test_noise_turns_the_momentum_keeps_its_norm_and_repeats_with_the_seed(make):
    ends = {}
    for seed, nu in ((1, 0.0), (1, 0.5), (1, 0.5), (2, 0.5)):
        torch.manual_seed(seed)
        params = parameters(dtype=torch.float64)
        optimizer = make(params, nu=nu)
        run(optimizer, params, 1)
        ends.setdefault((seed, nu), []).append(momentum(optimizer, params))
    (plain,), (first, again), (other,) = ends.values()
    assert first.norm() == pytest.approx(plain.norm().item(), abs=1e-13)
    assert torch.equal(first, again) and not torch.equal(first, other)
    # relative noise of 0.5 turns the direction by about arctan(0.5)
    assert torch.cosine_similarity(first, plain, dim=0) == pytest.approx(0.894, abs=0.08)


def test_a_bounce_gives_a_random_direction_of_the_same_norm_at_fixed_steps_and_on_a_plateau():
    def directions(**changes):
        torch.manual_seed(0)
        params = parameters(dtype=torch.float64)
        optimizer = MAKERS["bbi"](params, lr=1e-6, **changes)  # so slow that nothing else turns P
        rows = []
        for value in [5.0] + [6.0] * 11:  # the loss never improves on the first
            for p in params:
                p.grad = p.detach() / p.norm()
            optimizer.step(torch.tensor(value, dtype=torch.float64))
            rows.append(momentum(optimizer, params))
        return rows

    def bounces(rows):
        return [
            n + 2 for n, (a, b) in enumerate(itertools.pairwise(rows)) if torch.cosine_similarity(a, b, dim=0) < 0.9
        ]

    assert bounces(directions(threshold0=100, threshold=100, deltaEn=9.0)) == []
    assert bounces(directions(threshold0=3, n_fixed_bounces=2, threshold=100, deltaEn=9.0)) == [3, 6]
    assert bounces(directions(threshold0=100, threshold=4, deltaEn=9.0)) == [5, 9]
    rows = directions(threshold0=3, n_fixed_bounces=1, threshold=100, deltaEn=9.0, conserve_energy=False)
    assert rows[2].norm() == pytest.approx(rows[1].norm().item(), rel=1e-4)

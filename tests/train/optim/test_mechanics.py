"""What mechanics promises: conserved norm and energy, slow motion near the floor."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.optim.cases import MAKERS, bowl, every_optimizer, momentum, parameters, run


def test_ecd_scales_its_momentum_to_norm_one_at_every_step_however_it_was_changed():
    params = parameters(dtype=torch.float64)
    optimizer = MAKERS["ecd global"](params)
    for _ in range(15):
        run(optimizer, params, 1)
        before = momentum(optimizer, params)
        run(optimizer, params, 1)
        # the force is perpendicular to P: along the old unit direction P stays 1 at any step size
        assert torch.dot(momentum(optimizer, params), before / before.norm()) == pytest.approx(1.0, abs=1e-12)
    for p in params:
        optimizer.state[p]["momentum_buffer"].mul_(3)
    optimizer.param_groups[0]["lr"] = 0.0
    run(optimizer, params, 1)
    assert momentum(optimizer, params).norm() == pytest.approx(1.0, abs=1e-14)


def test_without_scaling_the_norm_of_ecd_drifts_with_an_error_that_falls_with_lr():
    drifts = []
    for lr in (0.04, 0.02, 0.01):
        params = parameters(dtype=torch.float64)
        optimizer = MAKERS["ecd global"](params, lr=lr, conserve_energy=False)
        run(optimizer, params, round(4 / lr))
        drifts.append(abs(float(momentum(optimizer, params).norm()) - 1))
    assert 0.3 > drifts[0] > 1.7 * drifts[1] > 2.8 * drifts[2] > 0


@pytest.mark.parametrize(
    ("make", "energy"),
    [
        (MAKERS["ecdsep"], lambda v, square: (v + 0.5) ** 2 * (1 + square)),
        (MAKERS["bbi"], lambda v, square: ((v + 0.5) * (v + 0.5 + square)) ** 0.5),
    ],
    ids=["ecdsep", "bbi"],
)
def test_energy_is_conserved_to_an_integration_error_that_falls_with_lr(make, energy):
    errors = []
    for lr in (0.02, 0.01, 0.005):
        params = parameters(dtype=torch.float64, shapes=[(20,)])
        optimizer = make(params, lr=lr, conserve_energy=False)
        run(optimizer, params, 1)
        energies = []
        for _ in range(round(2 / lr)):
            run(optimizer, params, 1)
            energies.append(energy(bowl(params).item(), float(momentum(optimizer, params).square().sum())))
        errors.append(max(abs(e / energies[0] - 1) for e in energies))
    assert 0.5 > errors[0] > 1.6 * errors[1] > 2.5 * errors[2] > 0


@pytest.mark.parametrize(
    ("make", "floor", "crossing"), [(MAKERS["ecdsep"], "F0", 0.0), (MAKERS["bbi"], "v0", 1e-3)], ids=["ecdsep", "bbi"]
)
def test_near_the_floor_motion_slows_and_small_steps_do_not_cross_it(make, floor, crossing):
    # ECDSep with eta = 2 comes ever closer; BBI gets there in finite time, at a speed that falls with sqrt(V)
    params = parameters(dtype=torch.float64)
    optimizer = make(params, **{floor: 3.0, "lr": 0.01 if crossing else 0.05, "deltaEn": 0.5})
    speeds, losses = [], []
    for _ in range(400):
        before = torch.cat([p.detach().flatten() for p in params])
        losses += run(optimizer, params, 1)
        speeds.append(float((torch.cat([p.detach().flatten() for p in params]) - before).norm()))
    assert min(losses) > 3.0 - crossing
    assert min(losses) < 3.3
    assert speeds[losses.index(min(losses))] < 0.15 * max(speeds)
    if not crossing:
        assert int(optimizer.skipped) == 0


def test_ecd_moves_at_constant_speed_and_stops_at_the_first_loss_below_the_floor():
    params = parameters(dtype=torch.float64)
    optimizer = MAKERS["ecd global"](params, F0=20.0, lr=0.03)
    losses, last = [], torch.cat([p.detach().flatten() for p in params])
    while int(optimizer.skipped) < 3:
        losses += run(optimizer, params, 1)
        new = torch.cat([p.detach().flatten() for p in params])
        speed = float((new - last).norm())
        assert speed == pytest.approx(0.01, rel=0.02) if losses[-1] > 20.0 else speed == 0
        last = new
    assert 19.9 < losses[-1] == losses[-2] == losses[-3] <= 20.0 < losses[-4]


class Calls(TorchDispatchMode):
    """Counts operations that are no views, those over lists once for each of their tensors."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view:
            self.count += len(args[0]) if function.overloadpacket.__name__.startswith("_foreach") else 1
        return function(*args, **(kwargs or {}))


@every_optimizer
def test_a_step_calls_a_gpu_at_most_six_times_for_each_tensor(make):
    # on "meta", where arrays are not cut into runs, as on a GPU; what is called for all tensors together cancels
    counts = []
    for number in (10, 30):
        params = [torch.nn.Parameter(torch.zeros(3, 4, device="meta")) for _ in range(number)]
        optimizer, loss = make(params), torch.zeros((), device="meta")
        for parameter in params:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step(loss)
        with Calls() as calls:
            optimizer.step(loss)
        counts.append(calls.count)
    assert 0 < (counts[1] - counts[0]) / 20 <= 6

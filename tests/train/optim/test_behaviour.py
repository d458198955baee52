"""What the ECD family promises: conserved norm and energy, the floor, the basin, determinism, states that continue."""

import copy
import inspect
import itertools
import warnings

import pytest
import torch

from interp.errors import InterpError
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


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_loaded_state_continues_bit_by_bit(make, dtype, tmp_path):
    noise = {"nu": 0.1} if "nu" in inspect.signature(make([torch.nn.Parameter(torch.zeros(2))]).__class__).parameters else {
        "threshold0": 3, "n_fixed_bounces": 9, "threshold": 5}  # fmt: skip
    torch.manual_seed(5)
    params = parameters(dtype=dtype)
    optimizer = make(params, **noise)
    run(optimizer, params, 10)
    torch.save([optimizer.state_dict(), [p.detach() for p in params]], tmp_path / "state.pt")
    run(optimizer, params, 20)
    torch.manual_seed(77)  # the key of the noise is in the state
    state, positions = torch.load(tmp_path / "state.pt", weights_only=True)
    others = [torch.nn.Parameter(p) for p in positions]
    resumed = make(others, **noise)
    resumed.load_state_dict(state)
    run(resumed, others, 20)
    assert all(map(torch.equal, params, others))
    assert all(p.isfinite().all() for p in params)
    twin = copy.deepcopy(resumed)
    assert twin.trajectory["step"] == 30


@every_optimizer
def test_bfloat16_parameters_follow_the_float32_ones(make):
    params, halves = parameters(seed=3), parameters(seed=3, dtype=torch.bfloat16)
    exact, rough = run(make(params), params, 20), run(make(halves), halves, 20)
    assert all(p.dtype == torch.bfloat16 for p in halves)
    assert rough[:4] == pytest.approx(exact[:4], rel=0.1)
    assert max(rough[-1] / rough[0], exact[-1] / exact[0]) < 0.85


@every_optimizer
@pytest.mark.parametrize("value", [-0.5, -3.0, -0.5 + 1e-45, float("nan"), float("inf")])
def test_a_loss_not_above_the_floor_skips_the_step_and_is_counted(make, value):
    params = parameters()
    optimizer = make(params)
    run(optimizer, params, 5)
    before = [(p.clone(), optimizer.state[p]["momentum_buffer"].clone()) for p in params]
    optimizer.step(torch.tensor(value, dtype=torch.float64))
    for p, (position, old) in zip(params, before, strict=True):
        assert torch.equal(p, position) and torch.equal(optimizer.state[p]["momentum_buffer"], old)
    assert int(optimizer.skipped) == 1
    run(optimizer, params, 1)
    assert int(optimizer.skipped) == 1
    assert not any(map(torch.equal, params, [position for position, _ in before]))
    with pytest.warns(UserWarning, match=r"is not a number above (F0|v0) -0.5: the step is skipped"):
        optimizer.step(value)


@every_optimizer
def test_a_first_loss_below_the_floor_does_not_spoil_the_run(make):
    params = parameters()
    optimizer = make(params)
    bowl(params).backward()
    optimizer.step(torch.tensor(-1.0))
    losses = run(optimizer, params, 30)
    assert losses[-1] < 0.9 * losses[0]


@every_optimizer
def test_the_loss_may_come_from_a_closure_as_a_tensor_or_as_a_number(make):
    ends = []
    for form in ("closure", "backward in the closure", "tensor", "number"):
        params = parameters()
        optimizer = make(params)
        for _ in range(3):
            optimizer.zero_grad()

            def closure(params=params):
                loss = bowl(params)
                loss.backward()
                return loss

            loss = None if form.startswith("backward") else closure()
            given = {"closure": lambda loss=loss: loss, "tensor": loss, "number": loss and loss.item()}.get(
                form, closure
            )
            before = bowl(params).item()
            assert float(torch.as_tensor(optimizer.step(given), dtype=torch.float64).detach()) == before
        ends.append(params)
    assert all(torch.equal(a, b) for other in ends[1:] for a, b in zip(ends[0], other, strict=True))


@every_optimizer
def test_parameters_without_gradient_stay_and_may_join_later(make):
    params = parameters()
    late = torch.nn.Parameter(torch.ones(3))
    optimizer = make([*params, late])
    run(optimizer, params, 3)
    assert torch.equal(late, torch.ones(3)) and late not in optimizer.state
    run(optimizer, [*params, late], 3)
    assert not torch.equal(late, torch.ones(3)) and late.isfinite().all()


@every_optimizer
def test_a_step_asks_the_device_for_no_number(make):
    params = [
        torch.nn.Parameter(torch.zeros(shape, device="meta")) for shape in SHAPES
    ]  # where every number is an error
    optimizer = make(params)
    for _ in range(3):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step(torch.zeros((), device="meta"))
    with pytest.raises(Exception):
        int(optimizer.skipped)


@every_optimizer
def test_what_makes_no_sense_is_refused_in_a_sentence(make, unchecked):
    with pytest.raises(InterpError, match="only minimizes"):
        make(parameters(), maximize=True)
    with pytest.raises(InterpError, match="only minimizes"):
        make([{"params": parameters(), "maximize": True}])
    with pytest.raises(InterpError, match="has one conserve_energy for all parameters"):
        make([{"params": parameters(), "conserve_energy": False}])
    with pytest.raises(InterpError, match="must not be below 0"):
        make(parameters(), lr=-1.0)
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(InterpError, match="sparse"):
        make(embedding.parameters()).step(torch.tensor(1.0))
    params = parameters()
    bowl(params).backward()
    for bad, what in ((None, "NoneType"), (torch.ones(3), r"shape \[3\]"), ("1", "str")):
        with pytest.raises(InterpError, match=what):
            make(params).step(bad)


def test_bbi_refuses_weight_decay_and_ecd_a_single_number_or_an_unknown_projection(unchecked):
    with pytest.raises(InterpError, match="BBI has no weight decay"):
        BBI([{"params": parameters(), "weight_decay": 0.1}], lr=0.1)
    single = torch.nn.Parameter(torch.ones(1))
    single.grad = torch.ones(1)
    with pytest.raises(InterpError, match="at least two parameters"):
        ECD([single]).step(torch.tensor(5.0))
    with pytest.raises(InterpError, match="'rows'; it can be"):
        ECD(parameters(), projection="rows")


@every_optimizer
def test_nothing_is_warned_about_while_all_is_well(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        params = parameters()
        bowl(params).backward()
        make(params).step(4.0)

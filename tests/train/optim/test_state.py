"""States that continue, half-precision parameters, parameters that join later."""

import copy
import inspect

import pytest
import torch

from tests.train.optim.cases import SHAPES, every_optimizer, parameters, run


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
    shapes = [(5,), (4, 16)]  # kernels take large tensors another way than small ones
    params, halves = parameters(seed=3, shapes=shapes), parameters(seed=3, dtype=torch.bfloat16, shapes=shapes)
    exact, rough = run(make(params), params, 20), run(make(halves), halves, 20)
    assert all(p.dtype == torch.bfloat16 for p in halves)
    assert rough[:4] == pytest.approx(exact[:4], rel=0.1)
    assert max(rough[-1] / rough[0], exact[-1] / exact[0]) < 0.85


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

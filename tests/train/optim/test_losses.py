"""Losses as they come: below the floor, not finite, as closure, tensor or number; and what is refused."""

import warnings

import pytest
import torch

from interp.errors import InterpError
from interp.train.optim import BBI, ECD
from tests.train.optim.cases import bowl, every_optimizer, parameters, run


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

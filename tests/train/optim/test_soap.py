"""SOAP as the package has it: Adam in the eigenbasis of the gradients' covariance, its state continues."""

import pytest
import torch

from interp.train.optim.registry import build_optimizer
from tests.train.optim.cases import bowl, parameters

BETA, EPS, LR = 0.95, 1e-8, 0.01


def steps(optimizer, params, count):
    for _ in range(count):
        optimizer.zero_grad()
        bowl(params).backward()
        optimizer.step()


def gradient(theta):
    return theta + 0.3 * torch.sin(3 * theta)


def soap(theta, count, frequency, limit):
    """Slow transcription for one matrix; the first gradient only sets up the covariances, as in the authors' release."""
    preconditioned = [size <= limit for size in theta.shape]
    g = gradient(theta)
    L, R = (1 - BETA) * g @ g.T, (1 - BETA) * g.T @ g
    bases = [torch.linalg.eigh(m)[1].flip(1) for m in (L, R)]
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    for t in range(1, count):
        U, W = (b if on else torch.eye(len(b)).to(b) for b, on in zip(bases, preconditioned, strict=True))
        g = gradient(theta)
        m, v = BETA * m + (1 - BETA) * g, BETA * v + (1 - BETA) * (U.T @ g @ W) ** 2
        correction = (1 - BETA**t) ** 0.5 / (1 - BETA**t)
        theta = theta - LR * correction * U @ ((U.T @ m @ W) / (v.sqrt() + EPS)) @ W.T
        L, R = BETA * L + (1 - BETA) * g @ g.T, BETA * R + (1 - BETA) * g.T @ g
        if t % frequency == 0:
            bases, orders = [], []
            for covariance, old, on in ((L, U, preconditioned[0]), (R, W, preconditioned[1])):
                order = torch.diag(old.T @ covariance @ old).argsort(descending=True)
                orders.append(order if on else torch.arange(len(order)))
                bases.append(torch.linalg.qr(((covariance @ old)[:, order]).float())[0].to(theta))
            v = v[orders[0]][:, orders[1]]
    return theta


@pytest.mark.parametrize("shape", [(5, 5), (3, 3), (4, 6), (7, 2)])
@pytest.mark.parametrize("frequency", [3, 10])
def test_it_is_adam_in_the_eigenbasis_of_the_covariances(shape, frequency):
    limit = max(5, min(shape))  # of longer sides the first covariance is singular, and its eigenbasis not unique
    [start] = parameters(seed=7, dtype=torch.float64, shapes=[shape])
    param = torch.nn.Parameter(start.detach().clone())
    optimizer = build_optimizer(
        "soap", [param], LR, 0.0, {"precondition_frequency": frequency, "max_precondition_dim": limit}
    )
    steps(optimizer, [param], 12)
    expected = soap(start.detach(), 12, frequency, limit)
    torch.testing.assert_close(param.detach(), expected, rtol=0, atol=1e-5)  # the package's QR is in float32
    assert (param - start).abs().max() > 0.05


@pytest.mark.parametrize("shape", [(4, 6), (9,), (2, 3, 4)])
def test_without_preconditioners_it_is_adam_one_step_late(shape):
    ours, theirs = (parameters(seed=2, dtype=torch.float64, shapes=[shape]) for _ in range(2))
    arguments = {"max_precondition_dim": 1}
    steps(build_optimizer("soap", ours, LR, 0.0, arguments), ours, 21)
    adam = build_optimizer("adamw", theirs, LR, 0.0, {"betas": (BETA, BETA), "eps": 0.0})
    steps(adam, theirs, 20)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-6)


def test_a_loaded_state_continues_bit_by_bit(tmp_path):
    params = parameters()
    optimizer = build_optimizer("soap", params, LR, arguments={"precondition_frequency": 3})
    steps(optimizer, params, 7)
    torch.save([optimizer.state_dict(), [p.detach() for p in params]], tmp_path / "state.pt")
    steps(optimizer, params, 11)
    state, positions = torch.load(tmp_path / "state.pt", weights_only=True)
    others = [torch.nn.Parameter(p) for p in positions]
    resumed = build_optimizer("soap", others, LR, arguments={"precondition_frequency": 3})
    resumed.load_state_dict(state)
    steps(resumed, others, 11)
    assert all(map(torch.equal, params, others))

"""Training on a device: precision, optimizers, resume, one process as one of many, and a host that waits for nothing."""

import contextlib
import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.nn.attention import SDPBackend, sdpa_kernel

from interp.model.distributed import World
from interp.train.batches import Prefetcher
from interp.train.loop import train
from interp.train.optim import BBI, ECD, ECDSep
from interp.train.optim.registry import OPTIMIZERS, build_optimizer
from interp.train.parallel import copied, sharded
from interp.train.setup import build_optimizer_of
from interp.train.step import optimizer_step
from tests import commands
from tests.gpu.compiling import compiled_once
from tests.gpu.runs import config_of, run_of
from tests.train.optim import textbook
from tests.train.optim.cases import parameters
from tests.train.optim.test_soap import LR, soap, steps
from tests.train.optim.test_trajectories import SHAPES, agree, landscape
from tests.train.same_run import assert_same, final

N, STEPS = len(SHAPES), 50
FAMILY = {
    "ecd": (lambda *a: textbook.ecd(*a, STEPS, [0.3] * N, [9.0] * N, [0.1] * N, -0.5, True, "tensor"),
            lambda p: ECD(p, 0.3, 9.0, -0.5, weight_decay=0.1)),
    "ecd global": (lambda *a: textbook.ecd(*a, STEPS, [0.3] * N, [9.0] * N, [0.0] * N, -0.5, True, "global"),
                   lambda p: ECD(p, 0.3, 9.0, -0.5, projection="global")),
    "ecdsep": (lambda *a: textbook.ecdsep(*a, STEPS, [0.05] * N, 2.0, [0.1] * N, -0.5, 1.0, 0.7, True),
               lambda p: ECDSep(p, 0.05, 2.0, -0.5, nu=0.0, deltaEn=0.7, weight_decay=0.1)),
    "bbi": (lambda *a: textbook.bbi(*a, STEPS, [0.03] * N, -0.5, 2.0, True), lambda p: BBI(p, 0.03, -0.5, 2.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILY)
def test_the_ecd_family_follows_its_float64_reference(device, name):
    start, loss, gradient, tensor_loss = landscape(1)
    expected, make = FAMILY[name]
    agree(make, expected(start, gradient, loss), start, tensor_loss, device=device)


def test_a_compiled_ecd_follows_its_float64_reference(cuda):
    start, loss, gradient, tensor_loss = landscape(1)
    make = lambda p: ECD(p, 0.3, 9.0, -0.5, weight_decay=0.1, compile=True)  # noqa: E731
    agree(make, FAMILY["ecd"][0](start, gradient, loss), start, tensor_loss, device=cuda)


@pytest.mark.parametrize("name", ["adamw", "sgdm"])
def test_a_fused_optimizer_goes_where_the_plain_one_goes_in_float64(device, name):
    exact, fused = parameters(dtype=torch.float64), [p.detach().to(device).requires_grad_() for p in parameters()]
    start = [p.detach().clone() for p in exact]
    for each in (exact, fused):
        steps(build_optimizer(name, each, 0.01, arguments={"fused": each is fused}), each, 20)
    for a, b, before in zip(exact, fused, start, strict=True):
        torch.testing.assert_close(a.detach().float(), b.detach().cpu(), rtol=0, atol=1e-5)
        assert (a - before).abs().max() > 0.05


def test_soap_is_adam_in_the_eigenbasis_of_the_covariances(device):
    [start] = parameters(seed=7, dtype=torch.float64, shapes=[(5, 5)])
    param = start.detach().clone().to(device).requires_grad_()
    steps(build_optimizer("soap", [param], LR, 0.0, {"precondition_frequency": 3}), [param], 12)
    torch.testing.assert_close(param.detach().cpu(), soap(start.detach(), 12, 3, 5), rtol=0, atol=1e-5)


def losses(run, count):
    return [optimizer_step(run, run.batches.at(n).to(run.world.device))[0].item() for n in range(count)]


def test_bfloat16_learns_what_float32_learns(device, tmp_path):
    exact, rough = (losses(run_of(tmp_path, device, precision=p), 8) for p in ("float32", "bfloat16"))
    assert rough[-1] < rough[0] - 0.5 and rough != exact
    assert rough == pytest.approx(exact, abs=0.05)


@contextlib.contextmanager
def in_one_order():
    """Sums are made in one order, which the fastest kernels of a GPU do not do."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_resumed_run_is_the_same_bit_by_bit(device, tmp_path):
    config = config_of(tmp_path, device, steps=4, evaluate_every=2, keep=9, dropout=0.1, optimizer="ecdsep")
    with in_one_order():
        whole = train(config)
        part = shutil.copytree(whole, tmp_path / "part", ignore=shutil.ignore_patterns("step-*4"))
        torch.manual_seed(2)  # what a new process would have
        train(replace(config, output=part, resume=True))
    assert_same(final(whole), final(part))


@pytest.fixture
def alone(device):
    """A process group of this process."""
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    with ExitStack() as leaving:
        leaving.callback(dist.destroy_process_group)
        yield World(0, 1, torch.device(device), leaving)


@pytest.mark.parametrize(("spread", "optimizer"), [(sharded, "ecd"), (copied, "adamw")], ids=["fsdp", "ddp"])
def test_one_process_as_one_of_many_learns_what_it_learns_alone(device, alone, tmp_path, spread, optimizer):
    expected = losses(run_of(tmp_path, device, optimizer=optimizer, precision="bfloat16"), 4)
    run = run_of(tmp_path, device, optimizer=optimizer, precision="bfloat16")
    run.forward = spread(run.model, run.config, alone)
    run.optimizer = build_optimizer_of(run.config, run.model)
    assert losses(run, 4) == pytest.approx(expected, rel=1e-3)
    assert expected[-1] < expected[0] - 0.1


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "soap"])  # eigenbases need the host
def test_the_host_waits_for_nothing_in_a_step(cuda, tmp_path, optimizer, compiled):
    settings = {"precision": "bfloat16", "micro_batch_size": 4, "directions": 3, "compile": compiled}
    run = run_of(tmp_path, cuda, optimizer=optimizer, **settings)
    batches = Prefetcher(run.batches, run.world.device)
    for step in range(2):
        optimizer_step(run, batches.at(step))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(2, 5):
            loss, _ = optimizer_step(run, batches.at(step))
        with pytest.raises(RuntimeError, match="synchronizing"):  # the control
            loss.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        batches.close()


@pytest.mark.slow
def test_a_compiled_step_is_one_graph_that_is_compiled_once(device, tmp_path):
    if device == "cpu":  # in a process of its own: a compiler cannot look through the type checker of the tests
        code = "import pathlib; from tests.gpu.compiling import compiled_once as check; "
        code += f"check(pathlib.Path({str(tmp_path)!r}), 'cpu', 'eager', 'ecd')"
        commands.run([sys.executable, "-c", code], check=True)
        return
    for optimizer in OPTIMIZERS:
        compiled_once(tmp_path / optimizer, device, "inductor", optimizer)

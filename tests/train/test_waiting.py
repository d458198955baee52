"""From its second step on, training waits for no device: a GPU would stand idle while the host reads."""

import contextlib

import pytest
import torch

from interp.model import bias
from interp.train.config import TrainConfig
from interp.train.step import optimizer_step
from tests.train.waiting import run_without_values, waits

# what is fused needs a device that is one; noise a generator there; experts a kernel that this device has not
OPTIMIZERS = {"adamw": "fused=false", "sgdm": "fused=false", "ecd": "", "ecdsep": "nu=0.0", "bbi": ""}


@pytest.fixture
def step(monkeypatch, unchecked):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which "meta" has none of

    def make(optimizer, **more):
        run = run_without_values(
            TrainConfig(preset="mini", variant="bqbv", optimizer=optimizer, optimizer_args=OPTIMIZERS[optimizer],
                        clip=1.0, batch_size=4, micro_batch_size=2, bias_draws="micro-batch", **more)
        )  # fmt: skip
        tokens = torch.zeros(4, 16, dtype=torch.long, device="meta")
        optimizer_step(run, tokens)  # scalars of a new optimizer, or of a saved one, are on the host until then
        return run, lambda: optimizer_step(run, tokens)

    return make


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_reads_nothing_from_the_device_and_sends_nothing_that_it_waits_for(step, optimizer):
    assert waits(step(optimizer, directions=3, weight_decay=0.0 if optimizer == "bbi" else 0.01)[1]) == []


def test_a_draw_that_is_sent_as_usual_a_loss_that_is_read_and_a_branch_on_it_are_seen(step, monkeypatch):
    run, again = step("ecd")
    with monkeypatch.context() as patch:
        patch.setattr(bias, "_sent", lambda drawn, device: drawn.to(device))
        assert waits(again) == ["_to_copy from cpu to meta"] * 6  # of b_Q and b_V, for the step and two micro-batches
    own = run.optimizer.step
    for read in (float, bool, torch.nonzero, torch.Tensor.cpu):
        run.optimizer.step = lambda closure, read=read: own(lambda: read(closure()))
        assert len(waits(again)) == 1

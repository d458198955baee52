"""A compiled training step has no graph break, and what is compiled in its first steps serves all that follow."""

import functools
from unittest.mock import patch

import torch
from torch._dynamo.utils import counters

from interp.train.step import learning_rate, optimizer_step
from tests.gpu.runs import run_of, smallest


def graphs():
    """How many graphs were compiled so far in this process."""
    return counters["stats"]["unique_graphs"]


def compiled_once(folder, device, backend, optimizer):
    """Take steps with the forward pass in one graph, ECD's own compiled too, and a learning rate that changes."""
    torch._dynamo.reset()
    counters.clear()
    with smallest(), patch.object(torch, "compile", functools.partial(torch.compile, backend=backend)):
        run = run_of(folder, device, optimizer=optimizer, precision="bfloat16", compile=True, schedule="cosine")
        run.forward = torch.compile(run.model, fullgraph=True)
        counts = []
        for step in range(4):
            for group in run.optimizer.param_groups:
                group["lr"] = run.config.lr * learning_rate("cosine", step, 4, 0.0, 0.0, 0.1)
            loss, _ = optimizer_step(run, run.batches.at(step).to(run.world.device))
            run.progress.step += 1
            counts.append(graphs())
        assert loss.isfinite() and counts[0] > 0 and not counters["graph_break"]
        assert counts[1:] == [counts[1]] * 3, counts
        optimizer_step(run, run.batches.at(0)[:, :-1].to(run.world.device))  # the control: another shape
        assert graphs() > counts[-1]

"""One optimizer step: its learning rate, biases, micro-batches, the mean over processes, clipping, the update."""

import ctypes
import math
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from interp.train.batches import ExampleBatch
from interp.train.config import Schedule
from interp.train.run import Run

KEPT = {-4: 0, -1: -1, -2: 2**26}
"""Of mallopt(3): M_MMAP_MAX, no block is mapped for itself; M_TRIM_THRESHOLD, the heap never shrinks; M_TOP_PAD, it grows by
64 MiB."""


def keep_memory() -> None:
    """Let this process keep the memory of tensors that are gone, with glibc; elsewhere nothing happens.

    By default large blocks go back to the system and come again, zeroed page by page, in every step: about a sixth of the
    time that a small model takes on a CPU. The process stays as large as it was at most. Numbers do not depend on it.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in KEPT.items():
            mallopt(name, value)


def learning_rate(schedule: Schedule, step: int, steps: int, warmup: float, decay: float, final: float) -> float:
    """Return the learning rate at `step` of `steps` as a share of its peak.

    It rises linearly over the first ``warmup * steps`` steps. Then "cosine" and "linear" fall to `final` at the last step,
    "constant" stays, and "wsd" (warm-up, stable, decay) stays until the last ``decay * steps`` steps and falls linearly
    in them.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    start = max(rising, steps - 1 - round(decay * steps)) if schedule == "wsd" else rising
    progress = min(1.0, max(0.0, (step - start) / max(1, steps - 1 - start)))
    height = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return final + (1 - final) * height


def optimizer_step(
    run: Run, batch: Int64[Tensor, "batch pos"] | ExampleBatch
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Take the next optimizer step of a run on this process' part of a batch.

    The biases are drawn once for the step, the same for all its micro-batches and processes, or with ``bias_draws`` of
    "micro-batch" for each of them. Nothing here waits for the device.

    Returns:
        The loss over all processes, and the norm of the gradient before clipping.
    """
    model, config, step = run.model, run.config, run.progress.step
    model.train()
    parts = batch.split(config.micro_batch_size or len(batch))
    run.optimizer.zero_grad(set_to_none=True)
    loss = torch.zeros((), device=batch.device)
    model.draw_biases(step + 1)
    for number, part in enumerate(parts):
        if config.bias_draws == "micro-batch":
            model.draw_biases(step + 1, micro_batch=run.world.rank * len(parts) + number)
        with _synchronized(run.forward, number == len(parts) - 1):
            with torch.autocast(batch.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                if isinstance(part, ExampleBatch):
                    share = completion_loss(run.forward, part, run.world.size)
                    if model.cfg.num_experts:
                        share = share + model.cfg.load_balancing * model.experts_balance * (len(part) / len(batch))
                else:
                    share = run.forward(part, return_type="loss") * (len(part) / len(batch))
            share.backward()
        loss += share.detach()
    loss = run.world.mean(loss)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if config.clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), config.clip, norm)
    # an optimizer of the ECD family asks for the loss of these gradients, over all processes
    run.optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]
    return loss, norm.full_tensor() if isinstance(norm, DTensor) else norm


def completion_loss(forward: Any, part: ExampleBatch, processes: int) -> Float[Tensor, ""]:
    """Return what a part of a batch of examples adds to the loss, in nats per learned token of the whole batch.

    The mean over processes of the sums over their parts is the mean over the learned tokens of all, which count alike
    however long their examples are.
    """
    losses = forward(part.tokens, return_type="loss", loss_per_token=True)  # [batch, pos - 1]
    return (losses * part.learned[:, 1:]).sum() * (processes / part.n_learned)


def _synchronized(forward: nn.Module | Any, last: bool) -> AbstractContextManager[None]:
    """Let processes exchange gradients after the last micro-batch only."""
    if isinstance(forward, FSDPModule):
        forward.set_requires_gradient_sync(last)
    elif isinstance(forward, DistributedDataParallel) and not last:
        return forward.no_sync()
    return nullcontext()

"""What is measured at every step, the row of the curve, and what share of the device's arithmetic that takes."""

import time
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from interp.model.config import ModelConfig
from interp.train.charges import charge_row
from interp.train.optim.descent import EnergyConservingOptimizer
from interp.train.run import Run

BATCH = 8  # contexts of a batch of validation the published way


class Measures:
    """Makes the rows of a run, from where it stands."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.began = time.perf_counter() - run.progress.seconds
        self.last = time.perf_counter()
        dtype = torch.bfloat16 if run.config.precision == "bfloat16" else torch.float32
        peak = peak_flops(run.world.device, dtype) * run.world.size
        self.utilization_per_rate = flops_per_token(run.model.cfg) / peak

    def row(self, loss: Tensor, norm: Tensor) -> dict[str, Any]:
        """Return the row of the step that was just taken; waits for the device."""
        run, values = self.run, {"loss": loss.item(), "grad_norm": norm.item()}
        now, step = time.perf_counter(), run.progress.step
        tokens = run.batches.tokens_until(step)
        rate = (tokens - run.batches.tokens_until(step - 1)) / (now - self.last)
        self.last, run.progress.seconds = now, now - self.began
        row: dict[str, Any] = {"step": step, "tokens": tokens, "loss": round(values["loss"], 6)}
        row |= {"lr": round(run.optimizer.param_groups[0]["lr"], 10), "grad_norm": round(values["grad_norm"], 6)}
        row |= {"seconds": round(run.progress.seconds, 3), "tokens_per_second": round(rate, 1)}
        row["utilization"] = round(rate * self.utilization_per_rate, 4)
        if isinstance(run.optimizer, EnergyConservingOptimizer):
            row["energy"] = float(run.optimizer.energy)
        if run.model.cfg.num_experts:
            row["experts_balance"] = round(run.model.experts_balance.item(), 4)
        if run.config.charges_every and step % run.config.charges_every == 0:
            row["charges"] = charge_row(run.model, run.optimizer)
        return row

    def skip(self) -> None:
        """Leave out of the rate what was done since the last row: evaluations, writing."""
        self.last = time.perf_counter()


@torch.no_grad()
def batch_validation_loss(run: Run) -> float:
    """Return the mean cross-entropy in nats on one batch of 8 held-out contexts, drawn anew for every step of a seed.

    So the release of arXiv 2601.22257 validates, with contexts of 512 tokens, and takes the lowest over a run: a minimum
    over noise, which lies below any mean over held-out text. All processes measure the same batch.
    """
    device = next(run.model.parameters()).device
    with run.model.evaluating():
        return float(run.model(validation_batch(run).to(device), return_type="loss"))


def validation_batch(run: Run) -> Int64[Tensor, "batch pos"]:
    """Return the batch of `batch_validation_loss` for the step that the run has reached: 8 contexts, which may overlap."""
    stream = run.tokens.held_out
    assert isinstance(stream, np.ndarray)  # with examples there is no such batch: `TrainConfig` refuses it
    length = min(run.model.cfg.n_ctx, len(stream))
    random = np.random.default_rng([run.config.seed, run.progress.step, BATCH])
    starts = random.integers(len(stream) - length + 1, size=BATCH)
    return torch.from_numpy(np.stack([stream[start : start + length] for start in starts]).astype(np.int64))


def flops_per_token(cfg: ModelConfig) -> int:
    """Return the floating point operations of forward and backward pass per token.

    Six per weight of a matrix product that a token meets (two forward, four backward), the unembedding among them, and
    twelve per layer, dimension of a head, head and position of the context for scores and pattern times values, counted
    without the causal mask: PaLM, arXiv 2204.02311, appendix B. Grouped keys and values save weights, and no scores; of
    experts those count that a token goes through.
    """
    weights = cfg.n_layers * cfg.active_block_weights + cfg.d_model * cfg.d_vocab
    return 6 * weights + 12 * cfg.n_layers * cfg.n_heads * cfg.d_head * cfg.n_ctx


DATA_SHEET = {
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989.4e12,
}
"""Floating point operations per second in dense bfloat16 products, summed in float32, by the name that the driver gives.

Source: the vendor's data sheets; half of what they give with sparsity. A card under another name, or a part of one (MIG),
is not known: what is not here has no figure.
"""
H100 = "NVIDIA H100 80GB HBM3"  # SXM


def training_seconds(cfg: ModelConfig, tokens: int, flops_per_second: float) -> float:
    """Return how long forward and backward passes over so many tokens take at a rate, of `DATA_SHEET` a share.

    Computed from `flops_per_token`, not measured: 45% of the data sheet is this package's aim for GPT-2-small in bfloat16.
    """
    return flops_per_token(cfg) * tokens / flops_per_second


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating point operations per second that the device reaches in a large matrix product.

    Measured once in a process. Utilization is measured against this figure rather than a data sheet's, so that it means
    the same on every device.
    """
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))  # leaves random numbers alone
    best = float("inf")
    for _ in range(4):  # the first one warms up
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

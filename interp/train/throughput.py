"""How fast a run is: tokens per second, and the share of the device's arithmetic that the model uses."""

from __future__ import annotations

import time

import torch

from interp.model.config import ModelConfig


def flops_per_token(cfg: ModelConfig) -> int:
    """Return the floating point operations of forward and backward pass per token.

    Six per weight of a matrix product (two forward, four backward), the unembedding among them, and twelve per layer,
    d_model and position of the context for scores and pattern times values, counted without the causal mask:
    PaLM, arXiv 2204.02311, appendix B.
    """
    block = 4 * cfg.d_model**2 + 2 * cfg.d_model * cfg.d_mlp
    weights = cfg.n_layers * block + cfg.d_model * cfg.d_vocab
    return 6 * weights + 12 * cfg.n_layers * cfg.d_model * cfg.n_ctx


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating point operations per second that the device reaches in a large matrix product, measured now.

    Utilization is measured against this figure rather than a data sheet's, so that it means the same on every device.
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

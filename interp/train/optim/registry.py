"""One table of optimizers with the defaults a run starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class OptimizerSpec:
    """How to build an optimizer from parameter groups and a learning rate, and its default learning rate."""

    build: Callable[[Groups, float], torch.optim.Optimizer]
    lr: float


def _adamw(groups: Groups, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


OPTIMIZERS: dict[str, OptimizerSpec] = {"adamw": OptimizerSpec(_adamw, lr=1e-3)}


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Return two groups: matrices with weight decay, vectors (biases, norms, slopes) without."""
    together = list(parameters)
    return [
        {"params": [p for p in together if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in together if p.ndim < 2], "weight_decay": 0.0},
    ]

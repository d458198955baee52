"""One table of optimizers with the defaults a run starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from interp.train.optim.bbi import BBI
from interp.train.optim.ecd import ECD
from interp.train.optim.ecdsep import ECDSep

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class OptimizerSpec:
    """How to build an optimizer from parameter groups and a learning rate, and its default learning rate."""

    build: Callable[[Groups, float], torch.optim.Optimizer]
    lr: float


def _adamw(groups: Groups, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


def _sgdm(groups: Groups, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True)


def _ecd(groups: Groups, lr: float) -> torch.optim.Optimizer:
    return ECD(groups, lr=lr)


def _ecdsep(groups: Groups, lr: float) -> torch.optim.Optimizer:
    return ECDSep(groups, lr=lr, eta=1.0)


def _bbi(groups: Groups, lr: float) -> torch.optim.Optimizer:
    return BBI([{**group, "weight_decay": 0.0} for group in groups], lr=lr)


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adamw": OptimizerSpec(_adamw, lr=1e-3),
    "sgdm": OptimizerSpec(_sgdm, lr=1e-1),
    "ecd": OptimizerSpec(_ecd, lr=1.0),
    "ecdsep": OptimizerSpec(_ecdsep, lr=0.4),
    "bbi": OptimizerSpec(_bbi, lr=1e-1),
}


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Return two groups: matrices with weight decay, vectors (biases, norms, slopes) without."""
    together = list(parameters)
    return [
        {"params": [p for p in together if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in together if p.ndim < 2], "weight_decay": 0.0},
    ]

"""This process among others: `torchrun` and `accelerate launch` tell each its place through the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from interp.model.device import choose_device


@dataclass(frozen=True)
class Processes:
    """This process' place among those that train together, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over the processes."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over the processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def largest(self, number: int) -> int:
        """Return the largest of one number of every process."""
        if self.world > 1:
            shared = torch.tensor(number, device=self.device)
            dist.all_reduce(shared, dist.ReduceOp.MAX)
            number = int(shared)
        return number

    def gathered(self, value: Any) -> list[Any]:
        """Return one object of every process, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that the environment tells of, if any, and leave them at the end.

    Raises:
        InterpError: there is no such device.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device)
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = choose_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()

"""This process among others: `torchrun` and `accelerate launch` tell each its number through the environment."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from interp.errors import InterpError
from interp.files import owning

T = TypeVar("T")


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes a CUDA GPU if there is one, else the CPU.

    Apple's MPS is left out: the analysis sums in float64, which it does not have.

    Raises:
        InterpError: no device has this name, or there is no such device in this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InterpError(f"There is no device {name!r} here; use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InterpError(f"{name!r} was asked for, but {torch.cuda.device_count()} CUDA GPUs are visible; use cpu.")
    return device


@dataclass(frozen=True)
class World:
    """The processes that work together, as one of them sees it: its number, how many there are, its device.

    What holds on to the process group, as DistributedDataParallel does, is let go by a callback of `leaving`: these run
    before the group is destroyed.
    """

    rank: int
    size: int
    device: torch.device
    leaving: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over the processes."""
        return self.sum(values) / self.size if self.size > 1 else values

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, number: int) -> int:
        """Return the largest of one number of every process."""
        if self.size > 1:
            shared = torch.tensor(number, device=self.device)
            dist.all_reduce(shared, dist.ReduceOp.MAX)
            number = int(shared)
        return number

    def gathered(self, value: Any) -> list[Any]:
        """Return one object of every process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, act: Callable[[], T]) -> list[T]:
        """Return what `act` gives in every process, in the order of their ranks.

        Raises:
            InterpError: in all processes, where it was raised in one.
        """
        if self.size == 1:
            return [act()]
        value = problem = None
        try:
            value = act()
        except InterpError as error:
            problem = str(error)
        told = self.gathered((value, problem))
        if problems := [problem for _, problem in told if problem is not None]:
            raise InterpError(problems[0])
        return [value for value, _ in told]

    @contextmanager
    def owning(self, folder: Path) -> Iterator[None]:
        """Hold a folder that only these processes may write to; the first one does, and all are told if it cannot.

        Raises:
            InterpError: as `interp.files.owning` does.
        """
        with ExitStack() as held:
            self.together(lambda: held.enter_context(owning(folder)) if self.first else None)
            yield


@contextmanager
def processes(device: str) -> Iterator[World]:
    """Join the processes that the environment tells of, if any, and leave them at the end.

    Raises:
        InterpError: there is no such device.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device)
    if size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = choose_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    with ExitStack() as leaving:
        leaving.callback(dist.destroy_process_group)
        yield World(dist.get_rank(), dist.get_world_size(), chosen, leaving)

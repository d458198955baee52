"""One process or many: `torchrun -m interp.train` copies (DDP) or shards (FSDP2) the model, nothing else changes.

All processes build the same model and read the same corpus from disk; each computes its own part of every batch.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from interp.errors import InterpError
from interp.model.config import ModelConfig
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig

SHARDED = 1_000_000_000  # parameters from which on a model is sharded if nothing else is said
WORTH = {"cpu": 1e14, "cuda": 1e16}
"""Operations of a run from which on it is compiled if nothing else is said: on a CPU half an hour of one core.
`docs/training.md` has what was measured there; the other is an estimate."""
NARROW = 256  # d_model up to which it pays on a CPU: in wider models almost all time goes into matrix products
# Buffers are not sent: the biases are drawn alike in every process, or for each micro-batch on purpose.
SENT = "forward_sync_buffers"  # its name from torch 2.13 on
SENT = SENT if SENT in signature(DistributedDataParallel).parameters else "broadcast_buffers"


def distributed(model: HookedSymmetryBrokenTransformer, config: TrainConfig, world: World) -> Any:
    """Return what to call for a training step: the model, compiled if asked for, and in every process a part or a copy.

    With "fsdp" the model is sharded in place, block by block; "auto" does so for models that need it.
    """
    if world.size == 1:
        return torch.compile(model) if config.compile else model
    large = config.distribute == "auto" and model.cfg.n_parameters >= SHARDED
    return (sharded if config.distribute == "fsdp" or large else copied)(model, config, world)


def sharded(model: HookedSymmetryBrokenTransformer, config: TrainConfig, world: World) -> Any:
    """Return the model, of whose parameters each process holds a part from now on."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for part in (*model.blocks, model):
        fully_shard(part, mesh=mesh)
    if config.compile:
        model.compile()
    return model


def copied(model: HookedSymmetryBrokenTransformer, config: TrainConfig, world: World) -> Any:
    """Return a DistributedDataParallel around the model, which is in every process."""
    quiet: dict[str, Any] = {SENT: False}
    copies = DistributedDataParallel(torch.compile(model) if config.compile else model, **quiet)
    world.leaving.callback(_let_go, copies)
    return copies


def compiles(config: TrainConfig, cfg: ModelConfig, tokens: int, world: World, say: Callable[[str], None]) -> bool:
    """Return whether a run of so many tokens compiles its steps; all processes must call it.

    If the settings do not say, that takes one process, contexts of one length, on a CPU a model that is `NARROW`, and enough
    arithmetic (6 operations for each parameter and token) to earn the time that the compiler takes: `WORTH` of the device.
    It does not depend on how fast the machine is, so that the same command makes the same run.

    Raises:
        InterpError: it was asked for, and there is no compiler.
    """
    worth = 6 * cfg.n_parameters * tokens >= WORTH[world.device.type] and world.size == 1 and not config.examples
    worth = worth and (world.device.type != "cpu" or cfg.d_model <= NARROW)
    if not (worth if config.compile is None else config.compile):
        return False
    problem = next(filter(None, world.gathered(_compiler_problem(world.device))), None)
    if problem and config.compile:
        raise InterpError(
            f"torch.compile does not work here ({problem}); install a C++ compiler, or give --no-compile."
        )
    if problem:
        say(f"torch.compile does not work here ({problem}): the run goes on without, which is slower")
    return not problem


def _compiler_problem(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device, if so."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=device))
    except Exception as error:  # of the compiler, of its search, of what it made
        return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".: ")
    return None


def _let_go(copies: DistributedDataParallel) -> None:
    """Free what exchanges the gradients, also where a traceback keeps the model.

    Its destructor holds the interpreter lock. Were it the last to hold the process group, it would end gloo's threads,
    and wait for ever for one that waits for that lock.
    """
    del copies.reducer, copies.logger


def whole(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Return named tensors with the sharded ones put together, one after the other, on the CPU of the first process.

    No other process holds more than its own parts: it sends them, and leaves these names out. All must call it.
    """
    parts = {name: value.to_local() for name, value in tensors.items() if isinstance(value, DTensor)}
    shapes = world.gathered([tuple(part.shape) for part in parts.values()]) if parts else []
    found = {name: value for name, value in tensors.items() if name not in parts}
    for number, (name, part) in enumerate(parts.items()):
        part = part.detach().cpu().contiguous()
        if world.first:
            others = [part.new_empty(shape[number]) for shape in shapes[1:]]
            for rank, other in enumerate(others, 1):
                if other.numel():
                    dist.recv(other, rank)
            found[name] = torch.cat([part, *others], sharded_dim(tensors[name]))
        elif part.numel():
            dist.send(part, 0)
    return found


def sharded_dim(tensor: Tensor) -> int:
    """Return the dimension along which `fully_shard` divided a tensor."""
    assert isinstance(tensor, DTensor)
    [placement] = tensor.placements
    return int(placement.dim)  # type: ignore[attr-defined] # of a Shard, the only kind that `distributed` makes


def own_rows(target: DTensor) -> tuple[int, int]:
    """Return where the rows that this process holds of a sharded tensor begin, along its sharded dimension, and end."""
    numbers = torch.arange(target.shape[sharded_dim(target)], device=target.device)
    rows = distribute_tensor(numbers, target.device_mesh, [Shard(0)], src_data_rank=None).to_local()
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


def of_part(part: Tensor, target: DTensor) -> DTensor:
    """Return the tensor laid out over processes as `target` is, of which this process holds `part`."""
    part, shape, stride = part.to(target.device), target.shape, target.stride()
    return DTensor.from_local(part, target.device_mesh, target.placements, run_check=False, shape=shape, stride=stride)


def like(value: Tensor, target: Tensor) -> Tensor:
    """Return a whole tensor laid out over processes as `target` is, if it has the same shape."""
    if isinstance(target, DTensor) and value.shape == target.shape:
        return distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    return value

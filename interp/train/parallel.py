"""One process or many: `torchrun -m interp.train` copies (DDP) or shards (FSDP2) the model, nothing else changes.

All processes build the same model and read the same corpus from disk; each computes its own part of every batch.
"""

from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig

SHARDED = 1_000_000_000  # parameters from which on a model is sharded if nothing else is said
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


def _let_go(copies: DistributedDataParallel) -> None:
    """Free what exchanges the gradients, also where a traceback keeps the model.

    Its destructor holds the interpreter lock. Were it the last to hold the process group, it would end gloo's threads,
    and wait for ever for one that waits for that lock.
    """
    del copies.reducer, copies.logger


def whole(state: Any, world: World) -> Any:
    """Return a nested state with every sharded tensor put together, on the CPU of the first process; all must call it.

    The other processes, which write nothing, get None in place of a sharded tensor.
    """
    if isinstance(state, dict):
        return {key: whole(value, world) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(whole(value, world) for value in state)
    if isinstance(state, DTensor):
        gathered = state.full_tensor()
        return gathered.cpu() if world.first else None
    return state


def like(value: Tensor, target: Tensor) -> Tensor:
    """Return a whole tensor laid out over processes as `target` is, if it has the same shape."""
    if isinstance(target, DTensor) and value.shape == target.shape:
        return distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    return value

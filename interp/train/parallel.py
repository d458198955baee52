"""One process or many: `torchrun -m interp.train` copies (DDP) or shards (FSDP2) the model, nothing else changes.

`torchrun` and `accelerate launch` tell each process its place through the environment. All processes build the same
model and read the same corpus from disk; each computes its own part of every batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from interp.errors import InterpError
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig

SHARDED_PRESETS = ("gpt2-1.3b",)


def distributed(model: HookedSymmetryBrokenTransformer, config: TrainConfig, place: World) -> Any:
    """Return what to call for a training step: the model, compiled if asked for, or a DistributedDataParallel around it.

    With "fsdp" the model is sharded in place, block by block; "auto" does so for presets that need it.

    Raises:
        InterpError: soap with sharded weights.
    """
    sharded = config.distribute == "fsdp" or (config.distribute == "auto" and config.preset in SHARDED_PRESETS)
    if place.world > 1 and sharded:
        if config.optimizer == "soap":
            raise InterpError(
                "soap needs whole matrices, and fsdp shards them; use --distribute ddp, or another --optimizer."
            )
        mesh = init_device_mesh(place.device.type, (place.world,))
        for part in (*model.blocks, model):
            fully_shard(part, mesh=mesh)
        if config.compile:
            model.compile()
        return model
    called = torch.compile(model) if config.compile else model
    # the biases are drawn alike in every process, so buffers need not be sent
    return DistributedDataParallel(called, broadcast_buffers=False) if place.world > 1 else called


def whole(state: Any) -> Any:
    """Return a nested state with every sharded tensor put together on the CPU; all processes must call it."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(whole(value) for value in state)
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    return state


def like(value: Tensor, target: Tensor) -> Tensor:
    """Return a whole tensor laid out over processes as `target` is, if it has the same shape."""
    if isinstance(target, DTensor) and value.shape == target.shape:
        return distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    return value

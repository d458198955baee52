"""Tensors of which every process holds a part (DTensor, as FSDP2 makes them): the parts, and sums over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from jaxtyping import Float64
from torch import Tensor

from interp.errors import InterpError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def as_sharded(tensor: Tensor) -> DTensor | None:
    """Return a tensor of which this process holds a part only, None for any other."""
    if not dist.is_available() or not dist.is_initialized():
        return None
    from torch.distributed.tensor import DTensor  # not in every build of torch

    return tensor if isinstance(tensor, DTensor) else None


def local(tensor: Tensor) -> Tensor:
    """Return the part that this process holds, sharing its memory; an ordinary tensor as it is."""
    sharded = as_sharded(tensor)
    return tensor if sharded is None else sharded.to_local()


class Sharding:
    """Which of some tensors are sharded, and over which processes.

    Attributes:
        sharded: for each tensor, whether other processes hold other parts of it.
        part: number of this process' part among those of the sharded tensors, from 1; 0 if nothing is sharded.

    Raises:
        InterpError: two tensors are sharded over different processes.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        places = [_place(tensor) for tensor in tensors]
        self.sharded = [place is not None for place in places]
        self.part, self._mesh, self._dims = 0, None, ()
        different = {place for place in places if place is not None}
        if len(different) > 1:
            raise InterpError(
                f"The parameters are sharded over {len(different)} different sets of processes; shard all over one."
            )
        for self._mesh, self._dims in different:
            for dim in self._dims:
                self.part = self.part * self._mesh.size(dim) + self._mesh.get_local_rank(dim)
            self.part += 1

    def total(self, sums: Float64[Tensor, "sum tensor"]) -> Float64[Tensor, "sum tensor"]:
        """Return sums over each tensor from those over its part here; one message for all of them."""
        if self._mesh is None:
            return sums
        whole = sums.clone()
        for dim in self._dims:
            dist.all_reduce(whole, group=self._mesh.get_group(dim))
        if all(self.sharded):
            return whole
        columns = zip(self.sharded, whole.unbind(1), sums.unbind(1), strict=True)
        return torch.stack([total if sharded else own for sharded, total, own in columns], dim=1)


def _place(tensor: Tensor) -> tuple | None:
    """Return the mesh of a sharded tensor and the mesh's dimensions over which its parts lie."""
    sharded = as_sharded(tensor)
    dims = () if sharded is None else tuple(n for n, p in enumerate(sharded.placements) if not p.is_replicate())
    return (sharded.device_mesh, dims) if sharded is not None and dims else None

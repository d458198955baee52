"""The sums of all processes of a run in each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from interp.analysis.corpus_sums import CorpusSums
from interp.model.ranks import Processes


def gathered(own: CorpusSums, fresh: Callable[[], CorpusSums], place: Processes) -> CorpusSums:
    """Return the merged sums in every process; all must call it.

    The first process receives the others' one after another and adds them in the order of ranks, so memory holds two of them
    at most; then all get the merged sums. Against one process only the order of float64 additions differs.

    Args:
        own: this process' sums.
        fresh: gives empty sums of the same settings.
        place: this process among the others.
    """
    if place.world == 1:
        return own
    for rank in range(1, place.world):
        if place.rank == rank:
            _send(own.state())
        elif place.first:
            other = fresh()
            other.restore(_receive(rank))
            own.merge(other)
    merged = _broadcast(own.state() if place.first else {})
    if not place.first:
        own = fresh()
        own.restore(merged)
    return own


Layout = list[tuple[str, tuple[int, ...], torch.dtype]]


def _layout(state: dict[str, Tensor]) -> Layout:
    return [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()]


def _empty(layout: Layout) -> dict[str, Tensor]:
    return {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in layout}


def _send(state: dict[str, Tensor]) -> None:
    dist.send_object_list([_layout(state)], 0)
    for tensor in state.values():
        if tensor.numel():
            dist.send(tensor.contiguous(), 0)


def _receive(rank: int) -> dict[str, Tensor]:
    layout: list[Layout] = [[]]
    dist.recv_object_list(layout, rank)
    state = _empty(layout[0])
    for tensor in state.values():
        if tensor.numel():
            dist.recv(tensor, rank)
    return state


def _broadcast(state: dict[str, Tensor]) -> dict[str, Tensor]:
    layout = [_layout(state)]
    dist.broadcast_object_list(layout, 0)
    state = {name: tensor.contiguous() for name, tensor in state.items()} or _empty(layout[0])
    for tensor in state.values():
        if tensor.numel():
            dist.broadcast(tensor, 0)
    return state

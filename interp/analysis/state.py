"""The sums of accumulators as named tensors, and back: what goes to disk and from process to process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import InterpError


def state_of(accumulator: Any) -> dict[str, Tensor]:
    """Return the tensors of an accumulator by name, such as "shares.total": all that its `PARTS` name, down to numbers."""
    return {name: torch.as_tensor(value).cpu() for name, _, _, value in _leaves(accumulator)}


def restore(accumulator: Any, state: Mapping[str, Tensor]) -> None:
    """Put a state back into an accumulator of the same settings.

    Raises:
        InterpError: the state has other names or shapes.
    """
    leaves = list(_leaves(accumulator))
    shapes = {name: torch.as_tensor(value).shape for name, _, _, value in leaves}
    if shapes != {name: tensor.shape for name, tensor in state.items()}:
        raise InterpError("The partial results are of other sums than this run's; remove them to start over.")
    for name, owner, attribute, value in leaves:
        if isinstance(value, int):
            setattr(owner, attribute, int(state[name]))
        elif isinstance(value, np.ndarray):
            value[...] = state[name].numpy()
        else:
            value.copy_(state[name])


def _leaves(accumulator: Any, prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """Every number, array and tensor with its name, its owner and the owner's attribute."""
    for attribute in accumulator.PARTS:
        value, name = getattr(accumulator, attribute), f"{prefix}{attribute}"
        if isinstance(value, (int, np.ndarray, Tensor)):
            yield name, accumulator, attribute, value
            continue
        several = value if isinstance(value, list) else [value]
        for number, part in enumerate(several):
            if part is not None:
                yield from _leaves(part, f"{name}.{number}." if isinstance(value, list) else f"{name}.")

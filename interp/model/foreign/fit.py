"""Compare what a file holds with what a model needs, and say all that is wrong in one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interp.errors import InterpError, few

Shape = tuple[int, ...]


def fitted(where: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], ignored: str) -> dict[str, Tensor]:
    """Return the tensors named in `shapes`, in float32.

    Args:
        where: the file, for messages.
        tensors: what it holds.
        shapes: what is needed.
        ignored: a regular expression for whole names that may be there too.

    Raises:
        InterpError: names that are missing or unknown, or tensors that are of another shape, no floating-point numbers, or
            not finite; the message lists the first of each kind and counts the rest.
    """
    found = {name: tensor for name, tensor in tensors.items() if name in shapes}
    faults = {
        "missing": sorted(shapes.keys() - tensors.keys()),
        "unknown": sorted(n for n in tensors.keys() - shapes.keys() if not re.fullmatch(ignored, n)),
        "of another shape": [_fault(n, t, shapes[n]) for n, t in found.items() if not _fits(t, shapes[n])],
    }
    if not any(faults.values()):
        faults["not finite"] = [name for name, tensor in found.items() if not bool(tensor.isfinite().all())]
    if any(faults.values()):
        raise InterpError(
            f"{where} does not fit: "
            + "; ".join(f"{kind}: {few(list_)}" for kind, list_ in faults.items() if list_)
            + "."
        )
    return {name: tensor.detach().to(torch.float32) for name, tensor in found.items()}


def agree(where: str, claimed: Mapping[str, Any], found: Mapping[str, int]) -> None:
    """Refuse a config that says other sizes than the tensors have.

    Raises:
        InterpError: the sizes on which they differ.
    """
    wrong = [f"{name} is {claimed[name]!r} and the tensors have {size}" for name, size in found.items()
             if claimed.get(name, size) != size]  # fmt: skip
    if wrong:
        raise InterpError(f"The config of {where} and its tensors do not belong together: {few(wrong)}.")


def whole_number(where: str, config: Mapping[str, Any], name: str) -> int:
    """Return a field of a config that must be a whole number.

    Raises:
        InterpError: it is missing or something else.
    """
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InterpError(f"The config of {where} has {name} {value!r}; a whole number is expected.")
    return value


def _fits(tensor: Tensor, shape: Shape) -> bool:
    plain = tensor.layout == torch.strided and tensor.is_floating_point() and not tensor.is_meta
    return plain and tuple(tensor.shape) == shape


def _fault(name: str, tensor: Tensor, shape: Shape) -> str:
    return f"{name} is {list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}, expected {list(shape)}"

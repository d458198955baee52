"""Where a model runs."""

from __future__ import annotations

import torch

from interp.errors import InterpError


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

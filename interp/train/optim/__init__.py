"""Optimizers of the ECD family, and the table of all a run can choose from (`registry`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.train.optim.bbi import BBI
    from interp.train.optim.ecd import ECD
    from interp.train.optim.ecdsep import ECDSep

__all__ = ["BBI", "ECD", "ECDSep"]


def __getattr__(name: str) -> Any:
    # late, so that a command's --help does not import torch
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)


def __dir__() -> list[str]:
    return __all__

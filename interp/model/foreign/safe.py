"""Read a .pt file of somebody else: tensors and plain values, and nothing that it would like to have run.

A .pt file is a pickle, a small program that may call any function of any module. `torch.load(weights_only=True)` runs
only the steps that build tensors, containers and plain values, and looks names up in a list instead of importing them.
To that list comes one name for each foreign config class, and it stands for a class of ours that does nothing.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from interp.errors import InterpError

CONFIG_CLASSES = ("ecd_symbreak.config.GPTConfig", "__main__.GPTConfig")
"""Where the authors' scripts have their config class: in the package, or in the script that was run."""


class InertConfig:
    """Stands in for a config class that is not here: it keeps the fields and knows nothing of the class."""

    def __setstate__(self, state: Any) -> None:
        self.fields = dict(state) if isinstance(state, dict) else {}


def read_pickled(path: Path) -> Any:
    """Return what a .pt file holds, with config objects as dictionaries of their fields, tensors on the CPU.

    Raises:
        InterpError: the file cannot be read, is damaged, or names anything beyond tensors, containers, plain values and
            the config classes of the authors' release; nothing of it has been run then.
    """
    allowed: list[Any] = [(InertConfig, name) for name in CONFIG_CLASSES]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")  # of pickle protocols: what they lead to is caught below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InterpError(f"Cannot read {path}: {error.strerror}.") from error
    except Exception as error:  # a hostile file may fail in any way
        raise InterpError(_refusal(path, error)) from error
    return _without_config_objects(content)


def _refusal(path: Path, error: Exception) -> str:
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"{path} names {named[1]}, which is no part of a model and could be made to run code; nothing of the file was "
            "run: save its state dict and plain numbers only, and convert that."
        )
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return f"{path} cannot be read as a PyTorch file of tensors and plain values ({reason}); copy it or save it again."


def _without_config_objects(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {k: getattr(v, "fields", {}) if isinstance(v, InertConfig) else v for k, v in content.items()}

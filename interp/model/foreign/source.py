"""Find the files of a foreign model, and read its tensors and what stands beside them, without running anything."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from interp.errors import InterpError, few
from interp.files import read_json
from interp.model.checkpoint import download, is_hub_id

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a folder; large ones are in parts, with an .index.json
TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt")
STATE_DICT = ("model", "model_state_dict", "state_dict")  # where a checkpoint keeps its weights
CONFIG_CLASSES = ("ecd_symbreak.config.GPTConfig", "__main__.GPTConfig")
"""Where the authors' scripts have their config class: in the package, or in the script that was run."""


@dataclass(frozen=True)
class Source:
    """A foreign model as it was read.

    `beside` is what the file has besides the weights, or the config.json of a folder; `folder` is where a tokenizer may lie.
    """

    where: str
    tensors: dict[str, Tensor]
    beside: dict[str, Any]
    folder: Path | None = None


def open_source(name: str | Path) -> Source:
    """Read a .pt or .safetensors file, a folder of a Hugging Face model, or a model on the hub by its id.

    Raises:
        InterpError: there is none, or a file is damaged, wants to run code or holds no tensors.
    """
    path = Path(name).expanduser()
    if path.is_file():
        content = _tensors_in(path)
        state = next((content[key] for key in STATE_DICT if isinstance(content.get(key), Mapping)), content)
        beside = {} if state is content else {str(key): value for key, value in content.items() if value is not state}
        return Source(str(path), _named(str(path), state), beside)
    if path.is_dir():
        return _from_folder(path, str(path))
    if is_hub_id(name) or (str(name) == path.name and not path.suffix):
        wanted = [f"{WEIGHTS[0]}*", "model-*.safetensors", "config.json", *TOKENIZER]
        folder = download(str(name), wanted)
        if not any(folder.glob("*.safetensors")):
            folder = download(str(name), ["pytorch_model*.bin*", "config.json", *TOKENIZER])
        return _from_folder(folder, str(name))
    raise InterpError(
        f"There is no file or folder {name}; give a checkpoint file, a model folder or a hub id (owner/name)."
    )


def _from_folder(folder: Path, where: str) -> Source:
    config = read_json(folder / "config.json")
    if isinstance(config.get("model"), dict):
        raise InterpError(f"{where} is a checkpoint of this package already; it needs no conversion.")
    tensors: dict[str, Any] = {}
    for file in _weight_files(folder, where):
        tensors |= _tensors_in(file)
    return Source(where, _named(where, tensors), config, folder)


def _weight_files(folder: Path, where: str) -> list[Path]:
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            parts = read_json(index).get("weight_map")
            if not isinstance(parts, dict) or any(Path(str(part)).name != part for part in parts.values()):
                raise InterpError(f"{index} does not say which files hold the weights; copy it again.")
            return [folder / part for part in sorted(set(parts.values()))]
    raise InterpError(f"{where} has neither {' nor '.join(WEIGHTS)}; give a folder with weights.")


def _tensors_in(path: Path) -> Any:
    """Return what a file holds: a safetensors file begins with the length of its header, 8 bytes, and its brace."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        content = load_file(path) if start[8:] == b"{" else read_pickled(path)
    except OSError as error:
        raise InterpError(f"Cannot read {path}: {error.strerror}.") from error
    except SafetensorError as error:
        raise InterpError(f"{path} is damaged ({error}); copy it again.") from error
    if not isinstance(content, dict):
        raise InterpError(f"{path} holds {type(content).__name__}; expected a dictionary of tensors.")
    return content


def _named(where: str, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return tensors by the names they have without torch.compile's prefix."""
    others = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others or not state:
        raise InterpError(f"{where} has no state dict of tensors; what is no tensor in it: {few(others)}.")
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


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
    if not isinstance(content, dict):
        return content
    return {k: getattr(v, "fields", {}) if isinstance(v, InertConfig) else v for k, v in content.items()}


def _refusal(path: Path, error: Exception) -> str:
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"{path} names {named[1]}, which is no part of a model and could be made to run code; nothing of the file was "
            "run: save its state dict and plain numbers only, and convert that."
        )
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return f"{path} cannot be read as a PyTorch file of tensors and plain values ({reason}); copy it or save it again."

"""Find the files of a foreign model, and read its tensors and what stands beside them, without running anything."""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from interp.errors import InterpError, few
from interp.files import is_hub_id, read_json
from interp.model.checkpoint import download
from interp.vocabulary import TOKENIZER_FILES

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a folder; large ones are in parts, with an .index.json
STATE_DICT = ("model", "model_state_dict", "state_dict", "module")  # where a checkpoint keeps its weights
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # in names, of torch's own
ROOTS = ("transformer", "h", "blocks")  # what all names of a model may begin with
CONFIG_CLASSES = (
    "ecd_symbreak.config.GPTConfig", "__main__.GPTConfig", "train_gpt2.GPTConfig", "model.GPTConfig", "argparse.Namespace",
)  # fmt: skip
"""Where the authors' scripts and nanoGPT's have their config class, in the package or in the script that was run."""
NUMBERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
NOTHING = (
    "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local")
      for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
)  # fmt: skip
"""What else stands beside weights as people save them. It is never asked for, and read as nothing."""
DICTIONARIES = ("lightning_fabric.utilities.data.AttributeDict", "pytorch_lightning.utilities.parsing.AttributeDict")


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
        state, beside = _tensors_in(path), {}
        while inner_key := next((key for key in STATE_DICT if isinstance(state.get(key), Mapping)), None):
            inner = state[inner_key]
            beside |= {str(key): value for key, value in state.items() if value is not inner}
            state = inner
        return Source(str(path), _named(str(path), state), beside)
    if path.is_dir():
        return _from_folder(path, str(path))
    if is_hub_id(name, bare=not path.suffix):
        wanted = [f"{WEIGHTS[0]}*", "model-*.safetensors", "config.json", *TOKENIZER_FILES]
        folder = download(str(name), wanted)
        if not any(folder.glob("*.safetensors")):
            folder = download(str(name), ["pytorch_model*.bin*", "config.json", *TOKENIZER_FILES])
        return _from_folder(folder, str(name))
    raise InterpError(
        f"There is no file or folder {name}; give a checkpoint file, a model folder or a hub id (owner/name)."
    )


def _from_folder(folder: Path, where: str) -> Source:
    config = read_json(folder / "config.json", remedy="give the folder of a model, which has one")
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
    except InterpError:
        raise
    except Exception as error:  # SafetensorError, and what a type of numbers unknown to torch leads to
        raise InterpError(f"{path} is damaged ({error}); copy it again.") from error
    if not isinstance(content, dict):
        raise InterpError(f"{path} holds {type(content).__name__}; expected a dictionary of tensors.")
    return content


def _named(where: str, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return tensors by the names they have without the prefixes of what was around the model."""
    others = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others or not state:
        raise InterpError(f"{where} has no state dict of tensors; what is no tensor in it: {few(others)}.")
    odd = [f"{name} ({kind})" for name, value in state.items() if (kind := _odd(value))]
    if odd:
        raise InterpError(f"{where} has tensors without numbers to read: {few(odd)}; save them dense, and whole.")
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    claimed, held = sum(value.numel() * value.element_size() for value in state.values()), sum(storages.values())
    if claimed > 4 * held + 10**8:  # some sharing is usual, as of tied embeddings and masks
        raise InterpError(
            f"{where} holds {held:,} bytes, and its tensors claim {claimed:,}; save them as copies of their own."
        )
    names = {name: re.sub("|".join(map(re.escape, WRAPPERS)), "", name) for name in state}
    while all("." in short for short in names.values()):
        first = {short.partition(".")[0] for short in names.values()}
        if len(first) > 1 or first & {*ROOTS}:
            break
        names = {name: short.partition(".")[2] for name, short in names.items()}
    return {names[name]: value for name, value in state.items()}


def _odd(tensor: Tensor) -> str:
    """Return what keeps a tensor from being read as numbers, or nothing."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
    return "quantized" if tensor.is_quantized else ""


class InertConfig:
    """Stands in for a config class that is not here: it keeps the fields and knows nothing of the class."""

    def __setstate__(self, state: Any) -> None:
        self.fields = dict(state) if isinstance(state, dict) else {}


class InertValue:
    """Stands in for what is no part of a model: it keeps what it was to be made of, and makes nothing."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __setstate__(self, state: Any) -> None: ...


class InertNumber(InertValue):
    """Stands in for a numpy scalar, whose parts are its type and its bytes."""

    def read(self) -> Any:
        """Return the number, None if it is none."""
        kind, data = self.parts if len(self.parts) == 2 else (None, b"")
        name = kind.parts[0] if isinstance(kind, InertValue) and kind.parts else None
        if not isinstance(name, str) or not re.fullmatch("[fiu][1248]", name) or not isinstance(data, bytes):
            return None
        return np.frombuffer(data, name)[0].item() if len(data) == int(name[1]) else None


def read_pickled(path: Path) -> Any:
    """Return what a .pt file holds, with config objects as dictionaries of their fields, tensors on the CPU.

    Numbers of numpy are plain ones; paths and numpy's arrays are None.

    Raises:
        InterpError: the file cannot be read, is damaged or compressed, or names anything beyond tensors, containers, plain
            values and the classes above; nothing of it has been run then.
    """
    inert = {InertConfig: CONFIG_CLASSES, InertNumber: NUMBERS, InertValue: NOTHING, OrderedDict: DICTIONARIES}
    allowed: list[Any] = [(kind, name) for kind, names in inert.items() for name in names]
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as records:
                if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
                    raise InterpError(
                        f"{path} is a compressed zip; torch.save writes none: unpack it, or save it again."
                    )
                if damaged := records.testzip():  # torch does not look at the checksums
                    raise InterpError(f"{path} is damaged: the checksum of {damaged} does not fit; copy it again.")
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")  # of pickle protocols: what they lead to is caught below
            return _plain(torch.load(path, map_location="cpu", weights_only=True), {})
    except InterpError:
        raise
    except OSError as error:
        raise InterpError(f"Cannot read {path}: {error.strerror}.") from error
    except Exception as error:  # a hostile file may fail in any way
        raise InterpError(_refusal(path, error)) from error


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """Return a value with nothing inert in it; `seen` has what is done, for one thing may stand in many places."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, InertConfig):
        found = _plain(getattr(value, "fields", {}), seen)
    elif isinstance(value, InertValue):
        found = value.read() if isinstance(value, InertNumber) else None
    elif isinstance(value, dict):
        found = {
            key: _plain(inner, seen) for key, inner in value.items() if not isinstance(key, (InertConfig, InertValue))
        }
    elif isinstance(value, (list, tuple)):
        found = [_plain(inner, seen) for inner in value]
    else:
        return value
    seen[id(value)] = found
    return found


def _refusal(path: Path, error: Exception) -> str:
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"{path} names {named[1]}, which is no part of a model and could be made to run code; nothing of the file was "
            "run: save its state dict and plain numbers only, and convert that."
        )
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return f"{path} cannot be read as a PyTorch file of tensors and plain values ({reason}); copy it or save it again."

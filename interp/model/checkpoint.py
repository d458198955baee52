"""Checkpoint folders: config.json, model.safetensors, tokenizer.json and a model card; training adds training.jsonl.

One lies anywhere, in `checkpoints/` under its name, or on the Hugging Face hub under its id. A folder is written beside its
place and moved there when it is whole. Reading validates everything before a model exists. A checksum of the weights stands
in config.json and with the weights, so that no damage to one file goes unnoticed; checkpoints of before have none.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.errors import InterpError, few, nearest
from interp.files import contents, is_hub_id, read_json, writing
from interp.model.config import ModelConfig
from interp.model.distributed import choose_device
from interp.model.transformer import HookedSymmetryBrokenTransformer, parameter_shapes
from interp.vocabulary import CONFIG, TOKENIZER, load_tokenizer, tokenizer_texts, vocabulary_size

FORMAT = 1  # raised when an older reader could misread a newer folder
FILES = ("config.json", "model.safetensors", TOKENIZER, CONFIG)  # the last only where documents have another border
PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = PACKAGE / "checkpoints"  # where a wheel puts what stands beside the package in the repository
BUNDLED = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent / "checkpoints"


def save_checkpoint(
    model: HookedSymmetryBrokenTransformer,
    folder: str | Path,
    training: Mapping[str, Any] | None = None,
    card: str = "",
    dtype: torch.dtype = torch.float32,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `model` as a checkpoint folder, its files taking the place of an older one's, and return the folder.

    Args:
        model: its tokenizer, if it has one, is written too.
        folder: where.
        training: how it was trained, kept in config.json under "training".
        card: text of the model card README.md.
        dtype: of the stored weights; float16 halves the file and is read back as float32.
        weights: what to store instead of the model's `state_dict`, for a model that is sharded over processes.

    Raises:
        InterpError: the place cannot be written, or holds something that is not a checkpoint.
    """
    folder = Path(folder)
    refuse_others(folder)
    with writing(folder) as beside:
        beside.mkdir()
        # cloned, because the accessors may have laid several parameters into one storage
        stored = {
            name: value.detach().to("cpu", dtype).clone() for name, value in (weights or model.state_dict()).items()
        }
        digest = tensors_sha256(stored)
        config = {"format": FORMAT, "model": model.cfg.to_dict(), "training": dict(training or {})}
        config |= {"weights_sha256": digest, "model_sha256": _sha256_of(config["model"])}
        (beside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        try:  # with one entry of metadata only: several come in any order, and equal weights are to be equal bytes
            save_file(stored, beside / "model.safetensors", metadata={"sha256": digest})
        except SafetensorError as error:  # its word for a full disk
            raise InterpError(f"Cannot write {folder} ({error}); make room, or choose another place.") from error
        if model.tokenizer is not None:
            for name, text in tokenizer_texts(model.tokenizer, named=(folder / CONFIG).is_file()).items():
                (beside / name).write_text(text, encoding="utf-8")
        (beside / "README.md").write_text(card, encoding="utf-8")
    return folder


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return a checksum of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sha256_of(words: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def refuse_others(folder: Path) -> None:
    """Refuse a place that holds something else than a checkpoint.

    Raises:
        InterpError: it does.
    """
    ours = any((folder / name).is_file() for name in ("config.json", "training.jsonl"))
    if not ours and (folder.is_file() or contents(folder)):
        raise InterpError(f"{folder} exists and is not a checkpoint folder; it is left alone: choose another place.")


def load_model(path_or_name: str | Path, device: str = "auto") -> HookedSymmetryBrokenTransformer:
    """Load a checkpoint in evaluation mode and float32.

    Args:
        path_or_name: a folder, the name of a bundled one such as "tiny-bq", or a model "owner/name" on the hub.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".

    Raises:
        InterpError: the folder or one of its files is missing, damaged, of a newer format, or does not fit its config.
    """
    target, folder = choose_device(device), find_checkpoint(path_or_name)
    config = read_config(folder)
    cfg, vocabulary = ModelConfig.from_dict(config["model"]), folder / TOKENIZER
    tokenizer = load_tokenizer(vocabulary) if vocabulary.is_file() else None
    if tokenizer is not None and (size := vocabulary_size(tokenizer)) > cfg.d_vocab:
        raise InterpError(
            f"The tokenizer in {folder} has {size} tokens, the model only {cfg.d_vocab}; they do not belong together."
        )
    # before a model exists, which may be larger than memory
    weights = _read_weights(folder / "model.safetensors", cfg, config.get("weights_sha256"))
    # last, as what is wrong with a field or a tensor says more
    if (stated := config.get("model_sha256")) and stated != (found := _sha256_of(config["model"])):
        raise InterpError(
            f"The model's config in {folder / 'config.json'} is not what was saved: its checksum is {found[:12]}, the one "
            f"beside it {stated[:12]}; copy the folder again, or remove model_sha256 if you changed it yourself."
        )
    model = HookedSymmetryBrokenTransformer(cfg, tokenizer)
    model.load_state_dict(weights)
    return model.to(target).eval()


def find_checkpoint(path_or_name: str | Path) -> Path:
    """Return the folder of a checkpoint given by path, by bundled name, or by "owner/name" on the Hugging Face hub.

    Raises:
        InterpError: there is none; the message lists the bundled names.
    """
    for folder in (Path(path_or_name), BUNDLED / str(path_or_name)):
        if (folder / "config.json").is_file():
            return folder
    if Path(path_or_name).exists():
        raise InterpError(f"{path_or_name} is not a checkpoint folder: it has no config.json.")
    if is_hub_id(path_or_name):
        return download(str(path_or_name))
    if len(Path(path_or_name).parts) > 1:
        beside = [path.parent.name for path in Path(path_or_name).parent.glob("*/config.json")]
        hint = nearest(Path(path_or_name).name, beside)
        raise InterpError(
            f"There is no checkpoint folder {path_or_name}{hint} Give a folder, a hub id (owner/name) or a bundled name."
        )
    names = sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))
    hint = nearest(str(path_or_name), names)
    raise InterpError(
        f"There is no checkpoint {str(path_or_name)!r}{hint} Give a folder, a hub id (owner/name), or one of "
        f"{', '.join(names)}."
    )


def download(hub_id: str, files: Sequence[str] = FILES) -> Path:
    """Return the folder with the files of a model on the hub, from the hub's cache where nothing changed.

    `files` are their names, or patterns of names.

    Raises:
        InterpError: no such model, no way to the hub, or no config.json there.
    """
    import huggingface_hub  # late: most checkpoints are folders

    try:
        folder = Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=list(files)))
    except Exception as error:  # of the hub, of the network below it
        reason = str(error).strip().split("\n")[0]
        raise InterpError(
            f"{hub_id!r} is no folder here, and the Hugging Face hub gave no model of that name "
            f"({type(error).__name__}: {reason}); check the name and the connection, or give a folder."
        ) from error
    if not (folder / "config.json").is_file():
        raise InterpError(f"{hub_id!r} on the Hugging Face hub has no config.json; it is no model.")
    return folder


def read_training(path_or_name: str | Path) -> dict[str, Any]:
    """Return what config.json says about how the checkpoint was trained."""
    return read_config(find_checkpoint(path_or_name)).get("training", {})


def read_config(folder: Path) -> dict[str, Any]:
    """Return what the config.json of a checkpoint folder holds, a mapping under "model" at least.

    Raises:
        InterpError: it is missing, damaged or of a newer format.
    """
    path = folder / "config.json"
    config = read_json(path, "a checkpoint's config")
    if not isinstance(config.get("model"), dict):
        raise InterpError(f"{path} has no mapping under the key 'model'; it is not a checkpoint's config.")
    kinds = {"format": int, "training": dict, "weights_sha256": str, "model_sha256": str}
    if other := [name for name, kind in kinds.items() if not isinstance(config.get(name, kind()), kind)]:
        raise InterpError(f"{path} has {few(other)} of another kind than a checkpoint's config; copy it again.")
    format_ = config.get("format", 0)
    if format_ > FORMAT:
        raise InterpError(
            f"{folder} has format {format_}; this version reads up to {FORMAT}: install a newer version of interp."
        )
    return config


def _read_weights(path: Path, cfg: ModelConfig, known: str | None) -> dict[str, Tensor]:
    """Return the weights in float32. Names and shapes are compared before any of them is read.

    Their checksum has to be the one in the file or the one `known` from the config: these differ where a process was killed
    between moving the one file and the other to its place.
    """
    if not path.is_file():
        raise InterpError(f"{path} is missing; copy the whole checkpoint folder.")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
            _check_shapes(path, found, cfg)
            weights = {name: file.get_tensor(name) for name in found}
            written = {known, (file.metadata() or {}).get("sha256")} - {None, ""}
    except InterpError:
        raise
    except Exception as error:  # SafetensorError, OSError, and what a type of numbers unknown to torch leads to
        raise InterpError(f"{path} is damaged ({error}); copy it again.") from error
    if written and (digest := tensors_sha256(weights)) not in written:
        told = " or ".join(sorted(one[:16] for one in written))
        raise InterpError(
            f"{path} is damaged: its weights have sha256 {digest[:16]}, expected {told}; copy it again, or remove "
            "weights_sha256 from config.json if you changed them yourself."
        )
    for name, value in weights.items():
        if not value.is_floating_point():
            raise InterpError(f"{name} in {path} has {value.dtype} numbers; floating-point numbers are expected.")
        weights[name] = value.to(torch.float32)
        if not bool(weights[name].isfinite().all()):
            raise InterpError(f"{name} in {path} has values that are not finite; the training run diverged.")
    return weights


def _check_shapes(path: Path, found: Mapping[str, tuple[int, ...]], cfg: ModelConfig) -> None:
    n_layers = len({name.split(".")[1] for name in found if name.startswith("blocks.")})
    if n_layers != cfg.n_layers:
        raise InterpError(f"{path} does not fit its config: it has {n_layers} layers, expected {cfg.n_layers}.")
    expected = parameter_shapes(cfg)
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise InterpError(f"{path} does not fit its config: missing {few(missing)}, unknown {few(unknown)}.")
    for name, shape in found.items():
        if shape != expected[name]:
            raise InterpError(f"{name} in {path} has shape {list(shape)}, expected {list(expected[name])}.")

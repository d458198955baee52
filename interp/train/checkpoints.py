"""Exact resume: everything that the next step depends on, in folders `step-...` of the run.

Batches and biases are functions of (seed, step), so model, optimizer, the random numbers of dropout and a few counters
are the whole state, with a fingerprint of what it continues and a checksum of all. A folder appears under its name only when
it is whole, and goes by losing its name; the newest that is undamaged is used.

Of a model that is sharded, `state.pt` holds all but the sharded tensors, with their shapes and checksums, and each process
writes its parts of them to a safetensors file of its own; going on, each reads its rows, with any number of processes. This
is what torch.distributed.checkpoint does, whose index is a pickle that its reader runs: these files cannot carry code.
"""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from interp.errors import InterpError, few
from interp.files import sweep
from interp.model.checkpoint import FILES, read_config, read_training, tensors_sha256
from interp.model.config import ModelConfig
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.parallel import like, of_part, own_rows, sharded_dim
from interp.train.records import CURVE
from interp.vocabulary import load_tokenizer, tokenizer_sha256

STATE = "state.pt"
SHARD = "state-{:05}-of-{:05}.safetensors"  # what one of the processes holds of a sharded state
PARTS = {"model": dict, "optimizer": dict, "random": list, "reached": dict}  # of every state


def state_folder(run: Path, step: int) -> Path:
    """Return the folder of the state after `step` steps."""
    return run / f"step-{step:08}"


def saved_states(run: Path) -> list[Path]:
    """Return the folders with a state, oldest first."""
    return sorted(path for path in run.glob("step-*") if (path / STATE).is_file())


def stored_settings(run: Path) -> dict[str, Any]:
    """Return the settings of the run whose newest state lies in the folder; empty if there is none that can be read."""
    for folder in reversed(saved_states(run)):
        with suppress(InterpError):
            return read_training(folder)
    return {}


def capture(
    model: nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the state of model, optimizer and random numbers, and this process' parts of what is sharded, by their places.

    In the state a sharded tensor is one without numbers, on the device "meta". All must call it.
    """
    random = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if world.device.type == "cuda" else [])
    part, dims = dict[str, torch.Tensor](), dict[str, int]()

    def described(value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {key: described(each, f"{place}/{key}") for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(described(each, f"{place}/{number}") for number, each in enumerate(value))
        if not isinstance(value, DTensor):
            return value
        part[place] = value.to_local().detach().to("cpu", copy=True).contiguous()
        dims[place] = sharded_dim(value)
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    state = {name: described(value, name) for name, value in parts.items()}
    state["random"] = world.gathered(random)
    return {**state, **({"shards": {"dims": dims}} if dims else {})}, part


def save_part(part: dict[str, torch.Tensor], folder: Path, world: World) -> str:
    """Write this process' parts of a state to its own file in the folder, and return their checksum."""
    save_file(part, folder / SHARD.format(world.rank + 1, world.size))
    return tensors_sha256(part)


def restore(
    folder: Path, state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> None:
    """Put back a state that lies in a folder; where the model is sharded, this process reads its own rows only.

    With another number of processes than before, the random numbers of dropout begin anew; nothing else changes.

    Raises:
        InterpError: it is of another optimizer.
    """
    dims = state["shards"]["dims"] if "shards" in state else {}
    targets = model.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with ExitStack() as opened:
        files = [opened.enter_context(safe_open(path, framework="pt")) for path in _shard_files(folder, state)]

        def put(value: Any, place: str, target: torch.Tensor) -> Any:
            if not torch.is_tensor(value):
                return value
            if not value.is_meta:
                return like(value, target)
            if isinstance(target, DTensor) and target.shape == value.shape and sharded_dim(target) == dims[place]:
                return of_part(_rows(files, place, dims[place], *own_rows(target)), target)
            return like(_rows(files, place, dims[place], 0, value.shape[dims[place]]), target)

        model.load_state_dict(
            {name: put(value, f"model/{name}", targets[name]) for name, value in state["model"].items()}
        )
        laid_out = {
            index: {key: put(value, f"optimizer/state/{index}/{key}", parameters[index]) for key, value in own.items()}
            for index, own in state["optimizer"]["state"].items()
        }
    try:
        optimizer.load_state_dict({**state["optimizer"], "state": laid_out})
    except (ValueError, KeyError, TypeError) as error:
        raise InterpError(
            f"The saved state does not fit the optimizer ({error}); begin anew with --overwrite."
        ) from error
    if len(state["random"]) == world.size:
        torch.set_rng_state(state["random"][world.rank][0])
        if world.device.type == "cuda" and len(state["random"][world.rank]) > 1:
            torch.cuda.set_rng_state(state["random"][world.rank][1])


def _shard_files(folder: Path, state: dict[str, Any]) -> list[Path]:
    """The files with the parts of a state that was sharded, in the order of the processes that wrote them."""
    count = len(state["shards"]["sha256"]) if "shards" in state else 0
    return [folder / SHARD.format(number + 1, count) for number in range(count)]


def _rows(files: list[Any], place: str, dim: int, start: int, end: int) -> torch.Tensor:
    """Rows of a sharded tensor along a dimension, from the parts that have them."""
    found, begins = [], 0
    for file in files:
        own = file.get_slice(place)
        length = own.get_shape()[dim]
        low, high = max(start - begins, 0), min(end - begins, length)
        if low < high or not found:
            found.append(own[(slice(None),) * dim + (slice(low, max(low, high)),)])
        begins += length
    return torch.cat(found, dim)


def checksum(value: Any) -> str:
    """Return a checksum of nested dictionaries, lists, tensors and plain values: of names, types, shapes and bytes."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode())
            if value.is_meta:  # its numbers lie in the parts, which have checksums of their own
                return
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(value, (dict, list, tuple)):
            found.update(f"{len(value)} ".encode())
            for part in value.items() if isinstance(value, dict) else value:
                add(part)
        else:
            found.update(f"{value!r} ".encode())

    add(value)
    return found.hexdigest()


def read_newest(
    run: Path, say: Callable[[str], None], world: World | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest state that is whole and undamaged for all processes, and its folder; None if there is no state.

    Of what is sharded it has shapes and types; `restore` reads the numbers.

    Raises:
        InterpError: there are states, but all are damaged.
    """
    problems, world = [], world or World(0, 1, torch.device("cpu"))
    for folder in reversed(saved_states(run)):
        states = list[dict[str, Any]]()
        try:
            world.together(lambda folder=folder, states=states: states.append(_read(folder, world)))
        except InterpError as error:
            problems.append(f"{folder.name}: {str(error).rstrip('.')}")
        else:
            for problem in problems:
                say(f"passed over in {run}: {problem}")
            return folder, states[0]
    if problems:
        raise InterpError(
            f"No saved state can be read ({'; '.join(problems)}); copy one of them again, or begin anew with --overwrite."
        )
    return None


def _read(folder: Path, world: World) -> dict[str, Any]:
    """Return a state if it is as it was saved: its parts, its checksum, and the model and tokenizer beside it.

    Of a state in several files each process looks through its share of them.

    Raises:
        InterpError: what is wrong with it.
    """
    path = folder / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch.load raise almost anything
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InterpError(f"{path} cannot be read ({told}).") from error
    parts = state if isinstance(state, dict) else {}
    missing = [name for name, kind in PARTS.items() if not isinstance(parts.get(name), kind)]
    if missing:
        raise InterpError(f"{path} is no state of a run: it has no {few(missing)}.")
    expected = parts.pop("sha256", None)  # None: of an earlier version
    if expected is not None and expected != checksum(parts):
        raise InterpError(f"{path} is damaged: its checksum does not fit.")
    digests = parts["shards"]["sha256"] if "shards" in parts else []
    for file, digest in list(zip(_shard_files(folder, parts), digests, strict=True))[world.rank :: world.size]:
        _check_shard(file, digest)
    config = read_config(folder)
    cfg, training = ModelConfig.from_dict(config["model"]), config.get("training", {})
    with torch.device("meta"):
        known = HookedSymmetryBrokenTransformer(cfg).state_dict()
    layouts = [{name: (value.shape, value.dtype) for name, value in s.items()} for s in (known, parts["model"])]
    if layouts[0] != layouts[1]:
        raise InterpError(f"{path} does not fit the model of {folder / 'config.json'}.")
    continued = parts.get("continues", {})
    changed = [name for name, value in continued.get("settings", {}).items() if training.get(name) != value]
    if changed:
        raise InterpError(f"{folder / 'config.json'} was changed: its {few(changed)} is not that of {path}.")
    known = continued.get("tokenizer", "none")
    if known != "none" and known != tokenizer_sha256(load_tokenizer(folder / "tokenizer.json")):
        raise InterpError(f"{folder / 'tokenizer.json'} was changed: it is not that of {path}.")
    return parts


def _check_shard(path: Path, digest: str) -> None:
    try:
        same = tensors_sha256(load_file(path)) == digest
    except (OSError, SafetensorError) as error:
        raise InterpError(f"{path} cannot be read ({error}).") from error
    if not same:
        raise InterpError(f"{path} is damaged: its checksum does not fit.")


def prune(run: Path, keep: int, until: Path | None = None) -> None:
    """Remove all but the newest `keep` states; 0 removes all. Those after `until`, which were passed over, do not count.

    What a kill in the middle of it left goes with the next call, or with `sweep_run`.
    """
    for left in run.glob(".step-*.pruned00"):
        shutil.rmtree(left, ignore_errors=True)
    states = [folder for folder in saved_states(run) if until is None or folder.name <= until.name]
    for folder in states[: max(0, len(states) - keep)]:
        leaving = run / f".{folder.name}.pruned00"  # a name that is swept: a folder that is half gone is no state
        shutil.rmtree(folder.rename(leaving))


def clear(run: Path) -> None:
    """Remove the states of a run, and its checkpoint: what is there from now on is of another."""
    prune(run, 0)
    if (run / CURVE).is_file():  # otherwise the files are not of a run
        for name in (*FILES, "README.md"):
            (run / name).unlink(missing_ok=True)


def sweep_run(run: Path) -> None:
    """Remove what killed runs left half-written."""
    sweep(run)
    for left in run.glob(".*.????????"):
        shutil.rmtree(left, ignore_errors=True)

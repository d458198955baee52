"""Exact resume: everything that the next step depends on, in folders `step-...` of the run.

Batches and biases are functions of (seed, step), so model, optimizer, the random numbers of dropout and a few counters
are the whole state, with a fingerprint of what it continues and a checksum of all. A folder appears under its name only when
it is whole, and goes by losing its name; the newest that is undamaged is used.
"""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.errors import InterpError, few
from interp.files import sweep
from interp.model.checkpoint import FILES, read_config, read_training
from interp.model.config import ModelConfig
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.parallel import like, whole
from interp.train.records import CURVE
from interp.vocabulary import load_tokenizer, tokenizer_sha256

STATE = "state.pt"
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


def capture(model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> dict[str, Any]:
    """Return the state of model, optimizer and random numbers, whole in the first process; all must call it."""
    random = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if world.device.type == "cuda" else [])
    return {
        "model": whole(model.state_dict(), world),
        "optimizer": whole(optimizer.state_dict(), world),
        "random": world.gathered(random),
    }


def restore(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> None:
    """Put a captured state back, in this process' part where the model is sharded.

    With another number of processes than before, the random numbers of dropout begin anew; nothing else changes.

    Raises:
        InterpError: it is of another optimizer.
    """
    targets = model.state_dict()
    model.load_state_dict({name: like(value, targets[name]) for name, value in state["model"].items()})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    laid_out = {
        index: {key: like(v, parameters[index]) if torch.is_tensor(v) else v for key, v in values.items()}
        for index, values in state["optimizer"]["state"].items()
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


def checksum(value: Any) -> str:
    """Return a checksum of nested dictionaries, lists, tensors and plain values: of names, types, shapes and bytes."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(value, (dict, list, tuple)):
            found.update(f"{len(value)} ".encode())
            for part in value.items() if isinstance(value, dict) else value:
                add(part)
        else:
            found.update(f"{value!r} ".encode())

    add(value)
    return found.hexdigest()


def read_newest(run: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest state that is whole and undamaged, and its folder; None if there is no state.

    Raises:
        InterpError: there are states, but all are damaged.
    """
    problems = []
    for folder in reversed(saved_states(run)):
        try:
            found = folder, _read(folder)
        except InterpError as error:
            problems.append(f"{folder.name}: {str(error).rstrip('.')}")
        else:
            for problem in problems:
                say(f"passed over in {run}: {problem}")
            return found
    if problems:
        raise InterpError(
            f"No saved state can be read ({'; '.join(problems)}); copy one of them again, or begin anew with --overwrite."
        )
    return None


def _read(folder: Path) -> dict[str, Any]:
    """Return a state if it is as it was saved: its parts, its checksum, and the model and tokenizer beside it.

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

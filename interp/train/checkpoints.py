"""Exact resume: everything that the next step depends on, in folders `step-...` of the run.

Batches and biases are functions of (seed, step), so model, optimizer, the random numbers of dropout and a few counters
are the whole state. A folder appears under its name only when it is whole; the newest that can be read is used.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.errors import InterpError
from interp.files import sweep
from interp.model.checkpoint import read_training
from interp.model.distributed import World
from interp.train.parallel import like, whole

STATE = "state.pt"


def state_folder(run: Path, step: int) -> Path:
    """Return the folder of the state after `step` steps."""
    return run / f"step-{step:08}"


def saved_states(run: Path) -> list[Path]:
    """Return the folders with a state, oldest first."""
    return sorted(path for path in run.glob("step-*") if (path / STATE).is_file())


def stored_settings(run: Path) -> dict[str, Any]:
    """Return the settings of the run whose newest state lies in the folder; empty if there is none."""
    return read_training(states[-1]) if (states := saved_states(run)) else {}


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
    """
    targets = model.state_dict()
    model.load_state_dict({name: like(value, targets[name]) for name, value in state["model"].items()})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    laid_out = {
        index: {key: like(v, parameters[index]) if torch.is_tensor(v) else v for key, v in values.items()}
        for index, values in state["optimizer"]["state"].items()
    }
    optimizer.load_state_dict({**state["optimizer"], "state": laid_out})
    if len(state["random"]) == world.size:
        torch.set_rng_state(state["random"][world.rank][0])
        if world.device.type == "cuda" and len(state["random"][world.rank]) > 1:
            torch.cuda.set_rng_state(state["random"][world.rank][1])


def read_newest(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest state that can be read, and its folder; None if there is no state.

    Raises:
        InterpError: there are states, but none can be read.
    """
    problems = []
    for folder in reversed(saved_states(run)):
        try:
            return folder, torch.load(folder / STATE, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes torch.load raise almost anything
            problems.append(f"{folder / STATE}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    if problems:
        raise InterpError(
            f"No saved state can be read ({'; '.join(problems)}); copy one of them again, or begin anew with --overwrite."
        )
    return None


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` states; 0 removes all."""
    states = saved_states(run)
    for folder in states[: max(0, len(states) - keep)]:
        (folder / STATE).unlink()  # first, so that a folder that is half gone is no state
        shutil.rmtree(folder)


def sweep_run(run: Path) -> None:
    """Remove what killed runs left half-written."""
    sweep(run)
    for left in run.glob(".*.????????"):
        shutil.rmtree(left, ignore_errors=True)

"""What a run leaves on the disk: the best weights as a checkpoint, and states to go on from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from interp.errors import InterpError
from interp.files import writing
from interp.model.checkpoint import save_checkpoint
from interp.train import state
from interp.train.card import model_card
from interp.train.parallel import whole
from interp.train.run import Run


def save_best(run: Run) -> None:
    """Write the weights as the run's checkpoint; all processes must call it.

    Raises:
        InterpError: the place cannot be written.
    """
    _save(run, run.config.output, whole(run.model.state_dict()))


def save_state(run: Run) -> None:
    """Write a checkpoint of this step with all that the next one depends on, and remove old ones; all processes call it.

    Raises:
        InterpError: the place cannot be written; earlier states stay.
    """
    folder = state.state_folder(run.config.output, run.reached.step)
    captured = {**state.capture(run.model, run.optimizer, run.place), "reached": asdict(run.reached)}
    _save(run, folder, captured["model"])
    if run.place.first:
        with writing(folder / state.STATE) as path:  # last: with it the folder becomes a state
            try:
                torch.save(captured, path)
            except RuntimeError as error:  # torch's word for a full disk
                raise InterpError(
                    f"Cannot write {folder / state.STATE} ({str(error).splitlines()[0]}); make room and --resume."
                ) from error
        state.prune(run.config.output, run.config.keep)


def save_card(run: Run) -> None:
    """Replace the model card by one with the whole curve, also where the best weights came early."""
    if run.place.first and run.reached.evaluations:
        with writing(run.config.output / "README.md") as path:
            path.write_text(model_card(run.model, run.settings(), run.reached.evaluations), encoding="utf-8")


def _save(run: Run, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    if run.place.first:
        dtype = torch.float16 if run.config.store == "float16" else torch.float32
        card = model_card(run.model, run.settings(), run.reached.evaluations)
        save_checkpoint(run.model, folder, run.settings(), card, dtype, weights)

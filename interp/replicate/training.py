"""The jobs that make models: token shards, short runs that choose learning rates, the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from interp.data.prepare import prepare
from interp.data.prepare_config import PrepareConfig
from interp.errors import InterpError
from interp.replicate.files import read_json, write_json
from interp.replicate.jobs import SHARDS, TRAINED, Job, grid_of, settings_of
from interp.replicate.plan import Plan
from interp.train.config import TrainConfig
from interp.train.loop import Diverged, train
from interp.train.records import CURVE, read_rows
from interp.train.state import clear


def make_shards(plan: Plan, job: Job) -> None:
    """Turn the corpus into token shards."""
    chosen = {"tokenizer": plan.tokenizer, "vocabulary": plan.vocabulary, "documents": plan.documents}
    prepare(PrepareConfig(plan.corpus, SHARDS, **chosen, workers=0))
    write_json(job.done, {"corpus": plan.corpus, **chosen})


def train_run(job: Job) -> None:
    """Train a run, or go on where it was stopped, and keep what it came to.

    A loss that is not finite is a result, too: of a learning rate that is too high.

    Raises:
        InterpError: bad input.
        Stopped: a signal came; everything is saved.
    """
    diverged = None
    try:
        train(TrainConfig(**job.settings, resume=True))
    except Diverged as error:
        diverged = str(error)
    rows = read_rows(job.folder / CURVE)
    measured = [row["validation_loss"] for row in rows if "validation_loss" in row]
    result = {"steps": len(rows), "tokens": rows[-1]["tokens"] if rows else 0, "diverged": diverged}
    result["validation_loss"] = None if diverged else measured[-1]
    result["best_validation_loss"] = min(measured, default=None)
    write_json(job.done, {"settings": settings_of(job), **result})
    clear(job.folder)  # states to go on from are of no more use


def choose_rates(plan: Plan, job: Job) -> None:
    """Write the learning rate of every optimizer, with the losses of the short runs that chose it; see `grid_of`.

    Raises:
        InterpError: all short runs of an optimizer diverged.
    """
    chosen = {}
    for name in plan.optimizers:
        losses = {lr: final_loss(trial.folder) for lr, trial in grid_of(plan, name).items()}
        chosen[name] = {"lr": best_rate(name, losses) if losses else plan.learning_rates[name], "losses": losses}
    write_json(job.done, chosen)


def final_loss(run: Path) -> float | None:
    """Return the held-out loss at the end of a run, in nats per token; None if it diverged."""
    return read_json(run / TRAINED)["validation_loss"]


def best_rate(optimizer: str, losses: Mapping[float, float | None]) -> float:
    """Return the learning rate with the lowest loss, the lower of two that are alike; None is a run that diverged.

    Raises:
        InterpError: all of them diverged.
    """
    finite = {rate: loss for rate, loss in sorted(losses.items()) if loss is not None}
    if not finite:
        raise InterpError(
            f"All {len(losses)} learning rates of {optimizer} diverged; give the plan a lower centre of its grid."
        )
    return min(finite, key=lambda rate: finite[rate])

"""The training loop: steps, held-out loss, records, checkpoints, and its ends: all steps done, a plateau, a signal."""

from __future__ import annotations

import math
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from interp.errors import InterpError
from interp.evals.held_out import summed_loss
from interp.model.distributed import processes
from interp.options import console
from interp.train.batches import Prefetcher
from interp.train.config import TrainConfig
from interp.train.measures import Measures, batch_validation_loss
from interp.train.optim.descent import EnergyConservingOptimizer
from interp.train.records import Row, open_records
from interp.train.run import Run, checked, has_checkpoint, prepare
from interp.train.saving import save_best, save_card, save_state
from interp.train.step import learning_rate, optimizer_step

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Diverged(InterpError):  # noqa: N818 - says what happened, as Stopped does
    """The loss of a run is not finite; its best checkpoint so far, if there is one, stays."""

    def __init__(self, run: Run, what: str, value: float) -> None:
        config, step = run.config, run.progress.step
        if step == 1 and what != "held-out loss":
            cause = "no step was taken yet, so look at the means and deviations of the biases"
        elif (config.lr or 0) * (config.weight_decay or 0) > 1:
            cause = "lower --weight-decay: times --lr it is above 1"
        else:
            cause = "lower --lr" + (" or change --optimizer-args" if config.optimizer_args else "")
        best = min(run.progress.evaluations, key=lambda row: row["validation_loss"], default=None)
        kept = "there is no checkpoint yet"
        if best and has_checkpoint(config.output):
            kept = f"the best checkpoint, of step {best['step']:,}, is kept"
        super().__init__(f"The {what} is {value} at step {step:,}; {cause}. In {config.output} {kept}.")


class Stopped(InterpError):  # noqa: N818 - says what happened; nothing went wrong
    """SIGTERM or Ctrl-C ended a run after a whole step; its state is saved."""

    def __init__(self, run: Run, number: int) -> None:
        self.exit_status = 128 + number  # as a shell reports it
        super().__init__(
            f"stopped after step {run.progress.step:,} of {run.steps:,}; everything is saved. "
            f"Go on with: python -m interp.train --resume -o {shlex.quote(str(run.config.output))}"
        )


def train(config: TrainConfig) -> Path:
    """Train as `config` says and return the run's folder.

    The folder is a checkpoint of the weights with the lowest validation loss, with the curve in training.jsonl; the
    folders ``step-...`` in it are checkpoints of the last steps, with all that is needed to go on.

    Raises:
        InterpError: bad input.
        Diverged: a loss that is not finite; the best checkpoint so far stays.
        Stopped: SIGTERM or Ctrl-C came, and everything is saved.
    """
    with processes(config.device) as world, ExitStack() as leaving:
        leaving.enter_context(world.owning(checked(config, world).output))
        run = prepare(config, world)  # which signals end at once, as there is nothing to save
        run.place = run.config.output.stat().st_ino if world.first else None
        signals = leaving.enter_context(StopSignals())
        with ExitStack() as closing:
            records = open_records(run.config, run.progress.step) if world.first else []
            for record in records:
                closing.callback(record.close)
            for row in steps(run, signals):
                for record in records:
                    record.write(row)
        if world.first and not has_checkpoint(run.config.output):
            raise InterpError(
                f"All steps are done, but there is no checkpoint in {run.config.output}: its files were removed; the "
                "weights of the last steps are in its folders step-*."
            )
        save_card(run)
    run.say(f"validation loss {run.progress.best:.4f}; checkpoint in {run.config.output.resolve().as_uri()}")
    return run.config.output


def steps(run: Run, signals: StopSignals) -> Iterator[Row]:
    """Take the steps that are left and yield a row of measurements after each; the state is saved after its row is kept."""
    measures, batches, config = Measures(run), Prefetcher(run.batches, run.world.device), run.config
    try:
        with _progress_bar(run) as show:
            while run.progress.step < run.steps:
                row = _step(run, measures, batches)
                due = run.progress.step % config.evaluate_every == 0 or run.progress.step == run.steps
                if config.batch_validation_every and run.progress.step % config.batch_validation_every == 0:
                    validate_batch(run, row)
                if due:
                    evaluate(run, row)
                show(row)
                yield row
                stopped = run.world.largest(int(signals.received or 0))  # also where another process got the signal
                plateau = on_a_plateau([r["validation_loss"] for r in run.progress.evaluations], config.patience)
                last = stopped or plateau or run.progress.step == run.steps
                if last or run.progress.step % (config.save_every or config.evaluate_every) == 0:
                    save_state(run)
                measures.skip()
                if stopped:
                    raise Stopped(run, stopped)
                if plateau:
                    run.say(f"the held-out loss has not fallen in {config.patience} evaluations: training ends here")
                    return
    finally:
        batches.close()


def evaluate(run: Run, row: Row) -> None:
    """Measure the held-out loss, add it to the row, and write the checkpoint if it is the lowest so far."""
    sums = summed_loss(run.model, run.tokens.held_out, rank=run.world.rank, size=run.world.size)
    total, count = run.world.sum(sums).tolist()
    row["validation_loss"] = round(total / count, 6)
    if not math.isfinite(row["validation_loss"]):
        raise Diverged(run, "held-out loss", row["validation_loss"])
    run.progress.evaluations.append(row)
    if row["validation_loss"] < run.progress.best:
        run.progress.best = row["validation_loss"]
        save_best(run)
    run.say(f"{progress_line(run, row)}, {row['utilization']:.0%} of the device, {row['seconds']:,.0f} s")


def validate_batch(run: Run, row: Row) -> None:
    """Measure the loss of one batch, the published way, and add it to the row with the lowest so far."""
    row["batch_validation_loss"] = round(batch_validation_loss(run), 6)
    if not math.isfinite(row["batch_validation_loss"]):
        raise Diverged(run, "held-out loss", row["batch_validation_loss"])
    run.progress.best_batch = min(run.progress.best_batch, row["batch_validation_loss"])
    row["best_batch_validation_loss"] = run.progress.best_batch


def on_a_plateau(losses: list[float], patience: int) -> bool:
    """Return whether the last `patience` held-out losses are all no lower than the lowest before them; 0 never."""
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


def _step(run: Run, measures: Measures, batches: Prefetcher) -> Row:
    config, step = run.config, run.progress.step
    share = learning_rate(config.schedule, step, run.steps, config.warmup, config.decay, config.final_lr)
    for group in run.optimizer.param_groups:
        group["lr"] = (config.lr or 0.0) * share
    loss, norm = optimizer_step(run, batches.at(step))
    run.progress.step += 1
    row = measures.row(loss, norm)
    for name, told in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
        if not math.isfinite(row[name]):
            raise Diverged(run, told, row[name])
    _tell_of_skipped(run, row)
    return row


def _tell_of_skipped(run: Run, row: Row) -> None:
    """Say once that a loss fell to the floor of an energy-conserving optimizer."""
    optimizer = run.optimizer
    if not isinstance(optimizer, EnergyConservingOptimizer) or run.told or not int(optimizer.skipped):
        return
    run.told = True
    run.say(
        f"step {row['step']:,}: the loss {row['loss']:.4f} is not above {optimizer.floor} "
        f"{optimizer.trajectory[optimizer.floor]:g}, which is too high: steps at such losses are skipped; "
        f"stop, and use a lower {optimizer.floor} or adamw."
    )


def progress_line(run: Run, row: Row) -> str:
    """Return how far a run is, on one line: steps and time left, losses, tokens seen, and where the best weights are."""
    left = (run.steps - row["step"]) * row["seconds"] / row["step"]  # evaluations and writing are part of `seconds`
    time = duration(left) if row["step"] < run.steps else "no time"
    measured = f", validation {row['validation_loss']:.4f}" if "validation_loss" in row else ""
    best = f", best {run.progress.best:.4f} in {run.config.output}" if run.progress.evaluations else ""
    rate = f"{row['tokens_per_second']:,.0f} tokens/s"
    place = f"{row['step']:,}/{run.steps:,}, {time} left, {large(row['tokens'])} tokens"
    return f"{place}, loss {row['loss']:.3f}{measured}{best}, {rate}"


@contextmanager
def _progress_bar(run: Run) -> Iterator[Any]:
    """A function that shows a row as progress, on one line, cut where the terminal is narrow."""
    line = TextColumn("{task.fields[line]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    first = f"{run.progress.step:,}/{run.steps:,}, the first step is under way"
    bars = Progress(BarColumn(10), line, console=console, disable=not run.world.first)
    with bars:
        task = bars.add_task("train", total=run.steps, completed=run.progress.step, line=first)
        yield lambda row: bars.update(task, completed=row["step"], line=progress_line(run, row))


def duration(seconds: float) -> str:
    """Return a time with the two largest units that it has: 2 h 05 min, 3 min 20 s, 7 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def large(number: float) -> str:
    """Return a count of tokens with three digits or so: 512, 20.5k, 1.23M, 45.6B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # what rounds up to it has its unit
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number / size:,.0f}{unit}"
    return f"{number:,}"


class StopSignals:
    """Inside a with block, SIGTERM and Ctrl-C only set `received`; a second one acts as usual.

    Elsewhere than in the main thread, where Python handles no signals, nothing is caught.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self.__exit__()

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

"""What a training run holds while it goes, and how it begins: fresh, or from a saved state."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from interp.data.examples import TokenizedExamples
from interp.errors import InterpError, few
from interp.files import contents
from interp.model.checkpoint import read_training
from interp.model.distributed import World, choose_device
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.options import say
from interp.train import checkpoints
from interp.train.batches import Batches, ExampleBatches
from interp.train.config import FREE, TrainConfig
from interp.train.initial import ORIGIN, Initial, freeze, initial_of
from interp.train.parallel import compiles, distributed
from interp.train.setup import Tokens, build_optimizer_of, fingerprint, model_config, open_tokens, resolved


@dataclass
class Progress:
    """How far a run has come; saved with its state."""

    step: int = 0  # optimizer steps taken
    best: float = float("inf")  # lowest validation loss so far
    best_batch: float = float("inf")  # lowest of those measured the published way, each of one batch
    seconds: float = 0.0  # of training, without the time between the parts of a resumed run
    evaluations: list[dict[str, Any]] = field(default_factory=list)  # the rows with a validation loss


@dataclass
class Run:
    """Everything a training run holds while it goes."""

    config: TrainConfig
    world: World
    tokens: Tokens
    model: HookedSymmetryBrokenTransformer
    forward: Any  # the model, compiled or distributed
    optimizer: torch.optim.Optimizer
    batches: Batches | ExampleBatches
    steps: int
    continues: dict[str, Any]  # what a state of the run may go on with only; see `fingerprint`
    compiled: bool = False  # as decided when it began; kept in config.json, so that it goes on alike
    progress: Progress = field(default_factory=Progress)
    told: bool = False  # that the loss fell to the optimizer's floor
    place: int | None = None  # inode of the folder that the run began to write to
    initial: Initial | None = None  # what it began with, without the weights

    def say(self, text: str) -> None:
        """Print a line, from one process only."""
        _teller(self.world)(text)

    def check_place(self) -> None:
        """Refuse to write to a folder that is not the one the run began to write to.

        Raises:
            InterpError: it was removed, or another stands there.
        """
        folder = self.config.output
        if self.place is not None and not (folder.is_dir() and folder.stat().st_ino == self.place):
            raise InterpError(f"{folder} was removed while the run wrote to it; begin anew, and leave it there.")

    def settings(self) -> dict[str, Any]:
        """Return what config.json keeps of a run."""
        best = round(self.progress.best, 6) if self.progress.evaluations else None
        batch = round(self.progress.best_batch, 6) if self.progress.best_batch < float("inf") else None
        found: dict[str, Any] = {"best_validation_loss": best, "best_batch_validation_loss": batch}
        found |= {"command": self.config.command(), "compiled": self.compiled}
        return {**self.config.to_dict(), **found, **({ORIGIN: self.initial.origin} if self.initial else {})}


def _teller(world: World) -> Callable[[str], None]:
    """A function that prints a line, from one process only."""
    return say if world.first else lambda text: None


def checked(config: TrainConfig, world: World) -> TrainConfig:
    """Return the settings with the optimizer's own where none were given, if they go together and the folder is free.

    Nothing is read or written, so that what is wrong is said at once.

    Raises:
        InterpError: what does not go together, or the folder holds another run.
    """
    given, config = config, resolved(config)
    micro = config.micro_batch_size or config.batch_size // world.size
    if config.batch_size % (world.size * max(1, micro)):
        raise InterpError(
            f"--batch-size {config.batch_size} is no multiple of {world.size} processes x {micro} contexts; choose sizes "
            "that divide it."
        )
    if config.init is None:  # else what goes together is known when it is read
        model_config(config)
    build_optimizer_of(config, torch.nn.ParameterList([torch.zeros(2, 2)]))
    if contents(config.output) and not config.overwrite and not config.resume:
        raise InterpError(
            f"{config.output} is not empty; choose another --output, --resume the run in it, or --overwrite it."
        )
    return given if config.init is not None else config


def prepare(config: TrainConfig, world: World | None = None) -> Run:
    """Open the corpus, build model and optimizer, and put back the state to go on from, if any.

    Raises:
        InterpError: bad input, or the state continues something else.
    """
    world = world or World(0, 1, choose_device(config.device))
    config = checked(config, world)
    if world.first:
        checkpoints.sweep_run(config.output)
    initial, told = initial_of(config)
    if told:
        _teller(world)(told)
    config = resolved(config, initial)
    cfg = model_config(config, initial)
    newest = _newest(config, world, initial)
    tokens = open_tokens(config, cfg, newest[0] if newest else None, initial)
    model = HookedSymmetryBrokenTransformer(replace(cfg, d_vocab=tokens.d_vocab), tokens.tokenizer)
    if initial is not None:
        if newest is None:
            initial.put_into(model)
        initial = replace(initial, weights={})  # of which memory needs no second copy
    freeze(model, config)
    continues = fingerprint(config, model.cfg, tokens, world.size)
    if newest:
        before = newest[1].get("continues", {})
        _refuse_another({name: before[name] for name in before if name != "settings"}, continues, config.output)
    model = model.to(world.device)
    part = config.batch_size, config.seed, world.rank, world.size
    if isinstance(tokens.training, TokenizedExamples):
        batches = ExampleBatches(tokens.training, *part)
    else:
        batches = Batches(tokens.training, model.cfg.n_ctx, *part)
    steps = config.total_steps(model.cfg.n_ctx, batches.per_epoch)
    stored = read_training(newest[0]) if newest else {}
    given = stored.get("compiled", stored.get("compile")) if config.compile is None else config.compile
    built = replace(config, compile=given)  # the settings keep what was given: the command is to be the same
    compiled = built.compile = compiles(built, model.cfg, batches.tokens_until(steps), world, _teller(world))
    forward = distributed(model, built, world)
    torch.manual_seed(config.seed)  # noise of the optimizer, the same in all processes
    optimizer = build_optimizer_of(built, model)
    run = Run(config, world, tokens, model, forward, optimizer, batches, steps, continues, compiled, initial=initial)
    torch.manual_seed(config.seed + world.rank)  # dropout
    if newest:
        _go_on(run, *newest)
    elif world.first:
        checkpoints.clear(config.output)  # late, so that bad input costs an old run nothing
        if config.resume:
            run.say(f"{config.output} has no state to go on from: the run begins")
    _describe(run)
    return run


def _newest(config: TrainConfig, world: World, initial: Initial | None) -> tuple[Path, dict[str, Any]] | None:
    """Return the state to go on from, and its folder."""
    if not config.resume:
        return None
    if len(set(world.gathered(tuple(folder.name for folder in checkpoints.saved_states(config.output))))) > 1:
        raise InterpError(
            f"The processes do not read the same states in {config.output}; give a folder that all share."
        )
    newest = checkpoints.read_newest(config.output, _teller(world), world)
    if newest or (config.output / "config.json").is_file():  # killed before its first state, or another run
        stored = read_training(newest[0] if newest else config.output)
        _refuse_another_origin(stored.get(ORIGIN), initial, config.output)
        stored = {"layers": None, "freeze_embeddings": False, **stored}  # which runs of before could not have
        now = {name: value for name, value in config.to_dict().items() if name not in FREE}
        _refuse_another({name: value for name, value in stored.items() if name in now}, now, config.output)
    return newest


def _refuse_another_origin(before: dict[str, str] | None, initial: Initial | None, run: Path) -> None:
    """Refuse to go on with a run that began with other weights; the same ones may have got another name."""
    told = []
    for origin in (before, initial and initial.origin):
        told.append(f"{origin['name']} (sha256 {origin['weights_sha256'][:16]})" if origin else "random weights")
    if (before or {}).get("weights_sha256") != (initial.sha256 if initial else None):
        raise InterpError(
            f"The run in {run} began with {told[0]}, not with {told[1]}; give the --init that it had, or another --output."
        )


def _refuse_another(before: dict[str, Any], now: dict[str, Any], run: Path) -> None:
    """Refuse to go on with what would not be the same run."""
    changed = [f"{name} was {before[name]}, now {now.get(name)}" for name in before if before[name] != now.get(name)]
    if changed:
        raise InterpError(f"The run in {run} had other settings ({few(changed)}); use those, or another --output.")


def _go_on(run: Run, folder: Path, saved: dict[str, Any]) -> None:
    try:
        run.progress = Progress(**saved["reached"])
    except TypeError as error:
        raise InterpError(f"{folder} is of another version ({error}); begin anew with --overwrite.") from error
    checkpoints.restore(folder, saved, run.model, run.optimizer, run.world)
    if "continues" not in saved:
        run.say(f"{folder} is of an earlier version: whether corpus and tokenizer are those it continues is not known")
    if run.progress.evaluations and not all(run.world.gathered(has_checkpoint(run.config.output))):
        run.progress.best = float("inf")
        run.say(f"the checkpoint in {run.config.output} is gone: the best from here on becomes the new one")
    run.say(f"going on after step {run.progress.step:,} of {run.steps:,}")


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds the files of a checkpoint."""
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors"))


def _describe(run: Run) -> None:
    settings = {name: value for name, value in run.config.to_dict().items() if value not in (None, "")}
    run.say("settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    if run.compiled:
        run.say("the first step takes about a minute longer: torch.compile makes the others faster")
    held_out = run.tokens.held_out
    n_held_out = len(held_out.tokens if isinstance(held_out, TokenizedExamples) else held_out)
    run.say(
        f"{sum(p.numel() for p in run.model.parameters()):,} parameters, {n_held_out:,} held-out tokens, "
        f"{run.batches.describe()}; {run.steps:,} steps ({run.steps / run.batches.per_epoch:.1f} epochs)"
    )

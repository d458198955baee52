"""What a training run holds while it goes, and how it begins: fresh, or from a saved state."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from interp.errors import InterpError
from interp.model.checkpoint import read_training
from interp.model.distributed import World, choose_device
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.options import console
from interp.train import checkpoints
from interp.train.batches import Batches
from interp.train.config import FREE, TrainConfig
from interp.train.parallel import distributed
from interp.train.setup import Tokens, build_optimizer_of, model_config, open_tokens, resolved


@dataclass
class Progress:
    """How far a run has come; saved with its state."""

    step: int = 0  # optimizer steps taken
    best: float = float("inf")  # lowest validation loss so far
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
    batches: Batches
    steps: int
    progress: Progress = field(default_factory=Progress)
    told: bool = False  # that the loss fell to the optimizer's floor

    def say(self, text: str) -> None:
        """Print a line, from one process only."""
        if self.world.first:
            console.print(text, soft_wrap=True, highlight=False)

    def settings(self) -> dict[str, Any]:
        """Return what config.json keeps of a run."""
        best = round(self.progress.best, 6) if self.progress.evaluations else None
        return {**self.config.to_dict(), "best_validation_loss": best, "command": self.config.command()}


def prepare(config: TrainConfig, world: World | None = None) -> Run:
    """Check the folder, open the corpus, build model and optimizer, and put back the state to go on from, if any.

    Raises:
        InterpError: the output folder is in use, or bad input.
    """
    config, world = resolved(config), world or World(0, 1, choose_device(config.device))
    micro = config.micro_batch_size or config.batch_size // world.size
    if config.batch_size % (world.size * max(1, micro)):
        raise InterpError(
            f"--batch-size {config.batch_size} is no multiple of {world.size} processes x {micro} contexts; choose sizes "
            "that divide it."
        )
    saved = _enter(config, world)
    cfg = model_config(config)
    tokens = open_tokens(config, cfg.d_vocab)
    model = HookedSymmetryBrokenTransformer(replace(cfg, d_vocab=tokens.d_vocab), tokens.tokenizer).to(world.device)
    forward = distributed(model, config, world)
    batches = Batches(tokens.training, model.cfg.n_ctx, config.batch_size, config.seed, world.rank, world.size)
    steps = config.total_steps(model.cfg.n_ctx)
    torch.manual_seed(config.seed)  # noise of the optimizer, the same in all processes
    run = Run(config, world, tokens, model, forward, build_optimizer_of(config, model), batches, steps)
    torch.manual_seed(config.seed + world.rank)  # dropout
    if saved:
        checkpoints.restore(saved, model, run.optimizer, world)
        run.progress = Progress(**saved["reached"])
        run.say(f"going on after step {run.progress.step:,} of {steps:,}")
    elif world.first:
        checkpoints.prune(config.output, 0)  # late, so that bad input costs an old run nothing
    _describe(run)
    return run


def _enter(config: TrainConfig, world: World) -> dict[str, Any] | None:
    """Return the state to go on from, or make sure that the folder is free and can be written."""
    begun = config.output.exists() and (config.output.is_file() or any(config.output.iterdir()))
    if begun and not config.overwrite and not config.resume:
        raise InterpError(
            f"{config.output} is not empty; choose another --output, --resume the run in it, or --overwrite it."
        )
    if world.first:
        try:
            config.output.mkdir(parents=True, exist_ok=True)
            writable = os.access(config.output, os.W_OK | os.X_OK)
        except OSError as error:
            raise InterpError(f"Cannot make {config.output}: {error.strerror}; choose another --output.") from error
        if not writable:
            raise InterpError(f"{config.output} cannot be written; choose another --output, or change its permissions.")
        checkpoints.sweep_run(config.output)
    if config.resume and (newest := checkpoints.read_newest(config.output)):
        folder, saved = newest
        _check_settings(config, read_training(folder), config.output)
        return saved
    if config.resume and (config.output / "config.json").is_file():
        # killed before its first state, or another run
        _check_settings(config, read_training(config.output), config.output)
    return None


def _check_settings(config: TrainConfig, stored: dict[str, Any], run: Path) -> None:
    """Refuse to go on with settings under which the rest would not be the same run."""
    now = config.to_dict()
    changed = [name for name in now if name not in FREE and name in stored and stored[name] != now[name]]
    if changed:
        told = ", ".join(f"{name} was {stored[name]}, now {now[name]}" for name in changed)
        raise InterpError(f"The run in {run} had other settings ({told}); use those, or another --output.")


def _describe(run: Run) -> None:
    config, cfg = run.config, run.model.cfg
    settings = {name: value for name, value in config.to_dict().items() if value not in (None, "")}
    run.say("settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    run.say(
        f"{sum(p.numel() for p in run.model.parameters()):,} parameters, {len(run.batches.stream):,} training tokens, "
        f"{len(run.tokens.held_out):,} held-out tokens; {run.steps:,} steps of {config.batch_size} x {cfg.n_ctx} tokens "
        f"({run.steps / run.batches.per_epoch:.1f} epochs)"
    )

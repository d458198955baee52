"""The training loop: data, model, optimizer, held-out loss, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from interp.data.contexts import token_stream
from interp.data.corpus import open_corpus
from interp.data.tokenizer import train_tokenizer
from interp.errors import InterpError
from interp.evals.loss import validation_loss
from interp.model.checkpoint import save_checkpoint, update_record
from interp.model.device import choose_device
from interp.model.presets import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.options import console
from interp.train.batches import Batches
from interp.train.card import model_card
from interp.train.config import TrainConfig
from interp.train.optim.descent import EnergyConservingOptimizer
from interp.train.optim.registry import OPTIMIZERS, parameter_groups
from interp.train.schedule import cosine_with_warmup
from interp.vocabulary import load_tokenizer


@dataclass
class Run:
    """Everything a training run holds while it goes."""

    config: TrainConfig
    model: HookedSymmetryBrokenTransformer
    batches: Batches
    held_out: np.ndarray  # validation tokens
    optimizer: torch.optim.Optimizer
    steps: int
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float = float("inf")  # lowest validation loss so far


def train(config: TrainConfig) -> Path:
    """Train as `config` says and return the checkpoint folder.

    The folder holds the weights with the lowest validation loss, ``last/`` in it those after the last step.

    Raises:
        InterpError: bad input, or a loss that is not finite (the best checkpoint so far stays).
    """
    run = prepare(config)
    started = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task("train", total=run.steps, state="")
        for step, loss in _steps(run, started):
            state = f"loss {loss:.3f}  best validation {run.best:.3f}  {_rate(run, step, started):,.0f} tokens/s"
            progress.update(task, completed=step + 1, state=state)
    save(run, config.output / "last")
    update_record(config.output, run.history, card_of(run))  # the whole curve, also where the best weights came early
    console.print(f"validation loss {run.best:.4f}; checkpoint in {config.output.resolve().as_uri()}", soft_wrap=True)
    return config.output


def prepare(config: TrainConfig) -> Run:
    """Open the corpus, train or load the tokenizer, and build model and optimizer.

    Raises:
        InterpError: the output folder is in use, or bad input.
    """
    if config.output.exists() and any(config.output.iterdir()) and not config.overwrite:
        raise InterpError(
            f"{config.output} is not empty; choose another --output, or --overwrite the checkpoint in it."
        )
    console.print(f"reading {config.corpus}")
    config = replace(config, lr=OPTIMIZERS[config.optimizer].lr if config.lr is None else config.lr)
    training_corpus, held_out = open_corpus(config.corpus, "train"), open_corpus(config.corpus, "validation")
    model_config = preset(
        config.preset, config.variant, activation=config.activation, positional=config.positional,
        dropout=config.dropout, seed=config.seed, model_name=config.output.name,
    )  # fmt: skip
    if config.tokenizer:
        tokenizer = load_tokenizer(config.tokenizer)
    else:
        tokenizer = train_tokenizer((document.text for document in training_corpus), model_config.d_vocab)
    model_config = replace(model_config, d_vocab=len(tokenizer), n_ctx=config.context or model_config.n_ctx)
    stream = token_stream(tokenizer, training_corpus)
    batches = Batches(stream, model_config.n_ctx, config.batch_size, config.seed)
    model = HookedSymmetryBrokenTransformer(model_config, tokenizer).to(choose_device(config.device))
    groups = parameter_groups(model.parameters(), config.weight_decay)
    optimizer = OPTIMIZERS[config.optimizer].build(groups, config.lr or 0.0)
    steps = config.total_steps(model_config.n_ctx)
    console.print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(stream):,} training tokens, {steps:,} steps of "
        f"{config.batch_size} x {model_config.n_ctx} tokens ({steps / batches.per_epoch:.1f} epochs)"
    )
    return Run(config, model, batches, token_stream(tokenizer, held_out), optimizer, steps)


def _steps(run: Run, started: float) -> Iterator[tuple[int, float]]:
    torch.manual_seed(run.config.seed)  # dropout
    forward = torch.compile(run.model) if run.config.compile else run.model
    told = False
    for step in range(run.steps):
        loss, norm = optimizer_step(run, forward, step)
        if not np.isfinite(loss):
            raise InterpError(f"The loss is {loss} at step {step}; lower --lr. The best checkpoint so far is kept.")
        told = told or _tell_of_skipped(run, step, loss)
        row = {"step": step + 1, "tokens": (step + 1) * run.config.batch_size * run.model.cfg.n_ctx, "loss": loss}
        row |= {"lr": run.optimizer.param_groups[0]["lr"], "grad_norm": norm, "seconds": time.perf_counter() - started}
        run.history.append({key: round(value, 6) for key, value in row.items()})
        if (step + 1) % run.config.evaluate_every == 0 or step + 1 == run.steps:
            evaluate(run)
        yield step, loss


def _tell_of_skipped(run: Run, step: int, loss: float) -> bool:
    """Say once that a loss fell to the floor of an energy-conserving optimizer, and return whether that was so."""
    if not isinstance(run.optimizer, EnergyConservingOptimizer) or not int(run.optimizer.skipped):
        return False
    floor = run.optimizer.floor
    console.print(
        f"step {step + 1:,}: the loss {loss:.4f} is not above {floor} {run.optimizer.trajectory[floor]:g}, which is "
        f"too high: steps at such losses are skipped, the best checkpoint is kept; stop, and use a lower {floor} or adamw.",
        soft_wrap=True,
    )
    return True


def optimizer_step(run: Run, forward: nn.Module | Any, step: int) -> tuple[float, float]:
    """Take one optimizer step and return the loss and the norm of the gradient before clipping."""
    config, model = run.config, run.model.train()
    for group in run.optimizer.param_groups:
        group["lr"] = (config.lr or 0.0) * cosine_with_warmup(step, run.steps, config.warmup, config.final_lr)
    model.draw_biases(step + 1)
    batch = run.batches.at(step).to(model.W_E.device)
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        loss = forward(batch, return_type="loss")
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or float("inf"))
    run.optimizer.step(lambda: loss.detach())
    return loss.item(), norm.item()


def evaluate(run: Run) -> None:
    """Measure the held-out loss, add it to the history, and write the checkpoint if it is the lowest so far."""
    loss = validation_loss(run.model, run.held_out)
    run.history[-1]["validation_loss"] = round(loss, 6)
    row = run.history[-1]
    console.print(f"step {row['step']:,}: loss {row['loss']:.4f}, validation {loss:.4f}, {row['seconds']:,.0f} s")
    if loss < run.best:
        run.best = loss
        save(run, run.config.output)


def save(run: Run, folder: Path) -> None:
    """Write model, settings, curve and model card to `folder`."""
    dtype = torch.float16 if run.config.store == "float16" else torch.float32
    save_checkpoint(run.model, folder, settings_of(run), run.history, card_of(run), dtype)


def settings_of(run: Run) -> dict[str, Any]:
    """Return what config.json keeps of a run."""
    return {**run.config.to_dict(), "best_validation_loss": round(run.best, 6), "command": run.config.command()}


def card_of(run: Run) -> str:
    """Return the model card of a run."""
    return model_card(run.model, settings_of(run), run.history)


def _rate(run: Run, step: int, started: float) -> float:
    return (step + 1) * run.config.batch_size * run.model.cfg.n_ctx / (time.perf_counter() - started)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[state]}"), console=console)

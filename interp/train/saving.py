"""What a run leaves on the disk: the best weights as a checkpoint with its model card, and states to go on from."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from interp.errors import InterpError
from interp.files import writing
from interp.model.checkpoint import save_checkpoint
from interp.model.config import BiasConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train import checkpoints
from interp.train.initial import ORIGIN
from interp.train.parallel import whole
from interp.train.run import Run

BATCH_VALIDATION = "single batches of 8 contexts, as the paper's release validates"


def save_best(run: Run) -> None:
    """Write the weights as the run's checkpoint; all processes must call it.

    Raises:
        InterpError: the folder cannot be written.
    """
    weights = whole(run.model.state_dict(), run.world)
    if run.world.first:
        run.check_place()
        _save(run, run.config.output, weights)


def save_state(run: Run) -> None:
    """Write a checkpoint of this step with all that the next one depends on, and remove old ones; all processes call it.

    Raises:
        InterpError: the folder cannot be written; earlier states stay.
    """
    world, folder = run.world, checkpoints.state_folder(run.config.output, run.progress.step)
    captured, part = checkpoints.capture(run.model, run.optimizer, world)
    weights = whole(run.model.state_dict(), world)
    with ExitStack() as held:

        def begin() -> Path:
            if not world.first:
                return folder
            run.check_place()
            beside = held.enter_context(writing(folder))  # whole, or not there
            with _telling(folder, beside):
                _save(run, beside, weights)
            return beside

        beside = world.together(begin)[0]

        def write_part() -> str:
            with _telling(folder, beside):
                return checkpoints.save_part(part, beside, world)

        if "shards" in captured:
            captured["shards"]["sha256"] = world.together(write_part)

        def end() -> None:
            if not world.first:
                return
            captured["reached"], captured["continues"] = asdict(run.progress), run.continues
            captured["sha256"] = checkpoints.checksum(captured)
            with _telling(folder, beside):
                torch.save(captured, beside / checkpoints.STATE)
            held.close()

        world.together(end)
    if world.first:
        checkpoints.prune(run.config.output, run.config.keep, folder)


@contextmanager
def _telling(folder: Path, beside: Path) -> Iterator[None]:
    """Say of `folder` what cannot be written `beside` it."""
    try:
        yield
    except (InterpError, OSError, RuntimeError, SafetensorError) as error:  # the last two are words for a full disk
        told = str(error).splitlines()[0].rstrip(".").replace(str(beside), str(folder))
        raise InterpError(f"Cannot write {folder} ({told}); make room and --resume.") from error


def save_card(run: Run) -> None:
    """Replace the model card by one with the whole curve, also where the best weights came early."""
    if run.world.first and run.progress.evaluations:
        with writing(run.config.output / "README.md") as path:
            path.write_text(model_card(run.model, run.settings(), run.progress.evaluations), encoding="utf-8")


def model_card(
    model: HookedSymmetryBrokenTransformer, training: Mapping[str, Any], evaluations: list[dict[str, Any]]
) -> str:
    """Return the text of README.md: what the model is, how it was trained, how well it does at every evaluation."""
    cfg = model.cfg
    parameters, best = sum(p.numel() for p in model.parameters()), training["best_validation_loss"]
    measured = ", of completions alone" if training.get("examples") else ""
    origin, batch = training.get(ORIGIN), training.get("best_batch_validation_loss")
    lines = [
        f"- query bias b_Q: {_bias(cfg.q)}",
        f"- value bias b_V: {_bias(cfg.v)}",
        f"- best validation loss: {'not measured yet' if best is None else f'{best:.4f} nats per token'}",
    ]
    if batch is not None:
        lines.append(f"- lowest loss of {BATCH_VALIDATION}: {batch:.4f} nats per token")
    if origin is not None:
        told = f"{origin['format']}, sha256 of the weights in float32 `{origin['weights_sha256']}`"
        lines.append(f"- began with the weights of `{origin['name']}` ({told})")
    listed = "\n".join(lines)
    return f"""# {cfg.model_name}

A {cfg.n_layers}-layer transformer ({cfg.n_heads} heads, d_model {cfg.d_model}, context {cfg.n_ctx}, vocabulary
{cfg.d_vocab:,}, {cfg.description}; {parameters:,} parameters) trained on the training split of
`{training["corpus"]}` with {training["optimizer"]}; the validation loss is measured on its held-out part{measured}.

{listed}

```bash
{training["command"]}
```

Load it with `interp.load_model({cfg.model_name!r})`. It is made for studying attention heads; it writes no useful text.

## Curve

{_curve(evaluations)}

Every step is in `training.jsonl`.
"""


def _save(run: Run, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    dtype = torch.float16 if run.config.store == "float16" else torch.float32
    card = model_card(run.model, run.settings(), run.progress.evaluations)
    save_checkpoint(run.model, folder, run.settings(), card, dtype, weights)


def _bias(bias: BiasConfig) -> str:
    if bias.mode == "none":
        return "none"
    shared = "one vector a layer" if bias.shared_across_heads else "one vector a head"
    mean = f"mean {bias.mean}"
    if bias.directions > 1:
        laid = (
            f"laid out orthogonally, each as long as mean {bias.mean}" if bias.means is None else f"means {bias.means}"
        )
        mean = f"{bias.directions} directions ({laid}), one drawn for each {bias.component_per}"
    return f"mode {bias.mode}, {mean}, std {bias.std}, {shared}"


def _curve(evaluations: list[dict[str, Any]]) -> str:
    shown = evaluations[:: max(1, len(evaluations) // 12)]
    shown += evaluations[-1:] if evaluations and shown[-1] is not evaluations[-1] else []
    rows = [f"| {p['step']:,} | {p['tokens']:,} | {p['loss']:.3f} | {p['validation_loss']:.3f} |" for p in shown]
    return "\n".join(["| step | tokens | training loss | validation loss |", "|--:|--:|--:|--:|", *rows])

"""The published settings, optimizer by optimizer, and the published way to validate beside ours."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.model.checkpoint import load_model, read_training
from interp.train.config import TrainConfig
from interp.train.loop import train
from interp.train.measures import batch_validation_loss, validation_batch
from interp.train.run import prepare
from interp.train.setup import build_optimizer_of, model_config, resolved

# The release of arXiv 2601.22257: constant learning rate, no warm-up, no clipping, batch 8 x 512; AdamW 1e-4, its GELU runs
# without weight decay and with betas (0.9, 0.999), its PReLU runs with 0.01 and (0.9, 0.95); SGDM 0.03, Nesterov 0.95; SOAP
# 3e-4, betas (0.95, 0.95), decay 0.01, preconditioned every 10 steps; ECD 1.0, its GELU runs 0.5, eta 100, F0 2.
SGDM = {"lr": 0.03, "momentum": 0.95, "nesterov": True, "weight_decay": 0.0}
SOAP = {"lr": 3e-4, "betas": (0.95, 0.95), "weight_decay": 0.01, "precondition_frequency": 10}
TABLE = {
    ("paper-gelu", "adamw"): {"lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.0},
    ("paper-prelu", "adamw"): {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.01},
    ("paper-gelu", "sgdm"): SGDM,
    ("paper-prelu", "sgdm"): SGDM,
    ("paper-gelu", "soap"): SOAP,
    ("paper-prelu", "soap"): SOAP,
    ("paper-gelu", "ecd"): {"lr": 0.5, "eta": 100.0, "F0": 2.0, "weight_decay": 0.0},
    ("paper-prelu", "ecd"): {"lr": 1.0, "eta": 100.0, "F0": 2.0, "weight_decay": 0.0},
}


@pytest.mark.parametrize("settings", ["paper-gelu", "paper-prelu"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgdm", "soap", "ecd"])
def test_each_optimizer_that_is_built_has_the_published_settings(settings, optimizer):
    config = resolved(TrainConfig(preset_settings=settings, optimizer=optimizer))
    assert (config.schedule, config.warmup, config.clip, config.batch_size, config.context) == (
        "constant",
        0.0,
        0.0,
        8,
        512,
    )
    cfg = model_config(config)
    assert (f"paper-{cfg.activation}", cfg.n_ctx) == (settings, 512)
    built = build_optimizer_of(config, torch.nn.ParameterList([torch.zeros(2, 2), torch.zeros(2)]))
    group = built.param_groups[0]
    found = {name: group[name] if name in group else getattr(built, name) for name in TABLE[settings, optimizer]}
    assert found == TABLE[settings, optimizer]
    assert resolved(config) == config  # asking twice changes nothing


def test_what_is_given_goes_before_what_was_published():
    config = TrainConfig(preset_settings="paper-gelu", schedule="cosine", batch_size=32, activation="prelu", lr=0.1)
    config = resolved(replace(config, optimizer_args="betas=(0.5,0.6)", weight_decay=0.2, context=64))
    assert (config.schedule, config.batch_size, config.activation, config.context) == ("cosine", 32, "prelu", 64)
    assert (config.lr, config.weight_decay, config.optimizer_args) == (0.1, 0.2, "betas=(0.5,0.6)")
    words = config.command().split()
    for name, value in (("schedule", "cosine"), ("batch-size", "32"), ("activation", "prelu"), ("context", "64")):
        assert words[words.index(f"--{name}") + 1] == value
    assert words[words.index("--preset-settings") + 1] == "paper-gelu"
    with pytest.raises(InterpError, match="paper-gelu says nothing of bbi, only of adamw, sgdm, soap, ecd"):
        TrainConfig(preset_settings="paper-gelu", optimizer="bbi")


def test_the_published_way_to_validate_stands_beside_ours(config, curve):
    settings = config(steps=6, evaluate_every=3, batch_validation_every=2, lr=0.1, warmup=0.0)
    folder = train(settings)
    rows = {row["step"]: row for row in curve(folder)}
    found = {step: row["batch_validation_loss"] for step, row in rows.items() if "batch_validation_loss" in row}
    assert list(found) == [2, 4, 6] and [step for step, row in rows.items() if "validation_loss" in row] == [3, 6]
    for step in found:
        assert rows[step]["best_batch_validation_loss"] == min(value for at, value in found.items() if at <= step)
    assert read_training(folder)["best_batch_validation_loss"] == min(found.values())
    assert f"as the paper's release validates: {min(found.values()):.4f} nats" in (folder / "README.md").read_text()
    run = prepare(replace(settings, resume=True))
    assert run.progress.best_batch == min(found.values())
    batch = validation_batch(run)  # of the last step: 8 stretches of the held-out tokens, from anywhere
    assert batch.shape == (8, run.model.cfg.n_ctx)
    held_out = np.lib.stride_tricks.sliding_window_view(run.tokens.held_out, run.model.cfg.n_ctx)
    assert all((held_out == row.numpy()).all(1).any() for row in batch)
    logits = load_model(folder / "step-00000006")(batch)
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).item()
    assert batch_validation_loss(run) == pytest.approx(expected, abs=1e-5)
    assert found[6] == pytest.approx(expected, abs=1e-5)
    run.progress.step = 7
    assert not torch.equal(validation_batch(run), batch)


def test_single_batches_scatter_and_their_minimum_lies_below_their_mean(config):
    run = prepare(config())
    losses = []
    for step in range(12):
        run.progress.step = step
        losses.append(batch_validation_loss(run))
    assert np.std(losses) > 0 and min(losses) < np.mean(losses) and math.isfinite(max(losses))

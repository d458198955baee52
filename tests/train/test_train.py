import itertools
import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.evals.loss import validation_loss
from interp.model.checkpoint import load_model, read_training
from interp.train.__main__ import app
from interp.train.batches import Batches
from interp.train.config import TrainConfig
from interp.train.loop import prepare, train
from interp.train.schedule import cosine_with_warmup


@pytest.fixture
def config(corpus, tmp_path):
    def make(**changes):
        settings = {"corpus": str(corpus), "steps": 30, "batch_size": 8, "context": 16, "evaluate_every": 10}
        return TrainConfig(**{**settings, "output": tmp_path / "run", "lr": 3e-3, **changes})

    return make


def test_training_lowers_the_loss_and_leaves_a_checkpoint_that_loads(config):
    folder = train(config(variant="bqbv", store="float16"))
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 31))
    held_out = [row["validation_loss"] for row in rows if "validation_loss" in row]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0] < 0.95 * math.log(300)
    training = read_training(folder)
    assert training["best_validation_loss"] == min(held_out)
    assert training["command"].startswith("python -m interp.train --variant bqbv --corpus ")
    assert training["command"] in (folder / "README.md").read_text()
    model = load_model(folder)
    assert model.cfg.q.mode == model.cfg.v.mode == "batch"
    run = prepare(config(output=folder.parent / "again", tokenizer=folder / "tokenizer.json"))
    assert validation_loss(model, run.held_out) == pytest.approx(min(held_out), abs=2e-3)  # float16 weights


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(config, tmp_path):
    runs = [train(config(output=tmp_path / name, seed=seed, steps=5)) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, same, other = (load_model(run).W_E for run in runs)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_best_checkpoint_stays_when_later_losses_are_worse(config, monkeypatch):
    losses, weights = [3.0, 2.0, 4.0, 2.5], []

    def measured(model, tokens):
        weights.append(model.W_E.detach().clone())
        return losses[len(weights) - 1]

    monkeypatch.setattr("interp.train.loop.validation_loss", measured)
    folder = train(config(steps=8, evaluate_every=2))
    assert torch.equal(load_model(folder).W_E, weights[1])
    assert torch.equal(load_model(folder / "last").W_E, weights[3])
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [row["validation_loss"] for row in rows if "validation_loss" in row] == losses
    assert "best validation loss: 2.0000" in (folder / "README.md").read_text()


def test_a_loss_that_is_not_finite_stops_the_run_in_one_sentence(config):
    with pytest.raises(InterpError, match=r"The loss is (nan|inf) at step"):
        train(config(lr=1e12, clip=0, warmup=0.0))


def test_every_biased_step_draws_a_new_bias_and_every_token_batch_is_new(config):
    run = prepare(config())
    run.model.train()
    draws = []
    for step in range(1, 4):
        run.model.draw_biases(step)
        draws.append(run.model.biases_in_force()[0].clone())
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(run.batches.at(0), run.batches.at(1))


@pytest.mark.parametrize(("length", "n_ctx", "batch_size"), [(1000, 16, 4), (100, 7, 2), (97, 8, 5)])
def test_batches_are_a_pure_function_of_the_step_and_an_epoch_repeats_no_context(length, n_ctx, batch_size):
    stream = np.arange(length)
    batches = Batches(stream, n_ctx, batch_size, seed=3)
    epoch = torch.cat([batches.at(step) for step in range(batches.per_epoch)])
    starts = epoch[:, 0]
    assert torch.equal(epoch, starts[:, None] + torch.arange(n_ctx))  # contexts are consecutive tokens
    assert len(starts.unique()) == len(starts)
    later = 2 * batches.per_epoch
    assert torch.equal(Batches(stream, n_ctx, batch_size, seed=3).at(later), batches.at(later))
    assert not torch.equal(batches.at(batches.per_epoch), batches.at(0))


def test_a_corpus_shorter_than_a_batch_is_refused():
    with pytest.raises(InterpError, match="has 50 tokens to train on, one batch needs 80"):
        Batches(np.arange(50), 16, 4, seed=0)


def test_the_schedule_rises_linearly_and_falls_along_a_cosine():
    rates = [cosine_with_warmup(step, 101, 0.1, 0.2) for step in range(101)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.6)
    assert rates[100] == pytest.approx(0.2)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_validation_loss_is_the_mean_over_every_next_token_of_every_context(make_model):
    model = make_model().train()
    stream = np.random.default_rng(0).integers(model.cfg.d_vocab, size=93).astype(np.uint16)
    rows = [torch.from_numpy(row.astype(np.int64)) for row in np.split(stream, range(20, 93, 20))]
    model.eval()
    losses = torch.cat([model(row, return_type="loss", loss_per_token=True).flatten() for row in rows])
    model.train()
    assert validation_loss(model, stream, batch_size=3) == pytest.approx(losses.mean().item(), abs=1e-6)
    assert model.training
    model.eval()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5, "tokens": 100}, "Both 5 steps and 100 tokens"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"warmup": 1.5}, "warmup 1.5"),
    ],
)
def test_contradictory_settings_are_refused(changes, message):
    with pytest.raises(InterpError, match=message):
        TrainConfig(**changes)


def test_the_command_trains_and_refuses_to_overwrite_in_one_line(corpus, tmp_path):
    words = f"--corpus {corpus} --steps 2 --batch-size 2 --context 8 -o {tmp_path / 'run'}".split()
    assert CliRunner().invoke(app, words).exit_code == 0
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1
    assert CliRunner().invoke(app, ["--variant", "bqvb"]).exit_code == 2

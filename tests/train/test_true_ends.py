"""How a run ends is said as it is: what diverged and why, what is kept, what was taken away, what a signal stopped."""

import os
import shutil
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch

from interp.errors import InterpError
from interp.files import owning
from interp.model.checkpoint import load_model
from interp.train import checkpoints
from interp.train.loop import Diverged, train
from tests import commands
from tests.train.same_run import command


def losses(monkeypatch, *values):
    """Let a run measure these held-out losses."""
    left = iter(values)
    monkeypatch.setattr("interp.train.loop.summed_loss", lambda *_, **__: torch.tensor([next(left), 1.0]))


def test_a_held_out_loss_that_is_not_finite_is_a_divergence_and_nothing_is_said_to_be_kept(config, monkeypatch):
    losses(monkeypatch, float("nan"))
    with pytest.raises(
        Diverged, match=r"The held-out loss is nan at step 2; lower --lr\. In .* there is no checkpoint"
    ):
        train(config(steps=4, evaluate_every=2))
    folder = config().output
    assert not (folder / "config.json").exists() and not checkpoints.saved_states(folder)


def test_the_best_checkpoint_is_named_by_its_step(config, monkeypatch):
    losses(monkeypatch, 3.0, 4.0, float("inf"))
    with pytest.raises(Diverged, match=r"is inf at step 6; .* the best checkpoint, of step 2, is kept"):
        train(config(steps=6, evaluate_every=2))
    load_model(config().output)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"mean_q": "1e6", "std_q": "1e6"}, r"at step 1; no step was taken yet, so look at the means and deviations"),
        ({"weight_decay": 1e6, "warmup": 0.0}, r"lower --weight-decay: times --lr it is above 1"),
        ({"optimizer": "sgdm", "lr": 1e9, "clip": 0.0, "warmup": 0.0}, r"lower --lr\. In"),
    ],
)
def test_the_cause_that_is_named_fits(config, changes, cause, monkeypatch):
    if "mean_q" in changes:  # such biases alone do not suffice for a model that normalizes what comes of them
        monkeypatch.setattr("interp.train.loop.optimizer_step", lambda *_: (torch.tensor(torch.nan), torch.tensor(1.0)))
    with pytest.raises(Diverged, match=cause):
        train(config(steps=30, evaluate_every=30, **changes))


def test_an_old_run_that_is_overwritten_leaves_no_checkpoint_to_a_new_one_that_diverges(config, monkeypatch):
    folder = train(config(steps=2, evaluate_every=2))
    losses(monkeypatch, float("nan"))
    with pytest.raises(Diverged, match="there is no checkpoint yet"):
        train(config(steps=2, evaluate_every=2, seed=3, overwrite=True))
    assert not (folder / "model.safetensors").exists()
    monkeypatch.undo()
    train(config(steps=2, evaluate_every=2, seed=3, resume=True))
    load_model(folder)


@pytest.mark.parametrize("before", [2, 3])  # a step that is only written to the curve, and one that is evaluated
def test_a_folder_that_is_removed_under_a_run_stops_it(config, monkeypatch, before):
    from interp.train.step import optimizer_step

    def step(run, batch):
        if run.progress.step == before:
            shutil.rmtree(run.config.output)
        return optimizer_step(run, batch)

    monkeypatch.setattr("interp.train.loop.optimizer_step", step)
    with pytest.raises(InterpError, match=r"was removed while the run wrote (to )?it; begin anew"):
        train(config(steps=6, evaluate_every=2))
    assert not config().output.exists()


def test_exit_0_means_that_the_checkpoint_is_there(config, monkeypatch, capsys):
    settings = config(steps=4, evaluate_every=2)
    folder = train(settings)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InterpError, match=r"All steps are done, but there is no checkpoint in .*step-\*"):
        train(replace(settings, resume=True))
    losses(monkeypatch, 99.0)  # higher than before, but the only one that there is
    train(replace(settings, resume=True, steps=6))
    assert "is gone: the best from here on becomes the new one" in capsys.readouterr().err
    load_model(folder)


def test_a_second_run_in_the_same_folder_is_told_who_holds_it(corpus, tmp_path):
    with owning(tmp_path / "run"):
        second = commands.run(command(corpus, tmp_path / "run", "--resume"))
    assert second.returncode == 1
    assert f"is being written by process {os.getpid()} on " in " ".join(second.stderr.split())
    assert not (tmp_path / "run").exists()  # nothing was written, so nothing is left


PREPARING = """
import pathlib, sys, time
from interp.train import run
from interp.train.__main__ import app
run.open_tokens = lambda *_: (pathlib.Path(sys.argv.pop()).touch(), time.sleep(60))
app(sys.argv[1:-1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_preparation_at_once_and_the_folder_is_free_again(corpus, tmp_path, number):
    words, begun = command(corpus, tmp_path / "run")[3:], tmp_path / "begun"
    process = commands.start([sys.executable, "-c", PREPARING, *words, str(begun)])
    while not begun.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(10)
    assert process.returncode == 128 + number
    assert told.strip() == f"stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}"
    with owning(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_kill_between_the_steps_of_pruning_leaves_nothing(config, monkeypatch):
    settings = config(steps=6, evaluate_every=2, keep=1)
    monkeypatch.setattr("interp.train.checkpoints.shutil.rmtree", lambda *_, **__: None)  # as if it came no further
    folder = train(settings)
    assert [path.name for path in checkpoints.saved_states(folder)] == ["step-00000006"]
    assert not [path for path in folder.glob("step-*") if not (path / checkpoints.STATE).exists()]
    monkeypatch.undo()
    train(replace(settings, resume=True))
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} <= {".lock"}

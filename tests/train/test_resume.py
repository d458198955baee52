"""A run that is stopped anywhere goes on to the same weights, bit by bit."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from interp.errors import InterpError
from interp.train import checkpoints
from interp.train.loop import Stopped, train
from interp.train.optim.registry import OPTIMIZERS
from tests.train.same_run import same_run


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_resumed_from_any_state_ends_like_one_that_was_not_stopped(config, curve, tmp_path, optimizer):
    settings = config(
        optimizer=optimizer, lr=None, steps=6, evaluate_every=2, keep=9, dropout=0.1, variant="bqbv", charges_every=2,
        optimizer_args="nu=0.1" if optimizer in ("ecd", "ecdsep") else "",
    )  # fmt: skip
    whole = train(settings)
    for step in (2, 4):
        part = tmp_path / f"from{step}"
        shutil.copytree(whole, part, ignore=shutil.ignore_patterns(f"step-*{step + 2}", "step-*6"))
        torch.manual_seed(step)  # what a new process would have
        train(replace(settings, output=part, resume=True))
        same_run(whole, part, curve)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "ecd"])
@pytest.mark.parametrize(
    "block", [{}, {"qk_norm": True, "tied": False, "learned_biases": True, "d_head": 20, "experts": 3}], ids=str
)
def test_a_run_with_llamas_block_goes_on_to_the_same_weights(config, curve, tmp_path, optimizer, block):
    settings = config(
        preset="llama-mini", optimizer=optimizer, lr=None, steps=6, evaluate_every=2, keep=9, variant="bqbv",
        bias_per_head=True, directions=4, component_per="head", charges_every=2, **block,
    )  # fmt: skip
    whole = train(settings)
    part = tmp_path / "part"
    shutil.copytree(whole, part, ignore=shutil.ignore_patterns("step-*4", "step-*6"))
    torch.manual_seed(2)  # what a new process would have
    train(replace(settings, output=part, resume=True))
    same_run(whole, part, curve)


def test_a_damaged_state_is_passed_over_and_none_left_is_said(config, curve, tmp_path):
    settings = config(steps=6, evaluate_every=2, keep=2)
    whole = train(settings)
    part = shutil.copytree(whole, tmp_path / "part")
    newest = checkpoints.saved_states(part)[-1] / checkpoints.STATE
    newest.write_bytes(newest.read_bytes()[:1000])
    train(replace(settings, output=part, resume=True))
    same_run(whole, part, curve)
    for folder in checkpoints.saved_states(part):
        (folder / checkpoints.STATE).write_bytes(b"junk")
    with pytest.raises(InterpError, match=r"No saved state can be read .*begin anew with --overwrite"):
        train(replace(settings, output=part, resume=True))


def test_a_state_that_carries_code_is_not_run(config, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    settings = config(steps=2, evaluate_every=2)
    folder = train(settings)
    torch.save(Evil(), checkpoints.saved_states(folder)[-1] / checkpoints.STATE)
    with pytest.raises(InterpError, match="No saved state can be read"):
        train(replace(settings, resume=True))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_resume_without_a_state_begins_and_with_other_settings_is_refused(config, tmp_path, capsys):
    folder = train(config(steps=2, evaluate_every=2, resume=True))
    assert "has no state to go on from: the run begins" in " ".join(capsys.readouterr().err.split())
    for changes, message in (({"lr": 0.1}, "lr was 0.003, now 0.1"), ({"variant": "bv"}, "variant was bq, now bv")):
        with pytest.raises(InterpError, match=message):
            train(config(steps=2, evaluate_every=2, resume=True, **changes))
    assert len(list(folder.glob("step-*"))) == 1
    longer = train(config(steps=4, evaluate_every=2, resume=True))
    assert [path.name for path in checkpoints.saved_states(longer)] == ["step-00000002", "step-00000004"]


def test_a_second_signal_acts_as_usual_and_handlers_are_put_back(config, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("interp.train.loop.optimizer_step", lambda *_: os.kill(os.getpid(), signal.SIGINT) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config())
    assert signal.getsignal(signal.SIGTERM) is before

    def twice(*_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("interp.train.loop.optimizer_step", twice)
    with pytest.raises(KeyboardInterrupt):
        train(config(overwrite=True))


def test_in_one_process_a_signal_ends_the_run_after_a_whole_step(config, curve, monkeypatch):
    from interp.train.step import optimizer_step

    def step(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return optimizer_step(*arguments)

    monkeypatch.setattr("interp.train.loop.optimizer_step", step)
    with pytest.raises(Stopped, match=r"stopped after step 1 of 30; everything is saved\. Go on with"):
        train(config())
    assert len(curve(config().output)) == 1


@pytest.mark.slow
def test_a_checkpoint_without_a_state_is_not_trained_over_by_another_run(config):
    folder = train(config(steps=2, evaluate_every=2))
    shutil.rmtree(checkpoints.saved_states(folder)[0])
    with pytest.raises(InterpError, match="had other settings"):
        train(config(steps=2, evaluate_every=2, resume=True, seed=5))
    train(config(steps=2, evaluate_every=2, resume=True))  # a run that was killed before its first state


def test_bad_input_costs_an_old_run_nothing(config):
    folder = train(config(steps=2, evaluate_every=2))
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for changes in ({"corpus": "nowhere"}, {"mean_q": "half"}, {"optimizer_args": "eta"}):
        with pytest.raises(InterpError):
            train(config(overwrite=True, **changes))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(config, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("interp.train.run.open_tokens", lambda *_: pytest.fail("the corpus was read"))
    for place in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(InterpError, match=r"Cannot write .*; choose a folder that can be written"):
            train(config(output=place))


@pytest.mark.slow
def test_the_curve_of_a_killed_run_is_cut_where_it_goes_on(config, curve):
    folder = train(config(steps=4, evaluate_every=2))
    for path in checkpoints.saved_states(folder)[1:]:
        shutil.rmtree(path)
    with (folder / "training.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 1.0}) + "\n" + '{"step": 6, "lo')
    train(config(steps=4, evaluate_every=2, resume=True))
    assert [row["step"] for row in curve(folder)] == [1, 2, 3, 4]

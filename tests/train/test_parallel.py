"""Two processes train what one trains: gloo on CPU, started as on a node of GPUs."""

import functools
import shutil
import sys

import pytest
import torch
from typer.testing import CliRunner

from interp.model.checkpoint import load_model
from interp.train import checkpoints
from interp.train.__main__ import app
from tests.processes import run_fresh_together, run_ranks

STEPS = 12


def words(corpus, output, *more):
    common = (
        f"--corpus {corpus} --preset mini --steps {STEPS} --batch-size 8 --context 16 --evaluate-every 4 -o {output}"
    )
    return [*common.split(), *more]


def train_alone(corpus, output, *more):
    done = CliRunner().invoke(app, words(corpus, output, *more))
    assert done.exit_code == 0, done.stderr


def train_together(corpus, output, *more, status=0):
    """Train with two processes and return what they wrote."""
    statuses, told = run_ranks([sys.executable, "-m", "interp.train", *words(corpus, output, *more)])
    assert statuses == [status, status], "\n".join(text[-3000:] for text in told)
    return "".join(told)


def train_with_torchrun(corpus, output, *more):
    """Train with two processes that `torchrun` starts, all of them fresh interpreters."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    statuses, (told,) = run_fresh_together([[*start, "interp.train", *words(corpus, output, *more)]])
    assert statuses == [0], told[-3000:]


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """The folder of a run of one process, trained once for each set of arguments."""

    @functools.cache
    def folder_of(*more):
        output = tmp_path_factory.mktemp("alone") / "run"
        train_alone(corpus, output, *more)
        return output

    return folder_of


def differences(rows):
    one, two = rows
    assert len(one) == len(two) == STEPS
    keys = ("loss", "validation_loss", "grad_norm")
    # a gradient norm above 1 by its size: sums over processes reorder float32 additions
    return [abs(a[k] - b[k]) / max(1.0, abs(b[k])) for a, b in zip(one, two, strict=True) for k in keys if k in a]


BALANCED = "--lr 0.002 --experts 3 --load-balancing 0"  # which each process would do on its own tokens
CASES = [
    ("adamw", BALANCED, "ddp"),
    ("adamw", BALANCED, "fsdp"),
    ("ecd", "--clip 1", "ddp"),
    ("ecd", "--clip 1", "fsdp"),
    ("ecd", "--optimizer-args projection=global --weight-decay 0.001 --charges-every 4", "fsdp"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "arguments", "distribute"), CASES)
def test_two_processes_follow_the_curve_of_one(corpus, tmp_path, curve, alone, optimizer, arguments, distribute):
    more = ("--optimizer", optimizer, *arguments.split(), "--variant", "bqbv")
    told = train_together(corpus, tmp_path / "two", *more, "--distribute", distribute)
    assert told.count("parameters,") == 1  # only one of them speaks
    folders = (alone(*more), tmp_path / "two")
    assert max(differences(list(map(curve, folders)))) < 1e-5
    models = [load_model(folder / f"step-{STEPS:08}") for folder in folders]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


@pytest.mark.slow
def test_micro_batches_of_processes_draw_the_biases_of_micro_batches_of_one(corpus, tmp_path, curve, alone):
    more = ("--bias-draws", "micro-batch", "--micro-batch-size", "2")
    train_with_torchrun(corpus, tmp_path / "two", *more)
    assert max(differences([curve(alone(*more)), curve(tmp_path / "two")])) < 1e-5


@pytest.mark.slow
def test_what_all_processes_refuse_is_said_by_one(corpus, tmp_path):
    told = train_together(corpus, tmp_path / "run", "--batch-size", "7", status=1)
    assert told.count("--batch-size 7 is no multiple of 2 processes") == 1
    assert "interp/train" not in told  # no traceback


@pytest.mark.slow
@pytest.mark.parametrize("distribute", ["ddp", "fsdp"])
def test_a_state_of_two_processes_goes_on_in_two_bit_by_bit_and_in_one_to_rounding(corpus, tmp_path, curve, distribute):
    more = ("--optimizer", "ecd", "--clip", "1", "--save-every", "6", "--keep", "9")
    whole = tmp_path / "whole"
    train_together(corpus, whole, *more, "--distribute", distribute)
    for name, go_on in (("two", train_together), ("one", train_alone)):
        part = shutil.copytree(
            whole, tmp_path / name, ignore=shutil.ignore_patterns("step-00000008", f"step-{STEPS:08}")
        )
        go_on(corpus, part, *more, "--distribute", distribute, "--resume")
    assert max(differences([curve(whole), curve(tmp_path / "one")])) < 1e-5
    ends = [
        torch.load(path / f"step-{STEPS:08}" / checkpoints.STATE, weights_only=True)
        for path in (whole, tmp_path / "two")
    ]
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name])

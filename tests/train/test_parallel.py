"""Two processes train what one trains: gloo on CPU, started as on a node of GPUs."""

import shutil
import subprocess
import sys

import pytest
import torch

from interp.model.checkpoint import load_model
from interp.train import checkpoints

STEPS = 12


def run(corpus, output, processes, *more):
    words = f"--corpus {corpus} --steps {STEPS} --batch-size 8 --context 16 --evaluate-every 4 -o {output}".split()
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    done = subprocess.run([*start, "interp.train", *words, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def differences(rows):
    one, two = rows
    assert len(one) == len(two) == STEPS
    keys = ("loss", "validation_loss", "grad_norm")
    return [abs(a[k] - b[k]) for a, b in zip(one, two, strict=True) for k in keys if k in a]


CASES = [
    ("adamw", "--lr 0.002", "ddp"),
    ("adamw", "--lr 0.002", "fsdp"),
    ("ecd", "--clip 1", "ddp"),
    ("ecd", "--clip 1", "fsdp"),
    ("ecd", "--optimizer-args projection=global --weight-decay 0.001 --charges-every 4", "fsdp"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "arguments", "distribute"), CASES)
def test_two_processes_follow_the_curve_of_one(corpus, tmp_path, curve, optimizer, arguments, distribute):
    more = ("--optimizer", optimizer, *arguments.split(), "--variant", "bqbv")
    run(corpus, tmp_path / "one", 1, *more)
    told = run(corpus, tmp_path / "two", 2, *more, "--distribute", distribute)
    assert told.count("parameters,") == 1  # only one of them speaks
    assert max(differences([curve(tmp_path / name) for name in ("one", "two")])) < 1e-5
    models = [load_model(tmp_path / name / f"step-{STEPS:08}") for name in ("one", "two")]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


@pytest.mark.slow
def test_micro_batches_of_processes_draw_the_biases_of_micro_batches_of_one(corpus, tmp_path, curve):
    more = ("--bias-draws", "micro-batch", "--micro-batch-size", "2")
    run(corpus, tmp_path / "one", 1, *more)
    run(corpus, tmp_path / "two", 2, *more)
    assert max(differences([curve(tmp_path / name) for name in ("one", "two")])) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("distribute", ["ddp", "fsdp"])
def test_a_state_of_two_processes_goes_on_in_two_bit_by_bit_and_in_one_to_rounding(corpus, tmp_path, curve, distribute):
    more = ("--optimizer", "ecd", "--clip", "1", "--save-every", "6", "--keep", "9")
    whole = tmp_path / "whole"
    run(corpus, whole, 2, *more, "--distribute", distribute)
    for name, processes in (("two", 2), ("one", 1)):
        part = shutil.copytree(
            whole, tmp_path / name, ignore=shutil.ignore_patterns("step-00000008", f"step-{STEPS:08}")
        )
        run(corpus, part, processes, *more, "--distribute", distribute, "--resume")
    assert max(differences([curve(whole), curve(tmp_path / "one")])) < 1e-5
    ends = [
        torch.load(path / f"step-{STEPS:08}" / checkpoints.STATE, weights_only=True)
        for path in (whole, tmp_path / "two")
    ]
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name])

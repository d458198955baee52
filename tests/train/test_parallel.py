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
from tests.train.same_run import assert_same

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
    ("ecd", "--clip 1 --directions 4", "ddp"),
    ("ecd", "--clip 1 --directions 4", "fsdp"),
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


RESUMED = ("--optimizer", "ecd", "--clip", "1", "--save-every", "6", "--keep", "9", "--distribute")


def begun(folder, place):
    """A copy of a run that has its first state only."""
    return shutil.copytree(folder, place, ignore=shutil.ignore_patterns("step-00000008", f"step-{STEPS:08}"))


@pytest.mark.slow
def test_a_state_of_two_copies_goes_on_in_two_bit_by_bit_and_in_one_to_rounding(corpus, tmp_path, curve):
    whole = tmp_path / "whole"
    train_together(corpus, whole, *RESUMED, "ddp")
    for name, go_on in (("two", train_together), ("one", train_alone)):
        go_on(corpus, begun(whole, tmp_path / name), *RESUMED, "ddp", "--resume")
    assert max(differences([curve(whole), curve(tmp_path / "one")])) < 1e-5
    ends = [
        torch.load(path / f"step-{STEPS:08}" / checkpoints.STATE, weights_only=True)
        for path in (whole, tmp_path / "two")
    ]
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name])


WATCHED = """
import sys
from torch.distributed.tensor import DTensor
from interp.train import checkpoints, saving
from interp.train.__main__ import app
capture, full_tensor, whole = checkpoints.capture, DTensor.full_tensor, saving.whole
def count(tensors):
    return sum(tensor.numel() for tensor in tensors)
def captured(model, optimizer, world):
    state, part = capture(model, optimizer, world)
    print("holds", count(part.values()), "of", 2 * count(model.parameters()), file=sys.stderr)
    return state, part
def gathered(tensors, world):
    found = whole(tensors, world)
    if not world.first and any(isinstance(tensors[name], DTensor) for name in found):
        print("gathered elsewhere", file=sys.stderr)
    return found
def full(tensor, **more):
    if tensor.numel() > 1:
        print("gathered everywhere", file=sys.stderr)
    return full_tensor(tensor, **more)
checkpoints.capture, saving.whole, DTensor.full_tensor = captured, gathered, full
app(sys.argv[1:])
"""
KILLED = """
import os, signal, sys, time
from pathlib import Path
from interp.train import checkpoints
from interp.train.__main__ import app
save_file = checkpoints.save_file
def killed(part, path):
    save_file(part, path)
    if "step-00000012" in str(path) and "00002-of" in path.name:
        path.write_bytes(path.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)
checkpoints.save_file = killed
app(sys.argv[1:])
"""


def run_code(code, corpus, output, *more):
    return run_ranks([sys.executable, "-c", code, *words(corpus, output, *more)])


@pytest.fixture(scope="module")
def sharded(corpus, tmp_path_factory):
    """The folder of a run of two processes that share the parameters, and what they said of what they held."""
    output = tmp_path_factory.mktemp("sharded") / "run"
    statuses, told = run_code(WATCHED, corpus, output, *RESUMED, "fsdp")
    assert statuses == [0, 0], told
    return output, told


@pytest.mark.slow
def test_no_process_holds_the_whole_of_a_sharded_state_nor_any_but_the_first_a_whole_tensor(sharded):
    folder, told = sharded
    for said in told:
        assert "gathered" not in said
        held = [list(map(int, line.split()[1::2])) for line in said.splitlines() if line.startswith("holds")]
        assert len(held) == 2 and all(0.4 * whole < own < 0.6 * whole for own, whole in held)
    state = checkpoints.saved_states(folder)[-1]
    assert (state / checkpoints.STATE).stat().st_size < 50_000
    assert len(list(state.glob("state-*-of-00002.safetensors"))) == 2


@pytest.mark.slow
def test_a_sharded_state_goes_on_in_two_bit_by_bit_also_where_one_is_killed_in_the_middle_of_the_next(
    corpus, tmp_path, curve, sharded
):
    part = begun(sharded[0], tmp_path / "two")
    statuses, _ = run_code(KILLED, corpus, part, *RESUMED, "fsdp", "--resume")
    assert statuses[1] == -9 and statuses[0] != 0
    assert [state.name for state in checkpoints.saved_states(part)] == ["step-00000006"]
    train_together(corpus, part, *RESUMED, "fsdp", "--resume")
    ends = [checkpoints.saved_states(folder)[-1] for folder in (sharded[0], part)]
    for path in ends[0].glob("*.safetensors"):
        assert path.read_bytes() == (ends[1] / path.name).read_bytes(), path.name
    states = [torch.load(end / checkpoints.STATE, weights_only=True) for end in ends]
    assert_same(*[{key: state[key] for key in ("random", "shards")} for state in states])
    assert not list(part.glob(".step*"))


@pytest.mark.slow
def test_a_sharded_state_goes_on_in_one_process_and_one_of_one_process_in_two(corpus, tmp_path, curve, sharded, alone):
    one, two = begun(sharded[0], tmp_path / "one"), begun(alone(*RESUMED, "fsdp"), tmp_path / "two")
    train_alone(corpus, one, *RESUMED, "fsdp", "--resume")
    train_together(corpus, two, *RESUMED, "fsdp", "--resume")
    for folder in (one, two):
        assert max(differences([curve(sharded[0]), curve(folder)])) < 1e-5


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flipped, lambda path: path.unlink(), lambda path: path.write_bytes(b"junk")])
def test_a_damaged_part_of_a_sharded_state_is_named_and_the_state_before_it_taken(tmp_path, sharded, damage):
    part, said = shutil.copytree(sharded[0], tmp_path / "run"), []
    states = checkpoints.saved_states(part)
    damage(states[-1] / checkpoints.SHARD.format(2, 2))
    folder, state = checkpoints.read_newest(part, said.append)
    assert folder == states[-2] and state["model"]
    assert "state-00002-of-00002.safetensors" in said[0] and ("damaged" in said[0] or "cannot be read" in said[0])

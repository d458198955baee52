"""Which runs are compiled: asked for, or long enough; decided once, and the same when a run goes on."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import preset
from interp.model.distributed import World
from interp.train import parallel
from interp.train.config import TrainConfig
from interp.train.loop import train
from tests import commands
from tests.train.same_run import same_run

CPU = torch.device("cpu")
LONG = 10**9  # tokens


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that leaves models as they are, and the list of what it was given."""
    given = []
    monkeypatch.setattr(parallel.torch, "compile", lambda model: given.append(model) or model)
    return given


@pytest.mark.parametrize(
    ("settings", "tokens", "processes", "expected"),
    [
        ({}, LONG, 1, True),
        ({"preset": "small"}, LONG, 1, False),
        ({}, 100_000, 1, False),
        ({}, LONG, 2, False),
        ({"examples": True}, LONG, 1, False),
        ({"compile": False}, LONG, 1, False),
        ({"compile": True}, 1, 2, True),
        ({"compile": True, "examples": True}, 1, 1, True),
    ],
    ids=str,
)
def test_what_is_asked_for_is_done_and_else_the_length_of_the_run_decides(
    monkeypatch, settings, tokens, processes, expected
):
    world = World(0, processes, CPU)
    monkeypatch.setattr(World, "gathered", lambda self, value: [value] * self.size)
    monkeypatch.setattr(parallel, "_compiler_problem", lambda device: None)
    config = TrainConfig(**{"preset": "mini", **settings})
    assert parallel.compiles(config, preset(config.preset), tokens, world, pytest.fail) is expected


def test_the_rule_counts_arithmetic_so_that_it_is_the_same_on_every_machine():
    steps = {}
    for name in ("mini", "tiny"):
        cfg = preset(name)
        steps[name] = parallel.WORTH["cpu"] / (6 * cfg.n_parameters * 32 * cfg.n_ctx)
    assert 1000 < steps["tiny"] < 2000 < steps["mini"] < 4000
    assert parallel.WORTH["cuda"] > parallel.WORTH["cpu"]  # which does in a second what a CPU does in minutes


def test_where_nothing_compiles_a_long_run_says_so_and_goes_on_and_one_that_was_to_be_compiled_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "_compiler_problem", lambda device: "no g++")
    world, told = World(0, 1, CPU), []
    assert not parallel.compiles(TrainConfig(), preset("mini"), LONG, world, told.append)
    assert told == ["torch.compile does not work here (no g++): the run goes on without, which is slower"]
    with pytest.raises(InterpError, match=r"no g\+\+\); install a C\+\+ compiler, or give --no-compile"):
        parallel.compiles(TrainConfig(compile=True), preset("mini"), 1, world, told.append)


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_noticed(tmp_path):
    code = """
import torch, torch._inductor.config as settings
from interp.train import parallel
settings.cpp.cxx = ("no-such-compiler",)
print(parallel._compiler_problem(torch.device("cpu")))
"""
    told = commands.run(
        [sys.executable, "-c", code], env={**commands.os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    )
    assert "ompiler" in told.stdout and len(told.stdout.splitlines()) == 1, told.stderr


def compiled(folder):
    return json.loads((folder / "config.json").read_text())["training"]["compiled"]


def test_a_run_that_goes_on_does_as_it_did_whatever_the_rule_now_says(config, tmp_path, monkeypatch, compiler, curve):
    settings = config(steps=4, evaluate_every=2, keep=9)
    begun = {}
    for worth, name in ((0, "compiled"), (1e30, "not")):
        monkeypatch.setitem(parallel.WORTH, "cpu", worth)
        compiler.clear()
        begun[name] = train(replace(settings, output=tmp_path / name))
        assert (len(compiler) > 0) is compiled(begun[name]) is (name == "compiled")
        assert "compile" not in TrainConfig(**{**settings.to_dict(), "output": tmp_path}).command()
    for worth, name in ((1e30, "compiled"), (0, "not")):
        monkeypatch.setitem(parallel.WORTH, "cpu", worth)
        part = shutil.copytree(begun[name], tmp_path / f"{name}-on", ignore=shutil.ignore_patterns("step-00000004"))
        compiler.clear()
        train(replace(settings, output=part, resume=True))
        assert (len(compiler) > 0) is compiled(part) is (name == "compiled")
        same_run(begun[name], part, curve)


def test_a_run_of_before_goes_on_without_and_may_be_compiled_if_that_is_asked_for(
    config, tmp_path, monkeypatch, compiler
):
    settings = config(steps=4, evaluate_every=2, keep=9)
    folder = train(settings)
    for path in folder.rglob("config.json"):  # as versions wrote it that compiled only what they were told to
        values = json.loads(path.read_text())
        del values["training"]["compiled"]
        values["training"]["compile"] = False
        path.write_text(json.dumps(values))
    for path in folder.glob("step-00000004/*"):
        path.unlink()
    monkeypatch.setitem(parallel.WORTH, "cpu", 0)
    part = shutil.copytree(folder, tmp_path / "asked")
    train(replace(settings, resume=True))
    assert not compiler and not compiled(folder)
    train(replace(settings, resume=True, output=part, compile=True))
    assert compiler and compiled(part)

"""One run, one owner: a second start says who holds the folder, and nobody's report is replaced unasked."""

import json
import os
import signal
import sys
import time

import pytest
import torch

import interp
from interp.convert import convert
from interp.errors import InterpError
from interp.files import owning
from tests import commands
from tests.model.foreign.release import Release

AMPLIFY = [sys.executable, "-m", "interp.amplify", "tiny-bqbv", "--pipeline", "blank:en", "--schemes", "surface",
           "--workers", "0", "--interventions", "none", "--no-uses", "-q", "--nulls", "0", "--shifts", "0"]  # fmt: skip


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The fox saw the boats. " * 40)
    return path


def held(folder):
    """A process that holds a folder until it is killed."""
    child = os.fork()
    if child == 0:
        with owning(folder):
            (folder / "held").touch()
            time.sleep(60)
        os._exit(0)
    while not (folder / "held").exists():
        time.sleep(0.01)
    return child


def test_a_second_owner_is_told_of_the_first_and_a_killed_one_gives_the_folder_back(tmp_path):
    child = held(tmp_path)
    with pytest.raises(InterpError, match=rf"is being written by process {child} on .* since 20"), owning(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with owning(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / ".owner").read_text()
    assert not (tmp_path / ".owner").exists()
    with owning(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()  # nothing was written to it


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InterpError, match=r"Cannot write .*; choose a folder that can be written"), owning(folder):
            pass


def test_a_report_that_another_process_writes_is_left_alone(tmp_path, corpus):
    child = held(tmp_path / "out")
    try:
        done = commands.run([*AMPLIFY, "--corpus", str(corpus), "-o", str(tmp_path / "out")])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done.returncode == 1 and f"is being written by process {child}" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", ".owner", "held"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_destination_that_another_process_converts_to_is_left_alone(tmp_path, overwrite):
    torch.save(Release(seed=1, kind="bqbv", vocabulary=300, context=20).checkpoint(), tmp_path / "model_best.pt")
    child = held(tmp_path / "out")
    if overwrite:
        (tmp_path / "out" / "config.json").touch()  # an old checkpoint's
    try:
        with pytest.raises(
            InterpError, match=f"out is being written by process {child} on" if overwrite else "out exists"
        ):
            convert(tmp_path / "model_best.pt", tmp_path / "out", overwrite=overwrite)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for name in ("held", "config.json"):
        (tmp_path / "out" / name).unlink(missing_ok=True)
    convert(
        tmp_path / "model_best.pt", tmp_path / "out"
    )  # what the killed one left by which it held the folder is nothing
    with owning(tmp_path / "out"), pytest.raises(InterpError, match="is being written by"):
        convert(tmp_path / "model_best.pt", tmp_path / "out", overwrite=True)


def test_who_waits_gets_a_folder_when_it_is_given_back(tmp_path):
    child = os.fork()
    if child == 0:
        with owning(tmp_path):
            (tmp_path / "held").touch()
            while not (tmp_path / "asked").exists():
                time.sleep(0.01)
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(InterpError, match="is being written by"), owning(tmp_path):
        pass
    (tmp_path / "asked").touch()
    with owning(tmp_path, wait=60):
        pass
    os.waitpid(child, 0)


@pytest.mark.slow
def test_another_checkpoints_report_is_replaced_only_when_asked(tmp_path, corpus):
    start = [*AMPLIFY, "--corpus", str(corpus), "-o", str(tmp_path / "out")]
    other = [word.replace("tiny-bqbv", "tiny-bq") for word in start]
    assert commands.run(start).returncode == 0
    assert commands.run(start).returncode == 0  # the same may be made again
    before = (tmp_path / "out" / "run.json").read_bytes()
    refused = commands.run(other)
    assert refused.returncode == 1
    assert (
        "holds the report of tiny-bqbv, not of tiny-bq; choose another folder with -o, or give --replace"
        in " ".join(refused.stderr.split())
    )
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    assert commands.run([*other, "--replace"]).returncode == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["checkpoint"] == "tiny-bq"


@pytest.mark.slow
def test_one_scheme_may_be_given_as_it_is(corpus):
    text = [corpus.read_text()]
    for schemes in ("surface", "surface,freq"):
        found = interp.amplification("tiny-bqbv", text, schemes, workers=0, nulls=0, shifts=0, fit_tokens=0)
        assert found.run["schemes"] == schemes.split(",")


@pytest.mark.slow
def test_compare_takes_a_direction_by_its_name(corpus):
    text = [corpus.read_text(), "A cat. " * 60]
    asked = {"corpus": text, "schemes": "surface", "workers": 0, "nulls": 0, "shifts": 0, "fit_tokens": 0}
    found = interp.compare("tiny-symmetric", "tiny-bq", direction="tiny-bq", **asked)
    twin = interp.load_model("tiny-bq")
    same = interp.compare("tiny-symmetric", twin, direction=twin, **asked)
    assert found.heads["difference"].equals(same.heads["difference"])
    assert found.run["a"]["direction"] == "b_Q of tiny-bq" and found.run["b"]["direction"] == "bias"


def test_a_pipeline_that_cannot_tag_is_refused(corpus):
    text = [corpus.read_text()]
    for schemes, told in (("pos", "one of tagger, morphologizer"), ("surface,dep", "one of parser")):
        with pytest.raises(InterpError, match=rf"needs a pipeline with {told}.* 'blank:en' has none"):
            interp.amplification("tiny-bqbv", text, schemes, pipeline="blank:en", workers=0)

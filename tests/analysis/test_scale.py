"""Blocks, processes and interruptions: what is measured does not depend on them."""

import copy
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from interp.analysis.measurements.passages import Passages
from interp.analysis.result import Amplification
from interp.analysis.resume import ResumeFile, remove_partial
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.checkpoint import save_checkpoint
from tests import commands
from tests.analysis.blocks import KilledError, after, in_blocks, killed_after
from tests.analysis.passes import measurement_of
from tests.processes import run_ranks

TABLES = ("heads", "tokens", "positions", "passages", "passage_scores", "nulls", "adjusted", "replicates",
          "replicates_beyond", "explained", "head_scores", "top_passages", "patterns")  # fmt: skip


def assert_alike(one, two, **how):
    """All tables of two results are alike."""
    assert set(one.tables) == set(two.tables)
    assert set(one.tables) - {"writes"} == set(TABLES)  # those of `measure`; the command adds what models write
    for name in one.tables:
        pd.testing.assert_frame_equal(one.tables[name], two.tables[name], **how)


@pytest.fixture(scope="module")
def case(make_model, make_documents, make_scheme):
    """A model and documents of several blocks."""
    model, schemes = make_model(n_ctx=9, n_layers=1), [make_scheme("s", 4), make_scheme("t", 3)]
    documents = make_documents(schemes, model.cfg.d_vocab, np.random.default_rng(0).integers(5, 200, size=24))
    return model, schemes, in_blocks(documents, 9)


def run(case, documents=None, **options):
    model, schemes, all_documents = case
    return measure(
        model,
        all_documents if documents is None else documents,
        schemes,
        Settings(amplified_nulls=2, nulls=4, batch_size=8),
        sample=all_documents,
        **options,
    )


def interrupted(case, partial, batches):
    with pytest.raises(KilledError):
        run(case, after(case[2], partial), resume=partial, on_tokens=killed_after(batches))


@pytest.mark.slow
def test_a_run_that_was_interrupted_twice_gives_the_same_bits(case, tmp_path):
    whole = run(case)
    done = []
    for batches in (10, 10):
        partial = ResumeFile(tmp_path, {"seed": 0}, every_seconds=0.0)
        interrupted(case, partial, batches)
        done.append(ResumeFile(tmp_path, {"seed": 0}).done.number)
    assert done[0] < done[1]
    partial = ResumeFile(tmp_path, {"seed": 0}, every_seconds=0.0)
    resumed = run(case, after(case[2], partial), resume=partial)
    assert partial.done.number == done[1]
    assert_alike(resumed, whole, check_exact=True)
    assert resumed.run["n_tokens"] == whole.run["n_tokens"]
    remove_partial(tmp_path)
    assert not tmp_path.exists()


def test_partial_sums_of_other_settings_and_damaged_ones_are_refused(case, tmp_path):
    interrupted(case, ResumeFile(tmp_path, {"seed": 0, "processes": 1}, every_seconds=0.0), 10)
    with pytest.raises(
        InterpError, match=r"another run: its processes is 1, here it is 2 .and 1 more.; give the same settings"
    ):
        ResumeFile(tmp_path, {"seed": 1, "processes": 2})
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InterpError, match=r"rank-0.safetensors cannot be read .*; remove it to start over"):
        ResumeFile(tmp_path, {"seed": 0, "processes": 1})


def test_partial_sums_of_an_earlier_version_are_refused_in_a_sentence(case, tmp_path, monkeypatch):
    state = Passages.state
    with monkeypatch.context() as patch:  # as passages were kept before they were scored in the pass
        patch.setattr(Passages, "state", lambda own: {name: of for name, of in state(own).items() if name != "scores"})
        interrupted(case, ResumeFile(tmp_path, {}, every_seconds=0.0), 10)
    with pytest.raises(InterpError, match="not of this version's amplify; remove it to start over"):
        run(case, resume=ResumeFile(tmp_path, {}))


def test_sums_are_saved_no_more_often_than_asked(case, tmp_path):
    run(case, resume=ResumeFile(tmp_path, {}, every_seconds=3600.0))
    assert not list(tmp_path.iterdir())


TEXTS = [
    f"In {year} the fox wrote {year % 7} papers, and nobody in London read them. " * (year % 9 + 1)
    for year in range(1900, 1960)
]


def command(folder, output, *more):
    words = (
        f"interp.amplify {folder}/model --corpus {folder}/texts.jsonl --pipeline blank:en --schemes surface --workers 0"
    )
    words += f" --interventions none --no-uses --shifts 19 -o {output}"
    return [sys.executable, "-m", *words.split(), *more]


@pytest.fixture(scope="module")
def small(make_model, tmp_path_factory):
    """A folder with a checkpoint, and texts of several blocks of its contexts."""
    folder = tmp_path_factory.mktemp("small")
    save_checkpoint(make_model(n_ctx=32), folder / "model")
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return folder


@pytest.mark.slow
def test_two_processes_find_what_one_finds_and_only_the_first_speaks(small, tmp_path):
    """The one is a fresh interpreter, as a user starts it."""
    alone = subprocess.run(command(small, tmp_path / "1"), capture_output=True, text=True, timeout=180)
    statuses, told = run_ranks(command(small, tmp_path / "2"))
    assert [alone.returncode, *statuses] == [0, 0, 0], "\n".join([alone.stderr, *told])[-3000:]
    assert [text.count("more files in") for text in (alone.stderr, *told)] == [1, 1, 0]
    assert not any((tmp_path / processes / "partial").exists() for processes in "12")
    one, two = (Amplification.load(tmp_path / str(processes)) for processes in (1, 2))
    assert_alike(one, two, rtol=1e-6, atol=1e-7)
    for name in ("n_tokens", "n_documents", "corpus_sha256"):
        assert one.run[name] == two.run[name]


KILLED = """
import sys
from interp.analysis import resume
resume.EVERY_SECONDS = 0.0
resume.ResumeFile.__init__.__defaults__ = (0, 0.0)
resume.SHARE = 1e9
sys.argv = ["interp.amplify", *sys.argv[1:]]
from interp.amplify import app
app()
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_when_it_is_given_again(small, tmp_path):
    output = tmp_path / "report"
    words = command(small, output, "--quiet", "--nulls", "32")[3:]
    run = commands.start([sys.executable, "-c", KILLED, *words], start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((output / "partial").glob("rank-0.safetensors")):
        assert run.poll() is None, run.stderr[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    other = commands.run([sys.executable, "-m", "interp.amplify", *words, "--seed", "1"])
    assert other.returncode == 1
    assert "partial results of another run: its seed is 0, here it is 1" in " ".join(other.stderr.split())
    for folder in (output, tmp_path / "whole"):
        words[words.index("-o") + 1] = str(folder)
        commands.run([sys.executable, "-m", "interp.amplify", *words], check=True)
    resumed, whole = Amplification.load(output), Amplification.load(tmp_path / "whole")
    assert_alike(resumed, whole, check_exact=True)
    assert not (output / "partial").exists()


@pytest.fixture(scope="module")
def expected(case):
    """The sums over all blocks."""
    return sums_of(case, case[2])


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_merged_parts_of_the_blocks_equal_the_whole_in_any_order(case, expected, world):
    parts = [sums_of(case, [d for d in case[2] if d.block.number % world == rank]) for rank in range(world)]
    wholes = []
    for order in (range(world), reversed(range(world))):
        first, *others = [copy.deepcopy(parts[rank]) for rank in order]  # merging changes the first
        for other in others:
            first.merge(other)
        wholes.append(first)
    state = expected.state()
    for whole in wholes:
        for name, tensor in whole.state().items():
            torch.testing.assert_close(tensor, state[name], rtol=1e-9, atol=1e-9)
        kept, kept_of_all = (measurement_of(sums, Passages).contexts() for sums in (whole, expected))
        assert [one.tokens.tolist() for one in kept] == [one.tokens.tolist() for one in kept_of_all]


def sums_of(case, documents):
    """What one process has collected, taken from what it would save."""
    kept = []

    class Keeping(ResumeFile):
        def __init__(self):
            self.done = None

        def save(self, block, sums):
            kept[:] = [sums]

    run(case, documents, resume=Keeping())
    return kept[0]


@pytest.mark.slow
def test_partial_sums_whose_numbers_changed_are_refused(case, tmp_path):
    """A flipped bit, NaN, another dtype: the file is readable, its checksum does not fit."""
    interrupted(case, ResumeFile(tmp_path, {}, every_seconds=0.0), 10)
    [file] = tmp_path.iterdir()
    with safe_open(file, "pt") as opened:
        words, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    name = max(tensors, key=lambda name: tensors[name].numel())
    flipped = tensors[name].clone()
    flipped.view(torch.uint8).flatten()[100] ^= 1
    for changed in (flipped, tensors[name] * float("nan"), tensors[name].float()):
        save_file(tensors | {name: changed}, file, metadata=words)
        with pytest.raises(InterpError, match=r"rank-0.safetensors is damaged .*; remove it to start over"):
            run(case, resume=ResumeFile(tmp_path, {}))
    save_file(tensors, file, metadata={"interp": json.dumps({"settings": {}, "block": 1, "digest": ""})})
    with pytest.raises(InterpError, match="not of this version's amplify; remove it"):
        ResumeFile(tmp_path, {})

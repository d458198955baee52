"""Blocks, processes and interruptions: what is measured does not depend on them."""

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

from interp.analysis.result import Amplification
from interp.analysis.resume import ResumeFile, remove_partial, state_of
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.contexts import Dealer, Encoded, TaggedDocument
from interp.errors import InterpError

TABLES = (
    "heads",
    "tokens",
    "positions",
    "passages",
    "passage_scores",
    "nulls",
    "adjusted",
    "selectivity",
    "replicates",
)


@pytest.fixture(scope="module")
def case(make_model, make_documents, make_scheme):
    """A model and documents of several blocks."""
    model, schemes = make_model(n_ctx=9, n_layers=1), [make_scheme("s", 4), make_scheme("t", 3)]
    documents = make_documents(schemes, model.cfg.d_vocab, np.random.default_rng(0).integers(5, 300, size=24))
    blocks = [one.block for one in Dealer(9).deal([_encoded(document) for document in documents])]
    return model, schemes, [_in_block(document, block) for document, block in zip(documents, blocks, strict=True)]


def _encoded(document):
    return Encoded(document.index, document.document, document.tokens, document.offsets)


def _in_block(document, block):
    return TaggedDocument(document.index, document.document, document.tokens, document.offsets, document.classes, block)


def run(case, documents=None, **options):
    model, schemes, all_documents = case
    return measure(
        model,
        all_documents if documents is None else documents,
        schemes,
        Settings(amplified_nulls=2, nulls=4),
        **options,
    )


class KilledError(Exception):
    pass


def interrupted(case, partial, batches):
    seen = iter(range(batches))

    def on_tokens(tokens):
        if tokens and next(seen, None) is None:
            raise KilledError

    with pytest.raises(KilledError):
        run(case, partial=partial, on_tokens=on_tokens)


def test_a_run_that_was_interrupted_twice_gives_the_same_bits(case, tmp_path):
    whole = run(case)
    done = []
    for batches in (20, 12):
        partial = ResumeFile(tmp_path, {"seed": 0}, every_seconds=0.0)
        interrupted((*case[:2], after(case, partial)), partial, batches)
        done.append(ResumeFile(tmp_path, {"seed": 0}).done.number)
    assert done[0] < done[1]
    partial = ResumeFile(tmp_path, {"seed": 0}, every_seconds=0.0)
    resumed = run(case, after(case, partial), partial=partial)
    assert partial.done.number == done[1]
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(resumed, name), getattr(whole, name), check_exact=True)
    assert resumed.run["n_tokens"] == whole.run["n_tokens"]
    remove_partial(tmp_path)
    assert not tmp_path.exists()


def after(case, partial):
    last = -1 if partial.done is None else partial.done.number
    return [document for document in case[2] if document.block.number > last]


def test_partial_sums_of_other_settings_and_damaged_ones_are_refused(case, tmp_path):
    interrupted(case, ResumeFile(tmp_path, {"seed": 0, "processes": 1}, every_seconds=0.0), 20)
    with pytest.raises(
        InterpError, match=r"another run: its processes is 1, here it is 2 .and 1 more.; give the same settings"
    ):
        ResumeFile(tmp_path, {"seed": 1, "processes": 2})
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InterpError, match=r"rank-0.safetensors cannot be read .*; remove it to start over"):
        ResumeFile(tmp_path, {"seed": 0, "processes": 1})


def test_sums_are_saved_no_more_often_than_asked(case, tmp_path):
    run(case, partial=ResumeFile(tmp_path, {}, every_seconds=3600.0))
    assert not list(tmp_path.iterdir())


TEXTS = [
    f"In {year} the fox wrote {year % 7} papers, and nobody in London read them. " * (year % 9 + 1)
    for year in range(1900, 1960)
]


def command(folder, output, processes, *more):
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    words = ["interp.amplify", "tiny-bqbv", "--corpus", str(folder), "--pipeline", "blank:en", "--schemes", "surface"]
    return [*start, *words, "--workers", "0", "--interventions", "none", "--no-uses", "-o", str(output), *more]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text * 8}) + "\n" for text in TEXTS))
    return path


@pytest.mark.slow
def test_two_processes_find_what_one_finds_and_only_the_first_speaks(corpus, tmp_path):
    told = {}
    for processes in (1, 2):
        done = subprocess.run(command(corpus, tmp_path / str(processes), processes), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        told[processes] = done.stderr.count("report.html")
        assert not (tmp_path / str(processes) / "partial").exists()
    assert told == {1: 1, 2: 1}
    one, two = (Amplification.load(tmp_path / str(processes)) for processes in (1, 2))
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), rtol=1e-6, atol=1e-7)
    for name in ("n_tokens", "n_documents", "corpus_sha256"):
        assert one.run[name] == two.run[name]


KILLED = """
import sys
from interp.analysis import partial
partial.EVERY_SECONDS = 0.0
partial.PartialSums.__init__.__defaults__ = (0, 0.0)
partial.SHARE = 1e9
sys.argv = ["interp.amplify", *sys.argv[1:]]
from interp.amplify import app
app()
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_when_it_is_given_again(corpus, tmp_path):
    output = tmp_path / "report"
    words = command(corpus, output, 1, "--quiet", "--nulls", "32")[3:]
    run = subprocess.Popen([sys.executable, "-c", KILLED, *words], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((output / "partial").glob("rank-0.safetensors")):
        assert run.poll() is None, run.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    run.stderr.close()
    other = subprocess.run(
        [sys.executable, "-m", "interp.amplify", *words, "--seed", "1"], capture_output=True, text=True
    )
    assert other.returncode == 1
    assert "partial results of another run: its null_seed is 0, here it is 1" in " ".join(other.stderr.split())
    for folder in (output, tmp_path / "whole"):
        words[words.index("-o") + 1] = str(folder)
        subprocess.run([sys.executable, "-m", "interp.amplify", *words], check=True, capture_output=True)
    resumed, whole = Amplification.load(output), Amplification.load(tmp_path / "whole")
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(resumed, name), getattr(whole, name), check_exact=True)
    assert not (output / "partial").exists()


@pytest.mark.parametrize("world", [2, 3])
def test_merged_parts_of_the_blocks_equal_the_whole_in_any_order(case, world):
    wholes = []
    for order in (range(world), reversed(range(world))):
        parts = [sums_of(case, [d for d in case[2] if d.block.number % world == rank]) for rank in range(world)]
        first, *others = [parts[rank] for rank in order]
        for other in others:
            first.merge(other)
        wholes.append(first)
    expected = state_of(sums_of(case, case[2]))
    for whole in wholes:
        for name, tensor in state_of(whole).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)
        assert [one.tokens.tolist() for one in whole.sample.contexts()] == [
            one.tokens.tolist() for one in sums_of(case, case[2]).sample.contexts()
        ]


def sums_of(case, documents):
    """What one process has collected, taken from what it would save."""
    kept = []

    class Keeping(ResumeFile):
        def __init__(self):
            self.done = None

        def save(self, block, sums):
            kept[:] = [sums]

    run(case, documents, partial=Keeping())
    return kept[0]

"""SIGTERM is Ctrl-C for every command: one line, a status that tells of it, and nothing half-written."""

import json
import os
import signal
import sys
import threading

import pytest
import torch

from interp.data.workers import WorkerPool
from interp.model.checkpoint import save_checkpoint
from interp.options import Terminated, stop_signal, terminable
from tests import commands
from tests.model.foreign.release import Release

AT_THE_FIRST_WRITE = """
import os, runpy, signal, sys
from interp import files
files._replace = lambda *_: os.kill(os.getpid(), signal.{})
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
FEW = [
    "--pipeline",
    "blank:en",
    "--schemes",
    "surface",
    "--workers",
    "0",
    "--no-uses",
    "-q",
    "--nulls",
    "0",
    "--shifts",
    "0",
]
WORDS = {
    "amplify": ["interp.amplify", "model", "--corpus", "text.jsonl", "--interventions", "all", *FEW, "-o", "out"],
    "uses": [
        "interp.amplify",
        "model",
        "--corpus",
        "text.jsonl",
        "--interventions",
        "none",
        *FEW,
        "--uses",
        "-o",
        "out",
    ],
    "evals": ["interp.evals", "model", "--families", "copying", "--n-items", "2", "--corpus", "none", "-o", "out"],
    "prepare": ["interp.data", "prepare", "text.jsonl", "out", "--workers", "0", "--vocabulary", "280"],
    "convert": ["interp.convert", "model_best.pt", "out"],
    "replicate": ["interp.replicate", "-o", "out", "--corpus", "text.jsonl", "--max-steps", "1"],
}


@pytest.fixture
def place(make_model, tmp_path):
    """A folder with all that the commands read."""
    save_checkpoint(make_model(n_ctx=60), tmp_path / "model")
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"The fox saw {n} boats. " * 3}) + "\n" for n in range(16))
    )
    torch.save(Release(seed=1, kind="bqbv", vocabulary=300, context=20).checkpoint(), tmp_path / "model_best.pt")
    return tmp_path


@pytest.mark.parametrize("command", [pytest.param(name, marks=pytest.mark.slow) for name in WORDS])
def test_sigterm_ends_a_command_as_ctrl_c_does_and_leaves_nothing(place, command):
    before = {path.relative_to(place) for path in place.rglob("*")}
    for number, told in ((signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGINT, "stopped by Ctrl-C")):
        words = [sys.executable, "-c", AT_THE_FIRST_WRITE.format(number.name), *WORDS[command]]
        done = commands.run(
            words, cwd=place, env={**os.environ, "INTERP_CACHE": str(place / "cache"), "COLUMNS": "200"}
        )
        assert done.returncode == 128 + number, done.stderr
        assert done.stderr.strip().splitlines()[-1] == told
        assert "Traceback" not in done.stderr
        assert {path.relative_to(place) for path in place.rglob("*")} == before


def test_inside_sigterm_is_an_interruption_and_outside_what_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped, terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.type is Terminated and stop_signal(stopped.value) == signal.SIGTERM
    assert stop_signal(KeyboardInterrupt()) == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def test_elsewhere_than_in_the_main_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def enter():
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_to_all_processes_leaves_the_workers_to_their_parent(tmp_path, tokenizer):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    with WorkerPool("tokenizing", "interp.data.tokenizer", str(tmp_path / "tokenizer.json"), 1) as pool:
        first = pool.ask(["two words"])[0].tolist()
        for number in (signal.SIGTERM, signal.SIGINT):
            pool.started[0].send_signal(number)
            assert pool.ask(["two words"])[0].tolist() == first

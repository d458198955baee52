"""Processes that are killed, told to stop, or run out of disk, and go on to the same weights, bit by bit."""

import random
import signal
import sys
import time

import pytest

from interp.model.checkpoint import load_model
from interp.train import checkpoints
from tests import commands
from tests.train.same_run import begun, command, same_run


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    commands.run(command(corpus, output), check=True)
    return output


@pytest.mark.slow
def test_killed_at_three_random_moments_a_run_ends_like_one_that_was_not(corpus, tmp_path, uninterrupted, curve):
    output, moments, kills = tmp_path / "run", random.Random(0), 0
    while kills < 3:
        process = commands.start(command(corpus, output, "--resume"))
        before = len(checkpoints.saved_states(output)) and checkpoints.saved_states(output)[-1].name
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and not begun(output, before):
            time.sleep(0.01)  # until this part of the run has taken steps
        time.sleep(moments.uniform(0, 0.15))
        kills += process.poll() is None
        process.kill()
        process.wait()
        if checkpoints.saved_states(output) and checkpoints.saved_states(output)[-1].name == "step-00000060":
            break
    commands.run(command(corpus, output, "--resume"), check=True)
    assert kills >= 2
    same_run(uninterrupted, output, curve)
    hidden = {path.name for path in [*output.iterdir(), *output.parent.iterdir()] if path.name.startswith(".")}
    assert hidden <= {".lock"}


KILLERS = {
    "in the middle of the state": "torch.save = lambda value, path: (open(path, 'wb').write(b'half'), die())",
    "between weights and state": "torch.save = lambda *a: die()",
    "between two files of the best weights": (
        "import interp.files as f, pathlib; r = pathlib.Path.replace; n = []\n"
        "pathlib.Path.replace = lambda a, b: die() if len(n) > 12 else (n.append(0), r(a, b))[1]"
    ),
    "while old states are removed": "import shutil; shutil.rmtree = lambda p, **k: die() if 'step' in str(p) else None",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLERS)
def test_killed_in_the_middle_of_a_write_a_run_ends_like_one_that_was_not(
    corpus, tmp_path, uninterrupted, curve, moment
):
    output = tmp_path / "run"
    code = f"""
import os, signal, sys, torch
from interp.train.__main__ import app
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
{KILLERS[moment]}
app(sys.argv[1:])
"""
    words = command(corpus, output)[3:]
    killed = commands.run([sys.executable, "-c", code, *words])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if (output / "config.json").exists():
        load_model(output)
    commands.run(command(corpus, output, "--resume"), check=True)
    same_run(uninterrupted, output, curve)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_everything_says_how_to_go_on_and_that_works(corpus, tmp_path, uninterrupted, curve, number):
    output = tmp_path / "run"
    process = commands.start(command(corpus, output))
    while not begun(output, None) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(60)
    assert process.returncode == 128 + number
    assert f"python -m interp.train --resume -o {output}" in " ".join(told.split())
    commands.run([sys.executable, "-m", "interp.train", "--resume", "-o", str(output)], check=True)
    same_run(uninterrupted, output, curve)


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence_and_earlier_states_stay(corpus, tmp_path, curve, uninterrupted):
    output = tmp_path / "run"
    code = """
import resource, signal, sys
from interp.train import loop
from interp.train.__main__ import app
save = loop.save_state
def limited(run):
    if run.progress.step == 18:  # from here on no file may grow beyond 1 MB
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, resource.RLIM_INFINITY))
    save(run)
loop.save_state = limited
app(sys.argv[1:])
"""
    ended = commands.run([sys.executable, "-c", code, *command(corpus, output)[3:]])
    assert ended.returncode == 1
    assert "error: Cannot write" in ended.stderr and "Traceback" not in ended.stderr
    assert [path.name for path in checkpoints.saved_states(output)] == ["step-00000006", "step-00000012"]
    commands.run(command(corpus, output, "--resume"), check=True)
    same_run(uninterrupted, output, curve)

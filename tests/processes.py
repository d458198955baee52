"""Processes that work together, never longer than a limit: whoever hangs is killed with all that it started."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time

import pytest
from torch.distributed import TCPStore

from tests import commands


def run_together(words_of_all, limit=commands.LIMIT, environments=None):
    """Run commands side by side and return their exit statuses and what each wrote to stderr.

    After `limit` seconds all are killed, and the test fails with what they wrote.
    """
    environments = environments or [{}] * len(words_of_all)
    running = [
        commands.start(words, env={**os.environ, **more}, start_new_session=True)
        for words, more in zip(words_of_all, environments, strict=True)
    ]
    late = _ended(running, limit)
    return _reported(running, [command.stderr for command in running], late, limit)


def run_fresh_together(words_of_all, limit=commands.LIMIT):
    """Do as `run_together` with interpreters that start afresh."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in words_of_all]
        running = [
            subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True)
            for words, file in zip(words_of_all, files, strict=True)
        ]
        late = _ended(running, limit)
        for file in files:
            file.seek(0)
        return _reported(running, [file.read() for file in files], late, limit)


def run_ranks(words, count=2, limit=commands.LIMIT):
    """Run one command as `count` processes that torchrun would have started, with a store that they meet at."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    common = {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip
    environments = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return run_together([words] * count, limit, environments)


def _ended(running, limit):
    """Wait for all, kill those that take too long, and return whether there were any."""
    deadline = time.monotonic() + limit
    while (late := any(process.poll() is None for process in running)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return late


def _reported(running, written, late, limit):
    if late:
        pytest.fail(f"not finished after {limit} s:\n" + "\n".join(text[-3000:] for text in written))
    return [process.returncode for process in running], written

"""Processes that work together, never longer than a limit: whoever hangs is killed with all that it started."""

import os
import signal
import subprocess
import tempfile
import time

import pytest


def run_together(commands, limit=180, **environment):
    """Run commands side by side and return their exit statuses and what each wrote to stderr.

    After `limit` seconds all are killed, and the test fails with what they wrote.
    """
    files = [tempfile.TemporaryFile("w+") for _ in commands]  # noqa: SIM115 - closed where they are read
    running = [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True, env={**os.environ, **environment}
        )
        for command, file in zip(commands, files, strict=True)
    ]
    deadline = time.monotonic() + limit
    while late := any(process.poll() is None for process in running):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    written = []
    for file in files:
        with file:
            file.seek(0)
            written.append(file.read())
    if late:
        pytest.fail(f"not finished after {limit} s:\n" + "\n".join(text[-3000:] for text in written))
    return [process.returncode for process in running], written

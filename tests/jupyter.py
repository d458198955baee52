"""A real JupyterLab on a folder, and a browser's page in it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

WAIT = 120  # seconds for a server to start on a busy machine
PATIENCE = 240_000  # ms for a page or a cell, there


@contextmanager
def jupyterlab(folder: Path, settings: Path) -> Iterator[str]:
    """Serve a folder; yield an address whose `{}` is the path of a notebook in it.

    `settings` keeps what JupyterLab writes, away from the home of who runs the tests.
    """
    token, log = secrets.token_hex(16), settings / "server.log"
    environment = os.environ | {
        f"JUPYTER_{name}_DIR": str(settings / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTERLAB_WORKSPACES_DIR": str(settings)}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    silent = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    silent.parent.mkdir(parents=True)
    silent.write_text('{"fetchNews": "false"}')  # or it asks whether it may
    with log.open("w") as written:
        server = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=environment)
    try:
        yield f"http://127.0.0.1:{_port(server, log)}/lab/tree/{{}}?token={token}&reset"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(WAIT)


def _port(server: subprocess.Popen, log: Path) -> int:
    for _ in range(WAIT * 5):
        found = re.search(r"http://127\.0\.0\.1:(\d+)/lab", log.read_text())
        if found:
            return int(found[1])
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and wait for its cells."""
    page.goto(address.format(f"{name}.ipynb"), wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=PATIENCE)


def run_explorer(page: Page) -> None:
    """Run all cells of the notebook that is open and wait for the explorer and its figures."""
    # what is run before the kernel stands is lost without a word, or answered with a question
    page.locator(".jp-Toolbar-kernelName", has_text="Python 3").wait_for(timeout=PATIENCE)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=PATIENCE)
    started = page.locator(".jp-Notebook .jp-InputPrompt", has_text=re.compile(r"\[[*1]\]"))
    question = page.locator(".jp-Dialog .jp-mod-accept")
    for _ in range(20):
        if question.count():
            question.first.click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_timeout(3000)
        if started.count():
            break
    page.wait_for_selector(".interp-scale", timeout=PATIENCE)
    page.wait_for_function("document.querySelectorAll('.gtitle').length >= 3", timeout=PATIENCE)

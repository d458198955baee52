"""A running run is followed: the page grows with its curve, and ends with it or with Ctrl-C."""

import json
import signal
import sys
import time
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.files import OWNER, is_owned, owning
from interp.options import Terminated
from interp.train.__main__ import app
from interp.train.curves.page import follow
from tests import commands
from tests.train.curves.histories import rows_of

REFRESH = '<meta http-equiv="refresh"'


@pytest.fixture
def drive(monkeypatch):
    """Let the next event happen where time would pass."""

    def start(*events):
        left = iter(events)
        monkeypatch.setattr("interp.train.curves.page.time.sleep", lambda seconds: next(left)())

    return start


def append(folder, rows, end="\n"):
    with (folder / "training.jsonl").open("a") as file:
        file.write("\n".join(map(json.dumps, rows)) + end)


def interrupted(kind=KeyboardInterrupt):
    raise kind


def test_the_page_is_written_whenever_the_curve_grows_and_a_last_time_when_the_run_ends(tmp_path, drive):
    folder, page, rows, seen = tmp_path / "run", tmp_path / "curves.html", rows_of(6), []
    with ExitStack() as stack:
        stack.enter_context(owning(folder))
        drive(
            lambda: append(folder, rows[:2]),  # nothing was there before: the run was waited for
            lambda: None,
            lambda: append(folder, rows[2:5]),
            lambda: (append(folder, rows[5:]), stack.close()),
        )
        assert follow([folder], page, lambda path: seen.append(path.read_text())) == page
    steps = [text.partition("</td>")[0].rpartition("<td>")[2] for text in seen]
    assert steps == ["2", "5", "6"]
    assert [REFRESH in text for text in seen] == [True, True, False]


def test_ctrl_c_ends_it_cleanly_and_sigterm_is_told(tmp_path, run, drive):
    folder, page = run(steps=5), tmp_path / "curves.html"
    with owning(folder):
        drive(interrupted)
        result = CliRunner().invoke(app, ["plot", str(folder), "-o", str(page), "--follow"])
        assert result.exit_code == 0 and result.stdout.strip() == page.as_uri()
        assert "written 1 times; followed no more" in result.stderr and REFRESH not in page.read_text()
        drive(lambda: interrupted(Terminated))
        assert (
            CliRunner().invoke(app, ["plot", str(folder), "-o", str(page), "--follow"]).exit_code
            == 128 + signal.SIGTERM
        )


def test_a_run_that_does_not_go_is_drawn_once_and_one_that_is_not_there_is_refused(tmp_path, run, drive):
    drive()  # no time passes
    seen = []
    follow([run(steps=5) / "training.jsonl"], tmp_path / "curves.html", seen.append)
    assert len(seen) == 1
    with pytest.raises(InterpError, match="There is no"):
        follow([tmp_path / "nowhere"], tmp_path / "curves.html")


def test_a_folder_is_owned_while_a_process_holds_it_and_not_when_that_was_killed(tmp_path):
    assert not is_owned(tmp_path / "nowhere")
    with owning(tmp_path / "run"):
        assert is_owned(tmp_path / "run")
        (tmp_path / "run" / "kept").touch()
    assert not is_owned(tmp_path / "run")
    (tmp_path / "run" / OWNER).write_text("process 1 on elsewhere since yesterday")
    assert not is_owned(tmp_path / "run")


def test_the_command_follows_until_a_real_ctrl_c(tmp_path, run):
    folder, page = run(steps=5), tmp_path / "curves.html"
    with owning(folder):
        command = commands.start(
            [sys.executable, "-m", "interp.train", "plot", str(folder), "-o", str(page), "--follow"]
        )
        until = time.monotonic() + 120
        while not page.is_file() and command.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        assert command.wait() == 0, command.communicate()
    assert REFRESH not in page.read_text()

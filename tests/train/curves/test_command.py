"""The command by what it leaves, and the names that it gives to runs."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from interp.train.__main__ import plot
from interp.train.curves.page import names_of

app = typer.Typer()
app.command()(plot)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/a/last", "x/b/last"], ["a/last", "b/last"]),
        (["a/training.jsonl", "b"], ["a", "b"]),
        (["a/one.jsonl", "a/two.jsonl"], ["one.jsonl", "two.jsonl"]),
        (["a", "a"], ["a (1)", "a (2)"]),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(tmp_path, paths, names):
    assert names_of([tmp_path / path for path in paths]) == names


def test_the_command_writes_one_page_and_prints_its_address(run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = tmp_path / "pages" / "curves.html"
    result = CliRunner().invoke(app, [str(run()), str(run("b")), "-o", str(page), "--open"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == page.as_uri() == opened[0]
    assert [file.name for file in page.parent.iterdir()] == ["curves.html"]


def test_the_command_refuses_a_run_without_history_in_one_line_and_writes_nothing(run, tmp_path):
    page = tmp_path / "curves.html"
    result = CliRunner().invoke(app, [str(run()), str(tmp_path / "nowhere"), "-o", str(page)])
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "There is no" in result.stderr
    assert not page.exists()


def test_help_loads_neither_torch_nor_plotly_nor_pandas():
    code = (
        "import sys, typer; from typer.testing import CliRunner; from interp.train.__main__ import plot; "
        "app = typer.Typer(); app.command()(plot); result = CliRunner().invoke(app, ['--help']); "
        "assert '--output' in result.stdout; "
        "print([m for m in ('torch', 'plotly', 'pandas', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"COLUMNS": "200", "PATH": ""}
    )
    assert done.stdout.strip() == "[]", done.stderr

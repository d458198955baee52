"""The command by what it leaves, and the names that it gives to runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from interp.options import command_from
from interp.train.__main__ import PlotConfig, plot
from interp.train.curves.page import find_run, names_of

app = typer.Typer()
app.command()(command_from(PlotConfig, plot, "Draw."))


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
        "import sys; from typer.testing import CliRunner; from interp.train.__main__ import app; "
        "result = CliRunner().invoke(app, ['plot', '--help']); "
        "assert '--output' in result.stdout; "
        "print([m for m in ('torch', 'plotly', 'pandas', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"COLUMNS": "200", "PATH": ""}
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_bundled_checkpoint_is_found_by_its_name_and_what_is_here_goes_before_it(run, monkeypatch):
    monkeypatch.chdir(run().parent)
    assert (find_run("tiny-bq") / "training.jsonl").is_file()
    assert find_run("run") == Path("run") and find_run("tiny-bqq") == Path("tiny-bqq")
    Path("tiny-bq").mkdir()
    assert find_run("tiny-bq") == Path("tiny-bq")


def test_the_page_lies_in_the_first_run_s_folder_and_here_where_all_are_names(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, other = run(), run("b")
    for words, page in (
        (["tiny-bq", str(folder), str(other)], folder / "curves.html"),
        ([str(other / "training.jsonl")], other / "curves.html"),
        (["tiny-bq"], tmp_path / "curves.html"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == page.as_uri() and page.stat().st_size > 0
        page.unlink()

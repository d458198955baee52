"""What commands say to who types them: versions, help, completion, folders that are none, tables of 80 columns."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import interp
from interp.__main__ import app
from interp.api import progress_bar, summary
from interp.data.contexts import told_of_length
from interp.evals.held_out import held_out_loss
from interp.model.checkpoint import load_model
from interp.options import say_further_files, say_sentence
from interp.report.evaluation import METRICS, screen_tables
from interp.report.findings import headlines
from interp.train.config import TrainConfig
from interp.train.optim.registry import OPTIMIZERS
from tests import commands
from tests.report.made import make_result

MODULES = (
    "interp",
    "interp.amplify",
    "interp.train",
    "interp.evals",
    "interp.data",
    "interp.replicate",
    "interp.convert",
)
NAMED = ("interp.evals arithmetic", "interp.data prepare", "interp.data verify", "interp.train plot")
NARROW = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
ROOT = Path(interp.__file__).parents[1]


def typed(line, **options):
    return commands.run([sys.executable, "-m", *line.split()], **{"env": NARROW, **options})


@pytest.mark.slow
@pytest.mark.parametrize("module", [*MODULES, *NAMED])
def test_every_command_tells_its_version_and_a_help_of_80_columns_whose_words_are_whole(module):
    told = typed(f"{module} --version")
    assert (told.returncode, told.stdout) == (0, f"interp {interp.__version__}\n"), told.stderr
    done = typed(f"{module} --help")
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout, [line for line in done.stdout.splitlines() if "…" in line]
    assert f"Usage: python -m {module} " in done.stdout and "--version" in done.stdout


def test_the_version_is_that_of_the_package():
    assert f'\nversion = "{interp.__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_long_lists_of_choices_are_broken_between_words():
    shown = CliRunner(env=NARROW).invoke(app, ["train", "--help"]).output.replace("<|endoftext|>", "")
    words = set(re.findall(r"[\w.-]+(?=\|)|(?<=\|)[\w.-]+", shown))
    known = {str(word) for hint in get_type_hints(TrainConfig).values() for word in literals(hint)}
    assert words <= known and set(OPTIMIZERS) - {"bbi"} <= words  # which has a line of its own


def literals(hint):
    """The values of a Literal, or of one with None."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return [word for inner in get_args(hint) for word in literals(inner)]


def test_lines_of_examples_in_a_help_stay_lines():
    lines = [
        line.strip() for line in CliRunner(env=NARROW).invoke(app, ["data", "prepare", "--help"]).output.splitlines()
    ]
    assert "prepare wikipedia-sample shards/wikipedia" in lines


def test_a_version_in_a_file_of_settings_is_no_setting(tmp_path):
    (tmp_path / "run.yaml").write_text("version: 1\n")
    done = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "run.yaml"), "-o", str(tmp_path / "run")])
    assert done.exit_code == 1 and "the setting 'version', which there is not" in done.output


def test_the_script_completes_commands_and_options_and_python_m_interp_does_not(tmp_path):
    code = "from interp.__main__ import app; app(prog_name='interp')"
    ask = [sys.executable, "-c", code]
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run([*ask, "--show-completion", "bash"], capture_output=True, text=True, env=env)
    assert shown.returncode == 0 and "_INTERP_COMPLETE=complete_bash" in shown.stdout, shown.stderr
    for words, completed in (
        ("interp am", "amplify"),
        ("interp amplify --sche", "--schemes"),
        ("interp data ver", "verify"),
    ):
        env = {
            **os.environ,
            "_INTERP_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        found = subprocess.run(ask, capture_output=True, text=True, env=env)
        assert found.stdout.split() == [completed], found.stderr
    assert "--show-completion" not in typed("interp --help").stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "interp.data verify TYPO",
            "There is no TYPO/manifest.json; give a folder that `python -m interp.data prepare` made.",
        ),
        ("interp.data verify empty", "There is no empty/manifest.json; give a folder"),
        ("interp.data verify file", "There is no file/manifest.json; give a folder"),
        ("interp.replicate --report -o TYPO", "There is no TYPO/plan.yaml, so nothing to report on; give the folder"),
        ("interp.replicate --report --scale tiny -o empty", "There is no empty/plan.yaml"),
        ("interp.replicate --report -o file", "There is no file/plan.yaml"),
        (
            "interp.train plot TYPO",
            "There is no TYPO; give the folder of a training run or of a checkpoint, or a bundled name.",
        ),
        ("interp.train plot empty", "There is no empty/training.jsonl; give the folder"),
        ("interp.train plot TYPO --follow", "There is no TYPO; give the folder"),
        ("interp.convert empty out", "There is no empty/config.json; give the folder of a model, which has one."),
        ("interp.evals TYPO --corpus none -o out", "There is no checkpoint 'TYPO'"),
        ("interp.amplify TYPO -o out", "There is no checkpoint 'TYPO'"),
        ("interp.data prepare TYPO out --tokenizer file", "'TYPO' is neither a file, a folder nor a corpus"),
    ],
)
def test_a_folder_that_is_none_is_one_sentence_and_leaves_nothing(tmp_path, line, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = typed(line, cwd=tmp_path, env={**NARROW, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"error: {message}") and not done.stdout
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"file", "out/.lock"} and not (tmp_path / "TYPO").exists()


def narrow(table):
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("name", ["content", "a_class_of_my_own_with_a_long_name"])
def test_the_table_of_a_comparison_fits_80_columns_and_cuts_no_number(name):
    classes = pd.DataFrame({
        "scheme": "function", "token_class": [f"{name}{i}" for i in range(3)], "statistic": "root_mean_square",
        "n_heads_a": 24, "n_heads_b": 24, "n_tokens": 1_234_567, "value_a": 10.5, "value_b": 0.25, "difference": -10.25,
        "ci_low": -11.12, "ci_high": -9.1,
    })  # fmt: skip
    both = pd.concat([classes, classes.assign(statistic="root_mean_square_shifted")])
    run = {"a": {"model": "tiny-symmetric-ecd"}, "b": {"model": "m"}, "shared": {"n_documents": 12}}
    shown = narrow(summary(interp.Comparison(pd.DataFrame(), both, run)))
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    for text in ("1,234,567", "10.50 (10.50)", "0.25 (0.25)", "-10.25", "[-11.12, -9.10]"):
        assert shown.count(text) == 3, text


@pytest.mark.parametrize("models", [["tiny-bq"], ["tiny-symmetric-ecd", "tiny-bq", "tiny-bqbv", "<b>d"]])
def test_the_tables_of_an_evaluation_fit_80_columns_and_cut_no_number(models):
    known = {f"{name}{end}": 0.5 if form == ".1%" else 1234.5 for name, (_, _, form) in METRICS.items()
             for end in ("", "_low", "_high", "_chance")}  # fmt: skip
    families = pd.DataFrame([
        {"family": family, "model": model, "n": 20_000, "constant": 0.125, **known}
        for model in models for family in ("far_retrieval", "a_family_of_my_own_with_a_long_name")
    ])  # fmt: skip
    overall = pd.DataFrame(
        {"model": models, "loss": 4.6, "low": 4.5, "high": 4.7, "n_tokens": 1_178_980, "n_documents": 12}
    )
    tables = list(screen_tables({"families": families, "overall": overall}))
    assert len(tables) == len(METRICS) + 1
    for table in tables:
        shown = narrow(table)
        assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown, shown
        assert all(shown.count(text) >= len(models) for text in ("50.0% to 50.0%", "12.5%")) or "Top-1" not in shown
    assert "4.5000 to 4.7000" in shown and "1,178,980" in shown


def test_the_last_lines_of_amplify_are_the_facts_the_answer_and_at_most_three_findings():
    result = make_result()
    found, lines = result.findings(), headlines(result)
    assert lines[0] == "tiny-bqbv (4 layers × 6 heads) on wikipedia-sample (held out), 183,402 tokens in 31 documents"
    in_first = found.loc[found["scheme"] == "pos"]
    assert lines[-4].startswith(f"{len(in_first)} of ") and "(pos) are findings" in lines[-4]
    for line in lines[-3:]:
        head, token_class = re.match(r"  L(\d+H\d+) (?:amplifies |suppresses )?([^:,]+)[:,]", line).groups()
        rows = in_first.loc[in_first["token_class"] == token_class]
        assert head in {f"{layer}H{number}" for layer, number in zip(rows["layer"], rows["head"], strict=True)}
    assert len(headlines(result, most=1)) == len(lines) - 2
    none = headlines(interp.Amplification.of(result.tables, result.run | {"direction": "b_Q of another"}))
    assert none[-1].startswith("No finding: The bias looked along is not in force")


def test_sentences_are_broken_between_words_on_a_terminal_and_files_take_one_line(monkeypatch, tmp_path):
    told = io.StringIO()
    for terminal, lines in ((True, 3), (False, 1)):
        monkeypatch.setattr(
            "interp.options.console", Console(width=80, file=told, force_terminal=terminal, no_color=True)
        )
        told.seek(told.truncate(0))
        say_sentence("[word] " * 30)
        shown = told.getvalue().strip("\n").splitlines()
        assert len(shown) == lines and all(line.split() == ["[word]"] * len(line.split()) for line in shown)
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_bytes(b"x" * 500_000)
    say_further_files(tmp_path, files)
    assert told.getvalue().endswith(f"3 more files in {tmp_path}, 1.5 MB\n")


def test_a_first_document_above_max_tokens_is_told_of_by_evaluations_too():
    model, texts = load_model("tiny-bq", "cpu"), ["The cat sat on the mat. " * 30, "A dog."]
    few = held_out_loss(model, texts, (), max_tokens=5)
    [told] = few.run["warnings"]
    assert re.match(r"The first document has \d+ tokens, more than max_tokens 5; it is measured whole.", told)
    assert few.overall["n_documents"].item() == 1
    assert held_out_loss(model, texts, (), max_tokens=10_000).run["warnings"] == []
    assert told_of_length(5, 5) == told_of_length(5, None) == [] and len(told_of_length(6, 5)) == 1


def test_the_progress_says_what_is_done_before_there_are_tokens(monkeypatch):
    told = io.StringIO()
    monkeypatch.setattr("interp.api.console", Console(width=80, file=told, force_terminal=True, no_color=True))
    with progress_bar(True, "tiny-bq: interventions", None, 100, "tagging"):
        pass
    assert "0 tokens (tagging)" in told.getvalue() and "preparing" not in told.getvalue()
    assert (
        max(len(re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", line)) for line in re.split(r"[\r\n]", told.getvalue())) <= 80
    )
    assert np.isfinite(len(told.getvalue()))

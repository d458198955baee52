"""An error is one line, whatever the names in it hold."""

import pickle

import pandas as pd
import pytest
from typer.testing import CliRunner

import interp
from interp.amplify import app
from interp.data.classes.yaml_file import read_schemes
from interp.data.corpora.corpus import open_corpus
from interp.errors import InterpError, few, nearest
from interp.files import writing
from interp.vocabulary import load_tokenizer

NAME = "a\nb\r\x1b[31m\u2028c"
SHOWN = r"a\nb\r\x1b[31m\u2028c"


def test_control_characters_line_breaks_and_halves_of_characters_are_shown_as_python_writes_them():
    error = InterpError(f"There is no {NAME} \t \x85\u2029\x7f \udcff \ud83d, but é, 😀 and שלום.")
    assert str(error) == rf"There is no {SHOWN} \t \x85\u2029\x7f \udcff \ud83d, but é, 😀 and שלום."
    assert len(str(error).splitlines()) == 1 and str(error).encode()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as processes hand it on
    assert str(InterpError(f"It was so: {error}")) == f"It was so: {error}"


def wrongly_named(folder):
    """What refuses a name, by kind of name."""
    (folder / f"{NAME}.yaml").write_text("classes: 3")
    (folder / f"{NAME}.csv").write_text("n\n1\n")
    (folder / f"{NAME}.jsonl").write_text('{"text": 5}')
    column = pd.DataFrame({NAME: ["x"]})
    return {
        "a missing model": lambda: interp.load_model(folder / NAME),
        "a missing tokenizer": lambda: load_tokenizer(folder / NAME),
        "a missing corpus": lambda: open_corpus(folder / f"{NAME}.txt"),
        "a file without the column": lambda: open_corpus(folder / f"{NAME}.csv"),
        "a document that is no text": lambda: list(open_corpus(folder / f"{NAME}.jsonl")),
        "a column": lambda: open_corpus(column),
        "a scheme": lambda: interp.read_sentence(interp.load_model("tiny-bq"), "x", [NAME]),
        "a file of classes": lambda: read_schemes(folder / f"{NAME}.yaml"),
        "a list and a neighbour": lambda: fail(f"{few([NAME])}{nearest(NAME + 'x', [NAME])}"),
        "a place that cannot be written": lambda: writing(folder / f"{NAME}.csv" / "x").__enter__(),
    }


def fail(told):
    raise InterpError(told)


def test_a_user_s_name_with_a_newline_gives_one_line_wherever_it_is_refused(tmp_path):
    for kind, ask in wrongly_named(tmp_path).items():
        with pytest.raises(InterpError) as caught:
            ask()
        assert len(str(caught.value).splitlines()) == 1, kind
        assert r"a\nb" in str(caught.value).replace(r"\\n", r"\n"), kind


def test_a_command_that_fails_on_such_a_name_prints_one_line(tmp_path):
    words = ["tiny-bq", "--corpus", str(tmp_path / NAME), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and len(done.stderr.strip().splitlines()) == 1 and r"a\nb" in done.stderr

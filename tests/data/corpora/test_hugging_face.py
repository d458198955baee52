"""Data sets stream in order from any row on; what cannot be streamed is one clear sentence. Nothing here needs a network."""

import json
import os
import subprocess
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interp.data.corpora.corpus import Place, open_corpus
from interp.data.corpora.hugging_face import parse, read_dataset
from interp.errors import InterpError

TEXTS = [f"Document {number} of the set." if number % 4 else "" for number in range(37)]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for part, texts in enumerate((TEXTS[:20], TEXTS[20:])):
        table = pa.table({"n": range(len(texts)), "text": texts})
        pq.write_table(table, folder / f"train-{part}.parquet", row_group_size=7)
    pq.write_table(pa.table({"n": [1], "text": ["held out"]}), folder / "test-0.parquet")
    return folder


def texts_of(corpus):
    return [document.text for document in corpus]


def test_a_streamed_set_is_a_corpus_that_can_be_read_again(folder):
    corpus = open_corpus(f"hf:{folder}")
    full = [text for text in TEXTS if text]
    assert texts_of(corpus) == texts_of(corpus) == full
    assert texts_of(open_corpus(corpus, "validation")) == full[7::8]
    assert next(iter(corpus)).name == f"{folder}:2", "rows count from 1, and the first has no text"
    assert texts_of(open_corpus(f"hf:{folder}::test")) == ["held out"]
    assert texts_of(open_corpus(f"hf:{folder}:default:test")) == ["held out"]


@pytest.mark.parametrize("split", ["all", "train", "validation"])
def test_reading_goes_on_from_any_place(folder, split):
    corpus = open_corpus(f"hf:{folder}", split)
    whole = list(corpus.documents())
    for number, (place, _) in enumerate(whole):
        assert list(corpus.documents(place)) == whole[number + 1 :]
    assert next(open_corpus(["", "a", " ", "b"]).documents(Place(2, 1)))[0] == Place(4, 2)


def test_jsonl_streams_too_and_the_text_column_can_be_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": text, "n": 1}) for text in TEXTS))
    assert texts_of(open_corpus(f"hf:{tmp_path}", text_field="body")) == [text for text in TEXTS if text]


@pytest.mark.parametrize(
    ("corpus", "parts"),
    [
        ("hf:a/b", ("a/b", None, "train")),
        ("hf:a/b:c", ("a/b", "c", "train")),
        ("hf:a/b:c:d", ("a/b", "c", "d")),
        ("hf:a/b::d", ("a/b", None, "d")),
    ],
)
def test_a_name_has_a_config_and_a_split(corpus, parts):
    assert parse(corpus) == parts


def script(folder):
    (folder / "code").mkdir()
    (folder / "code" / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    return f"hf:{folder / 'code'}"


BAD = {
    "an unknown config": (
        lambda f: f"hf:{f}:nope",
        r"BuilderConfig 'nope' not found.*check its name, config and split",
    ),
    "an unknown split": (lambda f: f"hf:{f}::nope", r"Bad split: nope.*'train'"),
    "a folder without data": (lambda f: f"hf:{f.parent / 'code'}", "Cannot stream"),
    "a script": (lambda f: script(f.parent), "scripts are no longer supported"),
    "no name": (lambda f: "hf:", r"'hf:' is no data set; write hf:NAME, hf:NAME:CONFIG"),
    "too many parts": (lambda f: "hf:a:b:c:d", "is no data set"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_set_is_one_clear_sentence(folder, name):
    make, sentence = BAD[name]
    with pytest.raises(InterpError, match=sentence) as error:
        open_corpus(make(folder))
    assert "\n" not in str(error.value)
    assert not (folder.parent / "ran").exists(), "code of a data set never runs"


@pytest.mark.parametrize(("ending", "write"), [("parquet", pq.write_table), ("jsonl", None)])
def test_a_missing_text_column_lists_those_there_are(tmp_path, ending, write):
    if write:
        write(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    else:
        (tmp_path / "a.jsonl").write_text('{"body": "x", "n": 1}')
    with pytest.raises(InterpError, match=r"no column 'text' for the text; the columns are 'body', 'n'"):
        open_corpus(f"hf:{tmp_path}")


def test_a_column_of_numbers_is_refused(folder):
    with pytest.raises(InterpError, match=r"row 1: the field 'n' holds a int; expected a string"):
        open_corpus(f"hf:{folder}", text_field="n")


def test_without_a_network_the_remedy_is_said():
    code = "from interp.data.corpora.corpus import open_corpus; open_corpus('hf:HuggingFaceFW/fineweb-edu:sample-10BT')"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert "InterpError: Cannot stream hf:HuggingFaceFW/fineweb-edu:sample-10BT (ConnectionError: " in last
    assert "download the data set and give hf:FOLDER" in last


def test_a_connection_that_breaks_in_the_middle_is_one_clear_sentence(folder, monkeypatch):
    whole = datasets.IterableDataset.__iter__

    def breaking(self):
        for number, row in enumerate(whole(self)):
            if number == 3:
                raise TimeoutError("read timed out")
            yield row

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", breaking)
    rows = read_dataset(f"hf:{folder}", "text")
    assert [text for _, text in [next(rows), next(rows), next(rows)]] == TEXTS[:3]
    with pytest.raises(InterpError, match=r"TimeoutError: read timed out\); check the network"):
        next(rows)

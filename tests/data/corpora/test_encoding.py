"""Text in the encodings that people have, packed or not; and what is no text is refused with its name."""

import bz2
import gzip
import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interp.data.corpora import formats
from interp.data.corpora.corpus import open_corpus
from interp.errors import InterpError

TEXT = "Zoë went to the café — naïve, and happy. " * 40


def texts_of(corpus, **options):
    return [document.text for document in open_corpus(corpus, **options)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_byte_order_mark_is_read(tmp_path, encoding):
    (tmp_path / "a.txt").write_text(TEXT, encoding=encoding)
    assert texts_of(tmp_path / "a.txt") == [TEXT]
    (tmp_path / "a.csv").write_text(f"text,n\n{TEXT.replace(',', '')},1\n", encoding=encoding)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": TEXT}, ensure_ascii=False) + "\n", encoding=encoding)
    assert texts_of(tmp_path / "a.csv") == [TEXT.replace(",", "")] and texts_of(tmp_path / "a.jsonl") == [TEXT]


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-16-le", "likely UTF-16LE without"), ("utf-16-be", "likely UTF-16BE without"), ("utf-32-le", "likely UTF-32"),
     ("cp1252", "is not UTF-8: .* likely cp1252 .* iconv -f CP1252 -t UTF-8")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_other_encodings_are_refused_with_file_and_likely_name(tmp_path, name, encoding, told):
    (tmp_path / name).write_bytes(("text\n" + TEXT).encode(encoding))
    with pytest.raises(InterpError, match=rf"{name} .*{told}"):
        open_corpus(tmp_path / name)


def test_a_few_broken_bytes_stop_nothing(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one \xff two \0 three")
    assert texts_of(tmp_path / "a.txt") == ["one \N{REPLACEMENT CHARACTER} two \N{REPLACEMENT CHARACTER} three"]


@pytest.mark.parametrize(
    ("start", "told"),
    [(b"%PDF-1.7", "is a PDF, no text"), (b"\x89PNG\r\n", "is a PNG image"),
     (gzip.compress(b"text", mtime=0), "is gzip data"),
     (b"\x7fELF", "is a program"), (b"\x01\x02\x00\x03\x04\x05\x06\x07\x08" * 90, "it is no text")],
)  # fmt: skip
def test_what_is_no_text_is_refused_whatever_it_is_called(tmp_path, start, told):
    (tmp_path / "a.txt").write_bytes(start)
    with pytest.raises(InterpError, match=told):
        open_corpus(tmp_path / "a.txt")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(InterpError, match="no regular file"):
        open_corpus(tmp_path / "a.txt")


def test_packed_files_are_read(tmp_path):
    line = (json.dumps({"text": TEXT}) + "\n").encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line))
    (tmp_path / "b.ndjson.bz2").write_bytes(bz2.compress(line))
    (tmp_path / "c.txt.zst").write_bytes(pa.compress(TEXT.encode(), "zstd", asbytes=True))
    (tmp_path / "d.json").write_bytes(line)
    (tmp_path / "e.json").write_text("\n " + json.dumps([{"text": TEXT}, {"text": "two"}], indent=1))
    (tmp_path / "f.tsv").write_text("n\ttext\n1\tone, and another\n")
    assert texts_of(tmp_path) == [TEXT, TEXT, TEXT, TEXT, TEXT, "two", "one, and another"]


def test_a_folder_says_what_it_left_out(tmp_path, capsys):
    formats._say_left_out.cache_clear()
    (tmp_path / "a.txt").write_text("one")
    for name in ("b.md", "c.md", "README"):
        (tmp_path / name).write_text("other")
    assert texts_of(tmp_path) == ["one"] == texts_of(tmp_path)
    assert " ".join(capsys.readouterr().err.split()).count("2 × .md, 1 × no ending.") == 1


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_recognized(tmp_path, delimiter):
    (tmp_path / "a.csv").write_text(f"n{delimiter}text\n1{delimiter}one, two\n")
    assert texts_of(tmp_path / "a.csv") == ["one, two"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [("text,n\none,1\ntwo,three,4\n", "line 3 has 3 fields, its header 2"), ("text,n\none\n", "line 2 has 1 fields"),
     ("text,text\none,two\n", "two columns 'text'"), ("body,n\none,1\n", "no column 'text' .* --text-field")],
)  # fmt: skip
def test_tables_that_are_none_are_refused(tmp_path, rows, told):
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(InterpError, match=told):
        texts_of(tmp_path / "a.csv")


def test_columns_of_a_data_frame_and_of_parquet(tmp_path):
    frame = pd.DataFrame({"n": [1, 2, 3], "body": ["one", None, "three"]})
    assert texts_of(frame, text_field="body") == texts_of(frame["body"]) == ["one", "three"]
    with pytest.raises(InterpError, match="The DataFrame has no column 'text'"):
        open_corpus(frame)
    for name, column in (
        ("view", pa.array(["one", "two"], pa.string_view())), ("binary", pa.array([b"one", b"two"])),
    ):  # fmt: skip
        pq.write_table(pa.table({"text": column}), tmp_path / f"{name}.parquet")
        assert texts_of(tmp_path / f"{name}.parquet") == ["one", "two"]
    pq.write_table(pa.table({"text": pa.nulls(2)}), tmp_path / "null.parquet")
    with pytest.raises(InterpError, match="no document with text"):
        open_corpus(tmp_path / "null.parquet")


def test_a_folder_of_save_to_disk_is_named_and_read(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InterpError, match=r"`save_to_disk` wrote; give hf:"):
        open_corpus(tmp_path / "saved")
    assert texts_of(f"hf:{tmp_path / 'saved'}") == ["one", "two"]
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["three"]})}).save_to_disk(tmp_path / "both")
    assert texts_of(f"hf:{tmp_path / 'both'}") == ["three"]

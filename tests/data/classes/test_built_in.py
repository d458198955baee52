"""Every scheme is a partition: each token has exactly one of the classes that were announced."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.classes.built_in import (
    BUILT_IN,
    DECILES,
    SURFACES,
    Scheme,
    build_schemes,
    cut_into_tenths,
    surface,
    surfaces,
)
from interp.data.corpora.corpus import open_corpus
from interp.data.tagging.documents import tag_documents
from interp.data.tokenizer import encode_documents
from interp.errors import InterpError

BLANK = "blank:en"
ANY_TEXTS = st.lists(st.text(max_size=60), max_size=4)


@pytest.mark.slow
@given(texts=ANY_TEXTS)
@settings(deadline=None, max_examples=25)
def test_every_token_has_exactly_one_announced_class_in_every_scheme(tokenizer, texts):
    corpus = open_corpus([*texts, "\0 nul, \ud800 surrogate, \u202eright to left\u202c e\u0301 \N{GRINNING FACE}  \n"])
    schemes = build_schemes(list(BUILT_IN), tokenizer, corpus, BLANK)
    documents = list(tag_documents(tokenizer, corpus, schemes, BLANK, workers=0, cache=None))
    assert len(documents) == len(list(corpus))
    for document in documents:
        for scheme in schemes:
            classes = document.classes[scheme.name]
            assert classes.shape == document.tokens.shape
            assert classes[0] == 0
            assert (classes[1:] > 0).all(), "only the first token of a document is bos"
            assert (classes < len(scheme.classes)).all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_class_names_are_unique_and_begin_with_bos(tokenizer, corpus, name):
    (scheme,) = build_schemes([name], tokenizer, corpus)
    assert scheme.name == name
    assert scheme.classes[0] == "bos"
    assert len(set(scheme.classes)) == len(scheme.classes) > 5


def test_class_names_come_from_the_pipelines_labels(tokenizer, corpus):
    tag, dep, ent = build_schemes(["tag", "dep", "ent"], tokenizer, corpus)
    assert {"NNP", "VBZ", "_SP", "untagged"} < set(tag.classes)
    assert {"nsubj", "ROOT", "SPACE"} < set(dep.classes)
    assert {"PERSON", "GPE", "none", "SPACE"} < set(ent.classes)


@pytest.mark.parametrize(("name", "space"), [("pos", "SPACE"), ("tag", "_SP"), ("dep", "SPACE"), ("function", "space")])
def test_white_space_is_a_class_of_its_own(tokenizer, name, space):
    corpus = open_corpus(["a  b\n\nc"])
    schemes = build_schemes([name], tokenizer, corpus, BLANK)
    (document,) = tag_documents(tokenizer, corpus, schemes, BLANK, workers=0)
    for place, (start, end) in enumerate(document.offsets[1:], start=1):
        is_space = document.document.text[start:end].isspace()
        assert (schemes[0].classes[document.classes[name][place]] == space) == is_space


SURFACE_CASES = [
    (" the", "word start"),
    ("ing", "continuation"),
    (" London", "capitalized"),
    ("USA", "capitalized"),
    ("iPhone", "continuation"),
    ("1999", "digits"),
    (" 3d", "digits"),
    ("\u0663", "digits"),
    (" (", "punctuation"),
    ("$", "punctuation"),
    ("\u2014", "punctuation"),
    ("\N{GRINNING FACE}", "punctuation"),
    ("'t", "continuation"),
    ("\n\n", "whitespace"),
    (" ", "whitespace"),
    ("\u3000", "whitespace"),
    ("caf\u00e9", "non-ascii"),
    ("\u0301", "non-ascii"),
    (" \u05e9\u05dc", "non-ascii"),
    ("\x01", "punctuation"),
]


@pytest.mark.parametrize(("string", "expected"), SURFACE_CASES)
def test_the_surface_of_a_string_is_what_it_looks_like(string, expected):
    assert surface(string) == expected


def test_bytes_of_a_character_are_told_from_whole_tokens(tokenizer):
    table = surfaces(tokenizer)
    assert table.shape == (len(tokenizer),)
    for token, string in enumerate(tokenizer.convert_ids_to_tokens(range(256 + 1))):
        if len(string) == 1:  # the byte alphabet
            is_ascii = string.isascii() or "\u0100" <= string <= "\u0121"  # control characters and the blank
            assert (SURFACES[table[token]] == "bytes") == (not is_ascii)


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_a_more_frequent_token_is_never_in_a_rarer_decile(counts):
    tenths = cut_into_tenths(np.array(counts))
    order = np.argsort(-np.array(counts), kind="stable")
    assert (np.diff(tenths[order]) >= 0).all()
    assert tenths.min() >= 0
    assert tenths.max() <= 9
    assert (tenths[np.array(counts) == 0] == 9).all()


def test_each_decile_holds_about_a_tenth_of_all_occurrences():
    counts = (10_000 / np.arange(10, 2000)).astype(np.int64)
    tenths = cut_into_tenths(counts)
    shares = np.bincount(tenths, weights=counts, minlength=10) / counts.sum()
    assert np.abs(shares - 0.1).max() < counts.max() / counts.sum() + 1e-9


def test_frequency_counts_the_corpus_it_is_given(tokenizer):
    corpus = open_corpus(["the the the the the the the the the the", "zq"])
    (scheme,) = build_schemes(["freq"], tokenizer, corpus)
    assert scheme.classes == ("bos", *DECILES)
    tokens = np.concatenate([tokens[1:] for tokens, _ in encode_documents(tokenizer, corpus)])
    values, counts = np.unique(tokens, return_counts=True)
    classes = scheme.assign(values, None, None)
    assert classes[np.argmax(counts)] == classes.min() < classes[np.argmin(counts)]


def test_frequency_does_not_count_the_token_before_each_document(tokenizer):
    (scheme,) = build_schemes(["freq"], tokenizer, open_corpus(["q"] * 20))
    (index,) = scheme.assign(np.array([tokenizer.convert_tokens_to_ids("q")]), None, None)
    assert scheme.classes[index] == "freq 6", "the only token there is has its middle occurrence in the middle"


def test_a_scheme_of_ones_own_is_used_as_it_is(tokenizer, corpus):
    own = Scheme("even", ("bos", "even", "odd"), False, lambda tokens, words, nearest_word: 1 + tokens % 2)
    (scheme,) = build_schemes([own], tokenizer, corpus)
    document = next(tag_documents(tokenizer, corpus, [scheme]))
    assert np.array_equal(document.classes["even"][1:], 1 + document.tokens[1:] % 2)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["poss"], "no scheme 'poss'; choose from pos, tag, dep, ent, function, surface, freq; did you mean 'pos'"),
        (["pos", "pos"], "'pos' is named twice"),
        ([], "No scheme was named"),
    ],
)
def test_bad_scheme_names_are_refused(tokenizer, corpus, names, sentence):
    with pytest.raises(InterpError, match=sentence):
        build_schemes(names, tokenizer, corpus)


def test_a_scheme_that_needs_tags_says_so_when_it_gets_none(tokenizer, corpus):
    (scheme,) = build_schemes(["pos"], tokenizer, corpus)
    with pytest.raises(InterpError, match="'pos' needs tagged words"):
        scheme.assign(np.zeros(1, dtype=np.int64), None, None)

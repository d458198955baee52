"""A small tokenizer and corpora that every test of `interp.data` may share."""

import pytest
from transformers import PreTrainedTokenizerFast

from interp.data.corpora.corpus import Corpus, open_corpus
from interp.data.tokenizer import train_tokenizer

TEXTS = [
    "Don't panic: the state-of-the-art ship costs $5.30, says Ada Lovelace of London.",
    "See http://example.com/a?b=c for more.\n\nThe second paragraph is shorter.",
    "Café, naïve, e\u0301tude \N{GRINNING FACE} and \N{FAMILY} in 1999.",
    "\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd \u202eright to left\u202c",
    "  leading blanks,\ttabs and trailing blanks   ",
    "It is raining in the old town of Bath, and nobody minds.",
    "Seven of the eight documents are for training.",
    "The eighth document is for validation; it is the only one.",
    "A ninth begins the next round.",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the state of the art and the rain in London. " * 3, *TEXTS], d_vocab=320)


@pytest.fixture
def corpus() -> Corpus:
    return open_corpus(TEXTS)


@pytest.fixture(autouse=True)
def _no_cache_outside_the_test(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))

"""How often a token occurs in the corpus: the scheme `freq`."""

import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from interp.data.corpus import Corpus
from interp.data.tokenizer import encode_documents

DECILES = ("freq 1 (most frequent)", *(f"freq {number}" for number in range(2, 10)), "freq 10 (rarest)")


def deciles(tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> Int64[np.ndarray, " d_vocab"]:
    """Return the index into `DECILES` of every token of the vocabulary, after one pass over the corpus.

    Token types are ranked by count, ties by id, and the ranking is cut so that each decile holds about a tenth of all
    occurrences: the first a few very frequent types, the last thousands of rare ones. A type that straddles a cut goes
    where its middle occurrence falls. Types that do not occur are in the last.
    """
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    for tokens, _ in encode_documents(tokenizer, corpus):
        counts += np.bincount(tokens[1:], minlength=len(counts))
    return cut_into_tenths(counts)


def cut_into_tenths(counts: Int64[np.ndarray, " d_vocab"]) -> Int64[np.ndarray, " d_vocab"]:
    """Return 0 to 9 for each count, so that the counts of each tenth add up to about a tenth of the whole."""
    order = np.argsort(-counts, kind="stable")
    middle = np.cumsum(counts[order]) - counts[order] / 2
    tenth = np.empty(len(counts), dtype=np.int64)
    tenth[order] = np.minimum(middle * 10 // max(1, counts.sum()), 9).astype(np.int64)
    tenth[counts == 0] = 9
    return tenth

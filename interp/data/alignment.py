"""Which word does a byte-pair token belong to? The one with which its characters overlap most."""

import sys

import numpy as np
from jaxtyping import Bool, Int64, Integer

_WHITE_SPACE = np.array([code for code in range(sys.maxunicode + 1) if chr(code).isspace()], dtype=np.uint32)


def align(
    offsets: Integer[np.ndarray, "bpe 2"],
    text: str,
    word_starts: Integer[np.ndarray, " word"],
    word_ends: Integer[np.ndarray, " word"],
) -> Int64[np.ndarray, " bpe"]:
    """Return for each BPE token the index of its word, or -1 for one that touches no word.

    A token's leading white space does not count, unless it has nothing else; then its whole span counts. Of two words
    with equal overlap the earlier wins. The pieces of a multi-byte character all span that character. A token that
    spans no character takes the word of the token before it that does, at the beginning of that after it.

    Args:
        offsets: first and last-plus-one character of each token.
        text: what the offsets point into.
        word_starts: first character of each word; words are in order and do not overlap.
        word_ends: last-plus-one character of each word.
    """
    starts, ends = _without_leading_space(offsets.astype(np.int64), text)
    first = np.searchsorted(word_ends, starts, side="right")
    beyond = np.searchsorted(word_starts, ends, side="left")
    best = np.full(len(offsets), -1, dtype=np.int64)
    overlap = np.zeros(len(offsets), dtype=np.int64)
    open_tokens = np.flatnonzero((first < beyond) & (starts < ends))
    step = 0
    while len(open_tokens):  # once for each word that the widest token touches
        word = first[open_tokens] + step
        shared = np.minimum(ends[open_tokens], word_ends[word]) - np.maximum(starts[open_tokens], word_starts[word])
        more = shared > overlap[open_tokens]
        best[open_tokens[more]], overlap[open_tokens[more]] = word[more], shared[more]
        step += 1
        open_tokens = open_tokens[first[open_tokens] + step < beyond[open_tokens]]
    return _from_neighbours(best, starts < ends)


def _without_leading_space(
    offsets: Int64[np.ndarray, "bpe 2"], text: str
) -> tuple[Int64[np.ndarray, " bpe"], Int64[np.ndarray, " bpe"]]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    places = np.where(np.isin(codes, _WHITE_SPACE), len(codes), np.arange(len(codes)))
    # next_visible[i] is the first character at i or later that is no white space
    next_visible = np.append(np.minimum.accumulate(places[::-1])[::-1], len(codes)).astype(np.int64)
    starts, ends = offsets[:, 0], offsets[:, 1]
    visible = next_visible[starts]
    return np.where(visible < ends, visible, starts), ends


def _from_neighbours(words: Int64[np.ndarray, " bpe"], has_own: Bool[np.ndarray, " bpe"]) -> Int64[np.ndarray, " bpe"]:
    if not has_own.any():
        return words
    before = np.maximum.accumulate(np.where(has_own, np.arange(len(words)), -1))
    return words[np.where(before >= 0, before, np.argmax(has_own))]

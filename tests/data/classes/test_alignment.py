"""Tags reach byte-pair tokens through `align`: hand-made cases, a slow reference, and real tokenizers."""

from itertools import pairwise

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.classes.scheme import align
from interp.data.corpora.corpus import Document
from interp.data.tokenizer import encode_documents, train_tokenizer

# name: (text, byte-pair tokens, words, the word of each token; None for no word)
CASES = {
    "contraction": ("I don't", ["I", " don", "'t"], ["I", "do", "n't"], ["I", "do", "n't"]),
    "contraction in one token": ("we can't", ["we", " can't"], ["we", "ca", "n't"], ["we", "n't"]),
    "a tie goes to the earlier word": ("cannot", ["cannot"], ["can", "not"], ["can"]),
    "hyphens": (
        "state-of-the-art",
        ["state", "-of", "-the", "-", "art"],
        ["state", "-", "of", "-", "the", "-", "art"],
        ["state", "of", "the", "-", "art"],
    ),
    "currency": (
        "for $5.30",
        ["for", " $", "5", ".", "30"],
        ["for", "$", "5.30"],
        ["for", "$", "5.30", "5.30", "5.30"],
    ),
    "URL that is one word": (
        "see http://a.bc/d",
        ["see", " http", "://", "a", ".", "bc", "/", "d"],
        ["see", "http://a.bc/d"],
        ["see", *["http://a.bc/d"] * 7],
    ),
    "leading blanks do not count": ("a     I", ["a", "     I"], ["a", "    ", "I"], ["a", "I"]),
    "blanks alone count in full": ("a   b", ["a", "  ", " b"], ["a", "  ", "b"], ["a", "  ", "b"]),
    "one blank between words is no word": ("a b", ["a", " ", "b"], ["a", "b"], ["a", None, "b"]),
    "line breaks are a word of their own": (
        "a.\n\nB",
        ["a", ".", "\n\n", "B"],
        ["a", ".", "\n\n", "B"],
        ["a", ".", "\n\n", "B"],
    ),
    "one token over many words": ("x!!??", ["x!!??"], ["x", "!", "!", "??"], ["??"]),
    "right to left": (
        "\u05e9\u05dc \u05d5\u05dd",
        ["\u05e9", "\u05dc", " \u05d5\u05dd"],
        ["\u05e9\u05dc", "\u05d5\u05dd"],
        ["\u05e9\u05dc", "\u05e9\u05dc", "\u05d5\u05dd"],
    ),
    "combining accent": ("e\u0301 a", ["e", "\u0301", " a"], ["e\u0301", "a"], ["e\u0301", "e\u0301", "a"]),
}


def places(pieces, text):
    """Where consecutive pieces of the text stand; what lies between them is left out."""
    spans, position = [], 0
    for piece in pieces:
        start = text.index(piece, position)
        spans.append((start, start + len(piece)))
        position = start + len(piece)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


@pytest.mark.parametrize("name", CASES)
def test_a_token_takes_the_word_with_which_its_characters_overlap_most(name):
    text, tokens, words, expected = CASES[name]
    spans = places(words, text)
    found = align(places(tokens, text), text, spans[:, 0], spans[:, 1])
    assert [None if index < 0 else words[index] for index in found] == expected


def test_pieces_of_one_multibyte_character_share_its_word():
    text = "a\N{GRINNING FACE}é"
    offsets = np.array([(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3), (2, 3)])
    spans = places(["a", "\N{GRINNING FACE}", "é"], text)
    assert align(offsets, text, spans[:, 0], spans[:, 1]).tolist() == [0, 1, 1, 1, 1, 2, 2]


def test_a_token_without_characters_takes_its_neighbours_word():
    spans = places(["ab", "cd"], "ab cd")
    offsets = np.array([(0, 0), (0, 2), (2, 2), (2, 5), (5, 5)])
    assert align(offsets, "ab cd", spans[:, 0], spans[:, 1]).tolist() == [0, 0, 0, 1, 1]


def test_without_words_no_token_has_one():
    nothing = np.zeros(0, dtype=np.int64)
    assert align(np.array([(0, 1), (1, 1)]), "a", nothing, nothing).tolist() == [-1, -1]
    assert align(np.zeros((0, 2), dtype=np.int64), "", nothing, nothing).tolist() == []


def slow_align(offsets, text, spans):
    own = []
    for start, end in offsets:
        visible = start
        while visible < end and text[visible].isspace():
            visible += 1
        start = visible if visible < end else start
        overlaps = [min(end, stop) - max(start, begin) for begin, stop in spans]
        best = max(overlaps, default=0)
        own.append(None if start == end else overlaps.index(best) if best > 0 else -1)
    known = [index for index in own if index is not None]
    result, last = [], known[0] if known else -1
    for index in own:
        last = last if index is None else index
        result.append(last)
    return result


@st.composite
def layouts(draw):
    """A text, words that do not overlap, and any token spans at all."""
    text = draw(st.text("ab \n\u3000é\N{GRINNING FACE}", max_size=30))
    marks = sorted(draw(st.sets(st.integers(0, len(text)), max_size=16)))
    spans = list(pairwise(marks))
    kept = [span for span in spans if draw(st.booleans())]
    pairs = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    return text, kept, [tuple(sorted(pair)) for pair in draw(st.lists(pairs, max_size=12))]


@given(layouts())
@settings(deadline=None, max_examples=300)
def test_alignment_agrees_with_a_slow_reference(layout):
    text, words, offsets = layout
    spans = np.array(words, dtype=np.int64).reshape(-1, 2)
    found = align(np.array(offsets, dtype=np.int64).reshape(-1, 2), text, spans[:, 0], spans[:, 1])
    assert found.tolist() == slow_align(offsets, text, words)


ALIGNED = [
    ("I don't know", "n't", ["do", "n't"]),
    ("it cost $5.30 today", "5", ["5.30"]),
    ("look at http://example.com/a-b now", "example", ["http://example.com/a-b"]),
    ("a well-known fact", "-", ["-"]),
    ("caf\u00e9 \N{GRINNING FACE}\N{GRINNING FACE} e\u0301t", "\N{GRINNING FACE}", ["\N{GRINNING FACE}"]),
    ("\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd", "\u05dc", ["\u05e9\u05dc\u05d5\u05dd"]),
]


@pytest.mark.parametrize(("text", "part", "words"), ALIGNED)
@pytest.mark.parametrize("d_vocab", [257, 300])
def test_bytes_and_merges_of_a_real_tokenizer_find_the_words_of_spacys(text, part, words, d_vocab):
    tokenizer = train_tokenizer([text] * 3, d_vocab)
    document = spacy.blank("en")(text)
    starts = np.array([word.idx for word in document])
    ends = starts + np.array([len(word) for word in document])
    _, offsets = next(encode_documents(tokenizer, [Document("one", text)]))
    found = align(offsets[1:], text, starts, ends)
    first = text.index(part)
    touching = [
        index
        for index, (start, end) in zip(found, offsets[1:], strict=True)
        if start < first + len(part) and end > first and text[start:end].strip()
    ]
    assert touching, "the tokenizer must have produced a token there"
    assert {document[int(index)].text for index in touching} <= set(words)
    assert all(found[k] >= 0 for k, (start, end) in enumerate(offsets[1:]) if text[start:end].strip())

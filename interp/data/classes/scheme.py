"""A scheme divides the tokens of a document into classes; and what it looks at: words, spans of patterns, their tokens."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Integer

from interp.errors import InterpError

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

ATTRIBUTES = ("pos", "tag", "dep", "ent")
"""spaCy's `pos_`, `tag_`, `dep_` and `ent_type_`."""

BOS = 0
"""The class of the first token of a document in every scheme: attention sinks there, whatever the text."""

Spans = dict[str, np.ndarray]
"""By key: int64 [span, 2], first and last-plus-one character."""

Find = Callable[["Doc"], Spans]
_WHITE_SPACE = np.array([code for code in range(sys.maxunicode + 1) if chr(code).isspace()], dtype=np.uint32)


@dataclass(frozen=True)
class Words:
    """Tagged words of one document, in order.

    White space that spaCy makes a token of is a word with `pos` SPACE. A single blank between two words is no word.
    """

    starts: Int64[np.ndarray, " word"]  # first character
    ends: Int64[np.ndarray, " word"]  # last character plus one
    codes: dict[str, Int64[np.ndarray, " word"]]  # by attribute: an index into `names[attribute]`
    names: dict[str, tuple[str, ...]]  # by attribute; "" where the pipeline does not set it
    spans: dict[str, Int64[np.ndarray, "_ 2"]] = field(default_factory=dict)  # by key of `SpanPatterns`: characters

    def is_space(self) -> np.ndarray:
        """Return a mask [word] of the words that are white space."""
        if "SPACE" not in self.names["pos"]:
            return np.zeros(len(self.starts), dtype=bool)
        return self.codes["pos"] == self.names["pos"].index("SPACE")


def join(parts: Sequence[Words], shifts: Sequence[int]) -> Words:
    """Return the words of consecutive pieces of a text, each moved by its piece's place in the text."""
    codes, names = {}, {}
    for attribute in ATTRIBUTES:
        known = sorted({name for part in parts for name in part.names[attribute]})
        recode = [np.array([known.index(name) for name in part.names[attribute]], dtype=np.int64) for part in parts]
        found = [table[part.codes[attribute]] for table, part in zip(recode, parts, strict=True)]
        codes[attribute], names[attribute] = _concatenate(found), tuple(known)
    moved = list(zip(parts, shifts, strict=True))
    starts, ends = (_concatenate([getattr(part, side) + shift for part, shift in moved]) for side in ("starts", "ends"))
    keys = parts[0].spans if parts else ()
    spans = {key: np.concatenate([part.spans[key] + shift for part, shift in moved]) for key in keys}
    return Words(starts, ends, codes, names, spans)


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays])


@dataclass(frozen=True)
class TokenPatterns:
    """Patterns for spaCy's Matcher, each a list of tokens, and phrases for its PhraseMatcher; plain data."""

    patterns: tuple[list[dict[str, Any]], ...] = ()
    phrases: tuple[str, ...] = ()
    case_sensitive: bool = False  # of the phrases


@dataclass(frozen=True)
class SpanPatterns:
    """What to search for: patterns by the key of their spans, and functions that give spans by key."""

    of_key: Mapping[str, TokenPatterns] = field(default_factory=dict)
    functions: tuple[Find, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.of_key or self.functions)

    def __or__(self, other: SpanPatterns) -> SpanPatterns:
        return SpanPatterns({**self.of_key, **other.of_key}, tuple(dict.fromkeys(self.functions + other.functions)))

    def digest(self) -> str:
        """Return a digest of the patterns, "" if there are none. Functions have none: what they find cannot be kept."""
        if not self.of_key:
            return ""
        plain = {key: asdict(patterns) for key, patterns in self.of_key.items()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()

    def read_lemmas(self) -> bool:
        """Whether the lemmatizer has to run: a pattern names LEMMA, or a function may read it."""
        tokens = (token for one in self.of_key.values() for pattern in one.patterns for token in pattern)
        return bool(self.functions) or any(str(name).upper() == "LEMMA" for token in tokens for name in token)


class SpanMatcher:
    """Searches documents of one pipeline for patterns.

    Raises:
        InterpError: a pattern asks for an attribute that the pipeline does not set.
    """

    def __init__(self, pipeline: Language, patterns: SpanPatterns) -> None:
        from spacy.matcher import Matcher, PhraseMatcher

        self.functions = patterns.functions
        self.matchers: dict[str, list[Any]] = {}
        for key, one in patterns.of_key.items():
            tokens = Matcher(pipeline.vocab)
            phrases = PhraseMatcher(pipeline.vocab, "ORTH" if one.case_sensitive else "LOWER")
            if one.patterns:
                tokens.add(key, list(one.patterns))
            if one.phrases:
                phrases.add(key, [pipeline.make_doc(phrase) for phrase in one.phrases])
            self.matchers[key] = [matcher for matcher in (tokens, phrases) if len(matcher)]

    def __call__(self, document: Doc) -> Spans:
        """Return the spans of every key, which may overlap."""
        found: Spans = {}
        for key, matchers in self.matchers.items():
            try:
                spans = [span for matcher in matchers for span in matcher(document, as_spans=True)]
            except ValueError as error:  # [E155]: no component sets the attribute
                reason = str(error).splitlines()[0]
                raise InterpError(
                    f"The patterns of {key!r} cannot be searched for ({reason}); choose a pipeline that sets it."
                ) from error
            found[key] = as_spans((span.start_char, span.end_char) for span in spans)
        for function in self.functions:
            found |= function(document)
        return found


def as_spans(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return pairs of characters as an array [span, 2] in order."""
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


Assign = Callable[[np.ndarray, Words | None, np.ndarray | None], np.ndarray]
Units = Callable[[str, Words | None], Words]


@dataclass(frozen=True)
class Scheme:
    """A partition: every token has exactly one class.

    `assign(tokens, words, nearest_word)` returns int64 [pos], indices into `classes`, for the tokens of one document
    without the first (bos). `nearest_word` [pos] says which of `words` each token belongs to, -1 for a blank between
    words; both are None when no scheme of the run needs tags.

    A scheme that is not about words gives `units(text, words)`: how it cuts the text itself; `assign` is then called with
    these units in the place of words. `patterns` are what spaCy's documents are searched for on its behalf; what was found
    is in `words.spans`.
    """

    name: str
    classes: tuple[str, ...]  # classes[0] is "bos", the document's first token
    needs_tags: bool  # whether spaCy has to read the text
    assign: Assign
    units: Units | None = None
    patterns: SpanPatterns = field(default_factory=SpanPatterns)
    version: str = ""  # differs where schemes of one name and the same classes are defined differently


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
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    places = np.where(np.isin(codes, _WHITE_SPACE), len(codes), np.arange(len(codes)))
    # next_visible[i] is the first character at i or later that is no white space
    next_visible = np.append(np.minimum.accumulate(places[::-1])[::-1], len(codes)).astype(np.int64)
    starts, ends = offsets.astype(np.int64).T
    visible = next_visible[starts]
    starts = np.where(visible < ends, visible, starts)
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
    has_own = starts < ends  # a token without characters takes its neighbour's word
    before = np.maximum.accumulate(np.where(has_own, np.arange(len(best)), -1))
    return best[np.where(before >= 0, before, np.argmax(has_own))] if has_own.any() else best

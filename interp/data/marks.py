"""What spaCy's documents are searched for besides tags: token patterns, phrases, and labels from functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.errors import InterpError

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

Spans = dict[str, np.ndarray]
"""By key: int64 [span, 2], first and last-plus-one character."""

Find = Callable[["Doc"], Spans]


@dataclass(frozen=True)
class TokenPatterns:
    """Patterns for spaCy's Matcher, each a list of tokens, and phrases for its PhraseMatcher; plain data."""

    patterns: tuple[list[dict[str, Any]], ...] = ()
    phrases: tuple[str, ...] = ()
    case_sensitive: bool = False  # of the phrases


@dataclass(frozen=True)
class Marks:
    """What to search for: patterns by the key of their spans, and functions that give spans by key."""

    patterns: Mapping[str, TokenPatterns] = field(default_factory=dict)
    functions: tuple[Find, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patterns or self.functions)

    def __or__(self, other: Marks) -> Marks:
        return Marks({**self.patterns, **other.patterns}, tuple(dict.fromkeys(self.functions + other.functions)))

    def digest(self) -> str:
        """Return a digest of the patterns, "" if there are none. Functions have none: what they find cannot be kept."""
        if not self.patterns:
            return ""
        plain = {key: asdict(patterns) for key, patterns in self.patterns.items()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()

    def read_lemmas(self) -> bool:
        """Whether the lemmatizer has to run: a pattern names LEMMA, or a function may read it."""
        tokens = (token for one in self.patterns.values() for pattern in one.patterns for token in pattern)
        return bool(self.functions) or any(str(name).upper() == "LEMMA" for token in tokens for name in token)


class Finder:
    """Searches documents of one pipeline for marks.

    Raises:
        InterpError: a pattern asks for an attribute that the pipeline does not set.
    """

    def __init__(self, pipeline: Language, marks: Marks) -> None:
        from spacy.matcher import Matcher, PhraseMatcher

        self.marks = marks
        self.matchers: dict[str, list[Any]] = {}
        for key, one in marks.patterns.items():
            tokens, phrases = (
                Matcher(pipeline.vocab),
                PhraseMatcher(pipeline.vocab, "ORTH" if one.case_sensitive else "LOWER"),
            )
            if one.patterns:
                tokens.add(key, list(one.patterns))
            if one.phrases:
                phrases.add(key, [pipeline.make_doc(phrase) for phrase in one.phrases])
            self.matchers[key] = [matcher for matcher in (tokens, phrases) if len(matcher)]

    def __call__(self, document: Doc) -> Spans:
        """Return the spans of every key, which may overlap."""
        found = {key: as_spans(self._matches(key, document)) for key in self.matchers}
        for function in self.marks.functions:
            found |= function(document)
        return found

    def _matches(self, key: str, document: Doc) -> list[tuple[int, int]]:
        try:
            spans = [span for matcher in self.matchers[key] for span in matcher(document, as_spans=True)]
        except ValueError as error:  # [E155]: no component sets the attribute
            raise InterpError(
                f"The patterns of {key!r} cannot be searched for ({str(error).splitlines()[0]}); choose a pipeline that "
                "sets it."
            ) from error
        return [(span.start_char, span.end_char) for span in spans]


def as_spans(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return pairs of characters as an array [span, 2] in order."""
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)

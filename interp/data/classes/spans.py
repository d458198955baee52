"""Schemes whose classes are stretches of characters: of matched patterns, regular expressions, or a function's labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.data.classes.scheme import Scheme, SpanPatterns, Spans, Words, as_spans
from interp.errors import InterpError, nearest

if TYPE_CHECKING:
    from spacy.tokens import Doc

OTHER = "other"
"""The class of the tokens that are in no class of the scheme."""

RESERVED = ("bos", OTHER)
Labels = Sequence[str | None] | Sequence[tuple[int, int, str]]
"""One label or None per spaCy token, or (first character, last-plus-one character, label) for any stretches of text."""


@dataclass(frozen=True)
class Rule:
    """What is in a class: spans found under `key` in spaCy's documents, and matches of expressions in the text."""

    name: str
    key: str | None = None
    expressions: tuple[re.Pattern[str], ...] = ()

    def spans(self, text: str, words: Words | None) -> list[tuple[int, int]]:
        """Return where the class is in a text; the spans may overlap.

        Raises:
            InterpError: the rule needs spaCy's spans and there are no words.
        """
        found = [match.span() for expression in self.expressions for match in expression.finditer(text)]
        if self.key is None:
            return found
        if words is None:
            raise InterpError(f"The class {self.name!r} needs tagged words and got none.")
        return found + [(start, end) for start, end in words.spans[self.key].tolist()]


def span_schemes(
    name: str, rules: Sequence[Rule], patterns: SpanPatterns, overlaps: bool, version: str
) -> list[Scheme]:
    """Return the schemes that measure the classes.

    A byte-pair token is in a class if most of its characters, leading white space left out, are in the class's spans.

    Args:
        name: of the scheme.
        rules: one a class.
        patterns: what the rules' spans come from.
        overlaps: a token may be in several classes: each class becomes a scheme of its own, "name/class", with the classes
            bos, the class, and other, so that it is measured against all tokens that are not in it. Without, all are classes
            of one scheme, and a character that fits several is in the first.
        version: of the definition.
    """
    if not overlaps:
        return [_scheme(name, rules, patterns, version)]
    schemes = []
    for rule in rules:
        own = {key: one for key, one in patterns.of_key.items() if key == rule.key}
        schemes.append(_scheme(f"{name}/{rule.name}", [rule], SpanPatterns(own, patterns.functions), version))
    return schemes


def _scheme(name: str, rules: Sequence[Rule], patterns: SpanPatterns, version: str) -> Scheme:
    def units(text: str, words: Words | None) -> Words:
        """The text as a row of runs, each of one class: class 1 is that of the first rule, the last is `OTHER`."""
        labels = np.full(len(text), len(rules) + 1, dtype=np.int64)
        for code, rule in reversed(list(enumerate(rules, start=1))):  # the first rule writes last
            for start, end in rule.spans(text, words):
                labels[start:end] = code
        borders = np.flatnonzero(np.diff(labels)) + 1
        starts, ends = np.append(0, borders), np.append(borders, len(text))
        return Words(starts, ends, {"class": labels[starts]}, {})

    def assign(tokens: np.ndarray, runs: Words | None, nearest_run: np.ndarray | None) -> np.ndarray:
        if runs is None or nearest_run is None:
            raise InterpError("A scheme of spans needs the text; tag documents with interp.data.tagging.documents.")
        codes = np.append(runs.codes["class"], len(rules) + 1)
        return codes[nearest_run]  # -1, of a text without characters, finds the last

    classes = ("bos", *(rule.name for rule in rules), OTHER)
    return Scheme(name, classes, bool(patterns), assign, units, patterns, version)


@dataclass(frozen=True)
class Labeller:
    """A function `Doc -> Labels` with the classes it may give; made by `token_classes`."""

    function: Callable[[Doc], Labels]
    classes: tuple[str, ...]
    name: str
    overlaps: bool = False
    version: str = ""

    def __call__(self, document: Doc) -> Labels:
        """Return what the function gives."""
        return self.function(document)

    def schemes(self) -> list[Scheme]:
        """Return the schemes of its classes, as `span_schemes` makes them."""
        rules = [Rule(name, self._key(name)) for name in self.classes]
        return span_schemes(self.name, rules, SpanPatterns(functions=(self.spans,)), self.overlaps, self.version)

    def spans(self, document: Doc) -> Spans:
        """Return the spans of each class in a document, by key.

        Raises:
            InterpError: the function fails, or gives what are no labels of this document.
        """
        try:
            labels = list(self.function(document))
        except InterpError:
            raise
        except Exception as error:  # whatever a stranger's function raises
            raise InterpError(
                f"The function {self.name!r} failed on a text ({type(error).__name__}: {error})."
            ) from error
        found = sorted(self._located(labels, document), key=lambda span: span[:2])
        for first, second in () if self.overlaps else pairwise(found):
            if second[0] < first[1] and first[2] != second[2]:
                raise InterpError(
                    f"The function {self.name!r} gave overlapping labels {first} and {second}; announce overlaps=True to "
                    "measure each class against all other tokens."
                )
        return {self._key(c): as_spans(span[:2] for span in found if span[2] == c) for c in self.classes}

    def _key(self, name: str) -> str:
        return f"{self.name}/{name}"

    def _located(self, labels: list[Any], document: Doc) -> list[tuple[int, int, str]]:
        if labels and all(isinstance(label, tuple) for label in labels):
            return [self._checked(span, document) for span in labels]
        if len(labels) not in (0, len(document)):
            raise InterpError(
                f"The function {self.name!r} gave {len(labels)} labels for {len(document)} tokens; give one label or None "
                "for each, or (start_char, end_char, label) for stretches of text."
            )
        known = [(token, label) for token, label in zip(document, labels, strict=False) if label is not None]
        return [self._checked((token.idx, token.idx + len(token), label), document) for token, label in known]

    def _checked(self, span: tuple[Any, ...], document: Doc) -> tuple[int, int, str]:
        if len(span) != 3 or not all(isinstance(place, int) for place in span[:2]):
            raise InterpError(f"The function {self.name!r} gave {span!r}; expected (start_char, end_char, label).")
        start, end, label = span
        if not 0 <= start < end <= len(document.text):
            raise InterpError(
                f"The function {self.name!r} gave characters {start} to {end} of a text of {len(document.text)}; expected "
                "0 <= start < end <= length."
            )
        if label not in self.classes:
            raise InterpError(
                f"The function {self.name!r} gave the label {label!r}; it announced {', '.join(self.classes)}"
                f"{nearest(str(label), self.classes)}"
            )
        return start, end, label


def token_classes(
    *classes: str, name: str | None = None, overlaps: bool = False, version: str = ""
) -> Callable[[Callable[[Doc], Labels]], Labeller]:
    """Return a decorator that makes a scheme of a function from a spaCy `Doc` to labels.

    The function gets a `Doc` of at most 20,000 characters (longer texts come in pieces), must give the same labels for the
    same text, and must not keep the `Doc`. It runs in this process, and so does spaCy then; what it gives is not cached.

    Args:
        classes: the labels that it may give; tokens without a label are "other".
        name: of the scheme, by default the function's own.
        overlaps: labels may overlap; each class is then a scheme "name/class", measured against all other tokens.
        version: say another when the function changes: partial results of a run go on only under the same name and version.

    Raises:
        InterpError: no class, a class named twice, or one named bos or other.
    """
    if not classes:
        raise InterpError("The function names no class; name at least one.")
    for one in classes:
        if one in RESERVED or classes.count(one) > 1:
            why = "stands for the document's first token or for the rest" if one in RESERVED else "is named twice"
            raise InterpError(f"The function cannot have the class {one!r}, which {why}; choose another name.")

    def announce(function: Callable[[Doc], Labels]) -> Labeller:
        return Labeller(function, classes, name or function.__name__, overlaps, version)

    return announce

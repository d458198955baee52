"""Schemes whose classes are stretches of characters: of matched patterns, regular expressions, or a function's labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.data.marks import Marks
from interp.data.partition import Assign, Scheme, Units
from interp.data.words import Words
from interp.errors import InterpError

OTHER = "other"
"""The class of the tokens that are in no class of the scheme."""


@dataclass(frozen=True)
class Rule:
    """What is in a class: spans found under the `mark` in spaCy's documents, and matches of expressions in the text."""

    name: str
    mark: str | None = None
    expressions: tuple[re.Pattern[str], ...] = ()

    def spans(self, text: str, words: Words | None) -> list[tuple[int, int]]:
        """Return where the class is in a text; the spans may overlap.

        Raises:
            InterpError: the rule needs marks and there are no words.
        """
        found = [match.span() for expression in self.expressions for match in expression.finditer(text)]
        if self.mark is None:
            return found
        if words is None:
            raise InterpError(f"The class {self.name!r} needs tagged words and got none.")
        return found + [(start, end) for start, end in words.spans[self.mark].tolist()]


def span_schemes(name: str, rules: Sequence[Rule], marks: Marks, overlaps: bool, version: str) -> list[Scheme]:
    """Return the schemes that measure the classes.

    A byte-pair token is in a class if most of its characters, leading white space left out, are in the class's spans.

    Args:
        name: of the scheme.
        rules: one a class.
        marks: what the rules' spans come from.
        overlaps: a token may be in several classes: each class becomes a scheme of its own, "name/class", with the classes
            bos, the class, and other, so that it is measured against all tokens that are not in it. Without, all are classes
            of one scheme, and a character that fits several is in the first.
        version: of the definition.
    """
    if not overlaps:
        return [_scheme(name, rules, marks, version)]
    return [_scheme(f"{name}/{rule.name}", [rule], _of(rule, marks), version) for rule in rules]


def _of(rule: Rule, marks: Marks) -> Marks:
    return Marks({key: one for key, one in marks.patterns.items() if key == rule.mark}, marks.functions)


def _scheme(name: str, rules: Sequence[Rule], marks: Marks, version: str) -> Scheme:
    classes = ("bos", *(rule.name for rule in rules), OTHER)
    return Scheme(name, classes, bool(marks), _assign(len(classes) - 1), _units(rules), marks, version)


def _units(rules: Sequence[Rule]) -> Units:
    def units(text: str, words: Words | None) -> Words:
        """The text as a row of runs, each of one class: class 1 is that of the first rule, the last is `OTHER`."""
        labels = np.full(len(text), len(rules) + 1, dtype=np.int64)
        for code, rule in reversed(list(enumerate(rules, start=1))):  # the first rule writes last
            for start, end in rule.spans(text, words):
                labels[start:end] = code
        borders = np.flatnonzero(np.diff(labels)) + 1
        starts, ends = np.append(0, borders), np.append(borders, len(text))
        return Words(starts, ends, {"class": labels[starts]}, {})

    return units


def _assign(other: int) -> Assign:
    def assign(tokens: np.ndarray, runs: Words | None, nearest_run: np.ndarray | None) -> np.ndarray:
        if runs is None or nearest_run is None:
            raise InterpError("A scheme of spans needs the text; tag documents with interp.data.tagging.")
        return np.append(runs.codes["class"], other)[nearest_run]  # -1, of a text without characters, finds the last

    return assign

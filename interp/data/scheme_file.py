"""Schemes from a YAML file: classes by token patterns, phrases, regular expressions and word lists (docs/classes.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from interp.data.labelling import RESERVED
from interp.data.marks import Marks, TokenPatterns
from interp.data.partition import Scheme
from interp.data.scheme_nodes import Entry, Source, read_source
from interp.data.span_schemes import Rule, span_schemes

SUFFIXES = (".yaml", ".yml")
SCHEME_KEYS = ("classes", "overlaps")
CLASS_KEYS = ("matcher", "phrases", "regex", "words", "case_sensitive")


def read_schemes(path: str | Path) -> list[Scheme]:
    """Return the schemes that a file defines, in its order.

    Raises:
        InterpError: the file is missing or no YAML, or something in it is not what docs/classes.md describes; the sentence
            says in which line.
    """
    source = read_source(path)
    schemes = [one for entry in source.entries(source.root, "schemes") for one in _schemes(source, entry)]
    if not schemes:
        raise source.error(source.root, "there is no scheme; expected a name with its classes")
    return schemes


def _schemes(source: Source, entry: Entry) -> list[Scheme]:
    parts = source.known(entry.value, f"the scheme {entry.name!r}", SCHEME_KEYS)
    if "classes" not in parts:
        raise source.error(entry.value, f"the scheme {entry.name!r} has no classes")
    classes = source.entries(parts["classes"].value, f"classes of {entry.name!r}")
    if not classes:
        raise source.error(entry.value, f"the scheme {entry.name!r} has no classes")
    overlaps = source.switch(parts["overlaps"]) if "overlaps" in parts else True
    rules, patterns = [], {}
    for one in classes:
        rule, searched = _rule(source, entry.name, one)
        rules.append(rule)
        if rule.mark:
            patterns[rule.mark] = searched
    text = source.text[entry.value.start_mark.index : entry.value.end_mark.index]
    return span_schemes(entry.name, rules, Marks(patterns), overlaps, hashlib.sha256(text.encode()).hexdigest())


def _rule(source: Source, scheme: str, entry: Entry) -> tuple[Rule, TokenPatterns]:
    if entry.name in RESERVED:
        raise source.error(
            entry.value, f"no class can be named {entry.name!r}; that is the name of tokens outside of all classes"
        )
    what = f"the class {entry.name!r}"
    parts = source.known(entry.value, what, CLASS_KEYS)
    lists = {key: source.items(parts[key]) if key in parts else [] for key in CLASS_KEYS[:-1]}
    if not any(lists.values()):
        raise source.error(entry.value, f"{what} is empty; give it matcher, phrases, regex or words")
    case_sensitive = "case_sensitive" in parts and source.switch(parts["case_sensitive"])
    searched = TokenPatterns(
        tuple(_token_pattern(source, what, number, node) for number, node in enumerate(lists["matcher"], start=1)),
        tuple(source.word(node, f"a phrase of {what}") for node in lists["phrases"]),
        case_sensitive,
    )
    expressions = [_expression(source, what, node) for node in lists["regex"]]
    if lists["words"]:
        words = [source.word(node, f"a word of {what}") for node in lists["words"]]
        expressions.append(whole_words(words, case_sensitive))
    mark = f"{scheme}/{entry.name}" if lists["matcher"] or lists["phrases"] else None
    return Rule(entry.name, mark, tuple(expressions)), searched


def whole_words(words: list[str], case_sensitive: bool) -> re.Pattern[str]:
    """Return an expression that finds any of the words where no letter, digit or underscore touches it."""
    longest_first = sorted(map(re.escape, words), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", 0 if case_sensitive else re.IGNORECASE)


def _expression(source: Source, what: str, node: yaml.Node) -> re.Pattern[str]:
    written = source.word(node, f"a regular expression of {what}")
    return source.attempt(
        node, f"the regular expression {written!r} of {what} does not compile", lambda: re.compile(written)
    )


def _token_pattern(source: Source, what: str, number: int, node: yaml.Node) -> list[dict[str, Any]]:
    from spacy.matcher import Matcher  # late: most files hold no token patterns, and it takes a second
    from spacy.vocab import Vocab

    pattern = source.value(node)
    add: Callable[[], None] = lambda: Matcher(Vocab(), validate=True).add("", [pattern])  # noqa: E731
    source.attempt(node, f"pattern {number} of {what}, {pattern!r}, is no token pattern of spaCy's Matcher", add)
    return pattern

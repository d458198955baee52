"""Schemes from a YAML file: classes by token patterns, phrases, regular expressions and word lists (docs/classes.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from interp.data.classes.scheme import Scheme, SpanPatterns, TokenPatterns
from interp.data.classes.spans import RESERVED, Rule, span_schemes
from interp.errors import InterpError, nearest

Made = TypeVar("Made")
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
    classes = source.entries(parts["classes"].value, f"classes of {entry.name!r}") if "classes" in parts else []
    if not classes:
        raise source.error(entry.value, f"the scheme {entry.name!r} has no classes")
    overlaps = source.switch(parts["overlaps"]) if "overlaps" in parts else True
    rules, patterns = [], {}
    for one in classes:
        rule, searched = _rule(source, entry.name, one)
        rules.append(rule)
        if rule.key:
            patterns[rule.key] = searched
    text = source.text[entry.value.start_mark.index : entry.value.end_mark.index]
    return span_schemes(entry.name, rules, SpanPatterns(patterns), overlaps, hashlib.sha256(text.encode()).hexdigest())


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
    expressions = []
    for node in lists["regex"]:
        written = source.word(node, f"a regular expression of {what}")
        failure = f"the regular expression {written!r} of {what} does not compile"
        expressions.append(source.attempt(node, failure, partial(re.compile, written)))
    if lists["words"]:  # where no letter, digit or underscore touches them
        words = [re.escape(source.word(node, f"a word of {what}")) for node in lists["words"]]
        longest_first = "|".join(sorted(words, key=len, reverse=True))
        expressions.append(re.compile(rf"(?<!\w)(?:{longest_first})(?!\w)", 0 if case_sensitive else re.IGNORECASE))
    key = f"{scheme}/{entry.name}" if lists["matcher"] or lists["phrases"] else None
    return Rule(entry.name, key, tuple(expressions)), searched


def _token_pattern(source: Source, what: str, number: int, node: yaml.Node) -> list[dict[str, Any]]:
    from spacy.matcher import Matcher  # late: most files hold no token patterns, and it takes a second
    from spacy.vocab import Vocab

    pattern = source.value(node)
    failure = f"pattern {number} of {what}, {pattern!r}, is no token pattern of spaCy's Matcher"
    source.attempt(node, failure, lambda: Matcher(Vocab(), validate=True).add("", [pattern]))
    return pattern


class Entry(NamedTuple):
    """A key of a mapping, as it is written (`no` is the string "no"), and the node of its value."""

    name: str
    value: yaml.Node


@dataclass(frozen=True)
class Source:
    """The text of a file, its topmost node, and what may be asked of a node; what does not fit raises an `InterpError`."""

    path: Path
    text: str
    root: yaml.Node
    loader: yaml.SafeLoader

    def error(self, node: yaml.Node, what: str) -> InterpError:
        """Return the error with file and line."""
        end = "" if what.endswith(("?", ".")) else "."
        return InterpError(f"{self.path}, line {node.start_mark.line + 1}: {what}{end}")

    def attempt(self, node: yaml.Node, failure: str, make: Callable[[], Made]) -> Made:
        """Return what `make` gives; of an exception, tell the `failure` and the reason in one line."""
        try:
            return make()
        except Exception as error:  # spaCy raises ValueError, MatchPatternError and what `re` raises
            lines = [line.strip("- ") for line in str(error).splitlines() if line and not line.startswith("Pattern 0")]
            told = lines[1:] if lines[:1] and lines[0].startswith("Invalid token patterns") else lines
            raise self.error(node, f"{failure} ({'; '.join(told)})") from error

    def entries(self, node: yaml.Node, what: str) -> list[Entry]:
        """Return the entries of a mapping, refusing a key that stands twice."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected {what} by name, found {_kind(node)}")
        found: dict[str, Entry] = {}
        for key, value in node.value:
            name = self.word(key, "a name")
            if name in found:
                raise self.error(key, f"{name!r} stands twice among the {what}")
            found[name] = Entry(name, value)
        return list(found.values())

    def known(self, node: yaml.Node, what: str, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of a mapping by name, refusing a key that is not one of `keys`."""
        entries = {entry.name: entry for entry in self.entries(node, f"settings of {what}")}
        for name, entry in entries.items():
            if name not in keys:
                told = f"{what} has no setting {name!r}, only {', '.join(keys)}{nearest(name, keys)}"
                raise self.error(entry.value, told)
        return entries

    def items(self, entry: Entry) -> list[yaml.Node]:
        """Return the nodes of a list."""
        if not isinstance(entry.value, yaml.SequenceNode):
            raise self.error(entry.value, f"{entry.name!r} must be a list, found {_kind(entry.value)}")
        return entry.value.value

    def word(self, node: yaml.Node, what: str) -> str:
        """Return a scalar as it is written, also where YAML would read a number or a truth value."""
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise self.error(node, f"expected {what}, found {_kind(node)}")
        return node.value

    def switch(self, entry: Entry) -> bool:
        """Return a truth value."""
        value = self.value(entry.value)
        if not isinstance(value, bool):
            raise self.error(entry.value, f"{entry.name!r} must be true or false, found {value!r}")
        return value

    def value(self, node: yaml.Node) -> Any:
        """Return what YAML reads at a node."""
        return self.attempt(node, "this is no plain YAML", lambda: self.loader.construct_object(node, deep=True))


def read_source(path: str | Path) -> Source:
    """Read a YAML file.

    Raises:
        InterpError: it is missing, not UTF-8, empty, or no YAML.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except OSError as error:
        raise InterpError(f"Cannot read the scheme file {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InterpError(f"{path} is no YAML file of schemes ({' '.join(str(error).split())}).") from error
    if root is None:
        raise InterpError(f"{path} is empty; expected schemes with their classes (docs/classes.md).")
    return Source(path, text, root, loader)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value.strip() else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"

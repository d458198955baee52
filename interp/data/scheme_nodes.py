"""A YAML file read by its nodes, so that every complaint knows its line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from interp.errors import InterpError, nearest

Made = TypeVar("Made")


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


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value.strip() else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


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

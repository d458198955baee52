"""What a puzzle is: a prompt with its one right continuation, or with two of which one is better; one's own from files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import InterpError, few
from interp.files import parse_json

EXPECTED = ("expected", "answer", "completion", "target")
COMPARED = (("better", "worse"), ("good", "bad"), ("sentence_good", "sentence_bad"))


@dataclass(frozen=True)
class Item:
    """One puzzle. Texts follow each other as they stand: a continuation begins with its own space.

    Raises:
        InterpError: neither or both of `expected` and `compare`, an empty continuation, two that are the same, or no
            prompt before an expected one.
    """

    family: str
    prompt: str
    expected: str | None = None  # the right continuation
    compare: tuple[str, str] | None = None  # the better continuation, the worse
    distance: int | None = None  # retrieval: how many words stand between the fact and the question
    group: int | None = None  # of the items that were drawn together

    def __post_init__(self) -> None:
        if (self.expected is None) == (self.compare is None):
            raise InterpError('An item needs either "expected" or "compare", and not both.')
        if not all(self.continuations):
            raise InterpError('A continuation is empty; "expected" and both of "compare" need text.')
        if len(set(self.continuations)) != len(self.continuations):
            raise InterpError(f"The two continuations to compare are the same, {self.continuations[0]!r}; give two.")
        if self.expected is not None and not self.prompt:
            raise InterpError('The prompt of an item with "expected" is empty; only "compare" goes without one.')

    @property
    def continuations(self) -> tuple[str, ...]:
        """The right or better continuation first."""
        return (self.expected,) if self.expected is not None else self.compare or ()


Group = Sequence[Item]
"""Items drawn together, such as the mirror images of one comparison: who does not read the prompt gets half right."""


def read_items(path: str | Path) -> list[Item]:
    """Return the items of a file, in its order.

    Raises:
        InterpError: a file that cannot be read, holds no items, or an item that cannot be understood; the message says
            which one of which family.
    """
    path, items = Path(path), []
    for family, number, values in _entries(path, _parsed(path)):
        try:
            items.append(_item(family, values))
        except InterpError as error:
            raise InterpError(f"{path}, family {family!r}, item {number}: {error}") from error
    if not items:
        raise InterpError(f'{path} holds no items; expected {{"family": [{{"prompt": ..., "expected": ...}}]}}.')
    return items


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            return [parse_json(line) for line in text.splitlines() if line.strip()]
        return parse_json(text)
    except OSError as error:
        raise InterpError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InterpError(f"{path} is not JSON ({error}).") from error


def _entries(path: Path, content: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield family, number within it as the file counts, and values of each item."""
    if isinstance(content, list):
        for number, values in enumerate(content, start=1):
            family = values.get("family") if isinstance(values, Mapping) else None
            yield str(family or path.stem), number, values
    elif isinstance(content, dict):
        for family, values in content.items():
            if not isinstance(values, list):
                raise InterpError(f"{path}, family {family!r}: {_kind(values)} was found; a list of items is expected.")
            yield from ((family, number, one) for number, one in enumerate(values, start=1))
    else:
        raise InterpError(f"{path} holds {_kind(content)}; a mapping of families to lists of items is expected.")


def _item(family: str, values: Any) -> Item:
    if not isinstance(values, Mapping):
        raise InterpError(f"{_kind(values)} was found; a mapping with a prompt is expected.")
    prompt, compared = values.get("prompt", ""), _compared(values)
    if not isinstance(prompt, str):
        raise InterpError(f'"prompt" is {_kind(prompt)}; text is expected.')
    if isinstance(values.get("compare"), str):
        return Item(family, "", compare=(prompt, values["compare"]))
    answers = [_text(name, values[name]) for name in EXPECTED if name in values]
    if not answers and not compared:
        raise InterpError(f'There is neither "expected" nor "compare"; found {few([str(name) for name in values])}.')
    if len(answers) > 1:
        raise InterpError(f'There are {len(answers)} answers under several names; keep "expected".')
    expected = _after(prompt, answers[0]) if answers else None
    compare = (_after(prompt, compared[0]), _after(prompt, compared[1])) if compared else None
    return Item(family, prompt.rstrip(), expected, compare)


def _compared(values: Mapping[str, Any]) -> tuple[str, str] | None:
    found = values.get("compare", values)
    if isinstance(found, Mapping):
        pairs = [(found[better], found[worse]) for better, worse in COMPARED if better in found and worse in found]
        found = pairs[0] if pairs else None
    if found is None or isinstance(found, str):
        return None
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise InterpError(f'"compare" is {_kind(found)}; a list of the better continuation and the worse is expected.')
    return _text("compare", found[0]), _text("compare", found[1])


def _text(name: str, value: Any) -> str:
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InterpError(f'"{name}" has {_kind(value)}; one text is expected.')
    return str(value)


def _after(prompt: str, continuation: str) -> str:
    gap = prompt[len(prompt.rstrip()) :]
    return continuation if continuation[:1].isspace() else gap + continuation


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    kinds = {dict: "a mapping", str: "a text", bool: "a truth value", type(None): "nothing"}
    kinds |= dict.fromkeys((int, float), "a number")
    return kinds.get(type(value), type(value).__name__)

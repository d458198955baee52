"""Puzzles of one's own, from a JSON or JSON Lines file.

    {"capitals": [{"prompt": "The capital of France is", "expected": " Paris"}],
     "agreement": [{"prompt": "The keys", "compare": [" are", " is"]}]}

"expected" is the right continuation, "compare" the better one and the worse. Continuations are taken as they stand, with
the space they begin with; white space at the end of a prompt moves to its continuations, where tokenizers have it.

Forms that others write are read too: a list of items, or one item a line, each with its "family" (without one, the name
of the file); "answer", "completion" or "target" for "expected", which may be a number, or a list of one; "better" and
"worse", or "good" and "bad", in a mapping under "compare"; one text under "compare", which is the worse of two whole texts,
the prompt the better; and BLiMP's "sentence_good" and "sentence_bad". Other fields are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interp.errors import InterpError, few
from interp.evals.puzzles.items import Item

EXPECTED = ("expected", "answer", "completion", "target")
COMPARED = (("better", "worse"), ("good", "bad"), ("sentence_good", "sentence_bad"))


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
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except OSError as error:
        raise InterpError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
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
    start = prompt.rstrip()
    expected, *_ = [*(_after(prompt, answer) for answer in answers), None]
    return Item(
        family, start, expected, (_after(prompt, compared[0]), _after(prompt, compared[1])) if compared else None
    )


def _compared(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the better and the worse continuation, if an item has them."""
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
    kinds = {
        dict: "a mapping",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return kinds.get(type(value), type(value).__name__)

"""Where an intervention changes the biases: everywhere, in one layer, or in one head."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from interp.errors import InterpError


class Place(NamedTuple):
    """All heads (no layer), all heads of a layer (no head), or one head."""

    name: str
    layer: int | None = None
    head: int | None = None


def places(where: str | Sequence[str], n_layers: int, n_heads: int) -> list[Place]:
    """Return the places that words name, each once: "all", "layers" (each layer alone), "heads" (each alone), "L3", "L3H7".

    Args:
        where: the words, or one string of them with commas.
        n_layers, n_heads: of the model.

    Raises:
        InterpError: no word, one that names no place, or a layer or head that is not there.
    """
    words = [word.strip() for word in (where.split(",") if isinstance(where, str) else where)]
    found = dict.fromkeys(place for word in words if word for place in _named(word, n_layers, n_heads))
    if not found:
        raise InterpError(
            "No place to intervene at is given; choose of all, layers, heads, or name some, such as L3 or L3H7."
        )
    return list(found)


def _named(word: str, n_layers: int, n_heads: int) -> Iterator[Place]:
    if word == "all":
        yield Place("all")
    elif word == "layers":
        yield from (Place(f"L{layer}", layer) for layer in range(n_layers))
    elif word == "heads":
        yield from (Place(f"L{layer}H{head}", layer, head) for layer in range(n_layers) for head in range(n_heads))
    else:
        yield _one(word, n_layers, n_heads)


def _one(word: str, n_layers: int, n_heads: int) -> Place:
    match = re.fullmatch(r"L(\d+)(?:H(\d+))?", word, re.IGNORECASE)
    if match is None:
        raise InterpError(
            f"There is no place {word!r} to intervene at; choose of all, layers, heads, or such as L3 or L3H7."
        )
    layer, head = int(match[1]), None if match[2] is None else int(match[2])
    if layer >= n_layers or (head or 0) >= n_heads:
        raise InterpError(
            f"There is no {word}; this model has layers 0 to {n_layers - 1} with heads 0 to {n_heads - 1}."
        )
    return Place(f"L{layer}" if head is None else f"L{layer}H{head}", layer, head)

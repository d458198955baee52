"""The families of generated puzzles, and how as many different items as wanted are drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from interp.errors import InterpError, nearest
from interp.evals.puzzles.comparisons import negation, syntax
from interp.evals.puzzles.items import Group, Item
from interp.evals.puzzles.retrieval import copying, far_retrieval, inference, near_retrieval
from interp.evals.puzzles.sequences import alphabetic, arithmetic, fibonacci, geometric, wrap_around

FAMILIES: dict[str, Callable[[np.random.Generator], Group]] = {
    family.__name__: family
    for family in (
        arithmetic, geometric, fibonacci, alphabetic, wrap_around, near_retrieval, far_retrieval, inference, copying,
        negation, syntax,
    )
}  # fmt: skip
TRIES = 200  # draws in a row that give nothing new before a family is taken for exhausted


def generate(families: Sequence[str] | None = None, *, seed: int = 0, n_items: int = 200) -> list[Item]:
    """Return `n_items` different items of each family (default: of all).

    The items of a family depend on the seed alone: not on the other families, and fewer are the first of more.

    Raises:
        InterpError: an unknown family, fewer than one item, or more than a family has.
    """
    if n_items < 1:
        raise InterpError(f"{n_items} items a family were asked for; at least 1 is needed.")
    for name in families or ():
        if name not in FAMILIES:
            raise InterpError(
                f"There is no family {name!r}; choose from {', '.join(FAMILIES)}{nearest(name, FAMILIES)}"
            )
    return [item for name in (FAMILIES if families is None else families) for item in _distinct(name, seed, n_items)]


def _distinct(name: str, seed: int, n_items: int) -> list[Item]:
    random, groups, in_vain = np.random.default_rng([seed, crc32(name.encode())]), dict[Item, int](), 0
    while len(groups) < n_items:
        group = FAMILIES[name](random)
        in_vain = in_vain + 1 if groups.keys() & group else 0
        if in_vain > TRIES:
            raise InterpError(f"The family {name} has little more than {len(groups)} different items; ask for fewer.")
        if not in_vain:
            groups.update(dict.fromkeys(group, len(groups)))
    return [replace(item, group=number) for item, number in groups.items()][:n_items]

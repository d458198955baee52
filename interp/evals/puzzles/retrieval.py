"""Answers that stand in the prompt: facts to find again, near or far, rules to apply, lists to repeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.evals.puzzles import words
from interp.evals.puzzles.items import Group, Item

FACTS = 3
FAR = (2, 3, 4)  # how many filler sentences stand before a far question


def near_retrieval(random: np.random.Generator) -> Group:
    """Three facts and at once a question about one of them."""
    return [_retrieval("near_retrieval", random, 0)]


def far_retrieval(random: np.random.Generator) -> Group:
    """Three facts, 16, 24 or 32 words about something else, and a question about one of the facts."""
    return [_retrieval("far_retrieval", random, FAR[random.integers(len(FAR))])]


def _retrieval(family: str, random: np.random.Generator, fillers: int) -> Item:
    thing, asked = words.THINGS[random.integers(len(words.THINGS))], int(random.integers(FACTS))
    names, colours = _some(random, words.NAMES, FACTS), _some(random, words.COLOURS, FACTS)
    facts = [f"{name} has a {colour} {thing}." for name, colour in zip(names, colours, strict=True)]
    between = [*facts[asked + 1 :], *_some(random, words.FILLERS, fillers)]
    prompt = " ".join([*facts[: asked + 1], *between, f"The {thing} of {names[asked]} is"])
    return Item(family, prompt, f" {colours[asked]}", distance=len(" ".join(between).split()))


def inference(random: np.random.Generator) -> Group:
    """A rule and a case of it, or an order of three to be put together from two comparisons."""
    return [_rule(random) if random.random() < 0.5 else _order(random)]


def _rule(random: np.random.Generator) -> Item:
    kinds, colours, asked = _some(random, words.ANIMALS, 2), _some(random, words.COLOURS, 2), int(random.integers(2))
    [place], [name] = _some(random, words.PLACES, 1), _some(random, words.NAMES, 1)
    rules = [f"Every {kind} in the {place} is {colour}." for kind, colour in zip(kinds, colours, strict=True)]
    prompt = [*rules, f"{name} is a {kinds[asked]} in the {place}.", f"The colour of {name} is"]
    return Item("inference", " ".join(prompt), f" {colours[asked]}")


def _order(random: np.random.Generator) -> Item:
    more, most, least = words.COMPARATIVES[random.integers(len(words.COMPARATIVES))]
    first, middle, last = _some(random, words.NAMES, 3)
    known = _some(random, (f"{first} is {more} than {middle}", f"{middle} is {more} than {last}"), 2)
    asked, answer = (most, first) if random.random() < 0.5 else (least, last)
    return Item("inference", f"We know that {known[0]} and that {known[1]}. The {asked} of the three is", f" {answer}")


def copying(random: np.random.Generator) -> Group:
    """A list of three to seven words, and the beginning of the same list again."""
    listed = _some(random, words.WORDS, int(random.integers(3, 8)))
    again = int(random.integers(1, len(listed)))
    return [Item("copying", " ".join([*listed, *listed[:again]]), f" {listed[again]}")]


def _some(random: np.random.Generator, choices: Sequence[str], count: int) -> list[str]:
    """Return `count` different ones in random order."""
    order: list[int] = random.permutation(len(choices))[:count].tolist()
    return [choices[index] for index in order]

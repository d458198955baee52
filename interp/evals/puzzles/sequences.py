"""Sequences to go on with: numbers, letters, and names in a circle. Four terms or more, so that one rule fits.

A family is a function of a random generator that returns a group of items, here always one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.evals.puzzles.items import Group, Item

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
CIRCLES: tuple[tuple[Sequence[str], int], ...] = ((UPPER, 4), (DAYS, 2), (MONTHS, 2))  # with the largest step
LARGEST = 9999  # of the numbers in a geometric progression


def arithmetic(random: np.random.Generator) -> Group:
    """``5, 8, 11, 14,`` is followed by ``17``; a step may be negative, a term is not."""
    start, step, shown = random.integers(0, 100), random.integers(1, 21), random.integers(4, 7)
    terms = (start + step * np.arange(shown + 1)).tolist()
    return [_item("arithmetic", terms[::-1] if random.random() < 0.5 else terms)]


def geometric(random: np.random.Generator) -> Group:
    """``3, 6, 12, 24,`` is followed by ``48``, or the other way round."""
    ratio, shown = int(random.integers(2, 6)), int(random.integers(4, 6))
    start = int(random.integers(1, min(60, LARGEST // ratio**shown) + 1))
    terms = [start * ratio**exponent for exponent in range(shown + 1)]
    return [_item("geometric", terms[::-1] if random.random() < 0.5 else terms)]


def fibonacci(random: np.random.Generator) -> Group:
    """``2, 5, 7, 12, 19,`` is followed by ``31``: every term is the sum of the two before it."""
    terms = random.integers(1, 31, size=2).tolist()
    for _ in range(int(random.integers(4, 6))):
        terms.append(terms[-2] + terms[-1])
    return [_item("fibonacci", terms)]


def alphabetic(random: np.random.Generator) -> Group:
    """``B, D, F, H,`` is followed by ``J``; forwards or backwards, in steps of up to four, never past the end."""
    step, shown = int(random.integers(1, 5)), int(random.integers(4, 7))
    start = int(random.integers(len(UPPER) - step * shown))
    letters = list(UPPER[start : start + step * shown + 1 : step])
    letters = letters[::-1] if random.random() < 0.5 else letters
    return [_item("alphabetic", letters if random.random() < 0.5 else [letter.lower() for letter in letters])]


def wrap_around(random: np.random.Generator) -> Group:
    """``W, X, Y, Z,`` is followed by ``A``: letters, days or months that pass the end of their circle."""
    circle, largest = CIRCLES[random.integers(len(CIRCLES))]
    step, shown = int(random.integers(1, largest + 1)), int(random.integers(4, 6))
    start = len(circle) - int(random.integers(1, step * shown + 1))  # so that the end is passed
    names = [circle[(start + step * number) % len(circle)] for number in range(shown + 1)]
    return [_item("wrap_around", names[::-1] if random.random() < 0.5 else names)]


def _item(family: str, terms: Sequence[str | int]) -> Item:
    shown = ", ".join(map(str, terms[:-1]))
    return Item(family, f"{shown},", f" {terms[-1]}")

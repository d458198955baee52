"""How as many different puzzles as wanted are drawn, and the families of numbers, letters and words in an order."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from interp.errors import InterpError, nearest
from interp.evals.puzzles import sentences
from interp.evals.puzzles.items import Group, Item
from interp.evals.puzzles.sentences import ANIMALS, COLOURS, DAYS, MONTHS, THINGS, WORDS, listed, some

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CIRCLES: tuple[tuple[Sequence[str], int], ...] = ((UPPER, 4), (DAYS, 2), (MONTHS, 2))  # with the largest step
LARGEST = 9999  # of the numbers in a geometric progression
ORDINALS = ("first", "second", "third", "fourth", "fifth")
ROMAN = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
UNITS = (
    *(("days", "hours", 24), ("weeks", "days", 7), ("hours", "minutes", 60), ("years", "months", 12)),
    *(("minutes", "seconds", 60), ("feet", "inches", 12), ("yards", "feet", 3), ("dollars", "cents", 100)),
)
BRACKETS = ("()", "[]", "{}", "<>")
SPELLED = tuple(dict.fromkeys((*WORDS, *COLOURS, *THINGS, *ANIMALS)))
TRIES = 200  # draws in a row that give nothing new before a family is taken for exhausted


def generate(families: Sequence[str] | None = None, *, seed: int = 0, n_items: int = 200) -> list[Item]:
    """Return `n_items` different items of each family (default: those of the set "basic"; "extended" are all).

    A name is that of a family or of a set. The items of a family depend on the seed alone: not on the other families, and
    fewer are the first of more.

    Raises:
        InterpError: an unknown family, fewer than one item, or more than a family has.
    """
    if n_items < 1:
        raise InterpError(f"{n_items} items a family were asked for; at least 1 is needed.")
    known, names = [*SETS, *FAMILIES], list[str]()
    for name in ("basic",) if families is None else families:
        if name not in known:
            raise InterpError(f"There is no family {name!r}; choose from {', '.join(known)}{nearest(name, known)}")
        names += SETS.get(name, (name,))
    return [item for name in dict.fromkeys(names) for item in _distinct(name, seed, n_items)]


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


def copying(random: np.random.Generator) -> Group:
    """A list of three to seven words, and the beginning of the same list again."""
    listed = some(random, WORDS, int(random.integers(3, 8)))
    again = int(random.integers(1, len(listed)))
    return [Item("copying", " ".join([*listed, *listed[:again]]), f" {listed[again]}")]


def squares(random: np.random.Generator) -> Group:
    """``9, 16, 25, 36,`` is followed by ``49``, or the other way round."""
    start, shown = int(random.integers(1, 60)), int(random.integers(4, 7))
    terms = [number**2 for number in range(start, start + shown + 1)]
    return [_item("squares", terms[::-1] if random.random() < 0.5 else terms)]


def growing_steps(random: np.random.Generator) -> Group:
    """``3, 5, 9, 15,`` is followed by ``23``: every step is larger than the one before, always by as much."""
    start, step, growth, shown = (int(random.integers(*ends)) for ends in ((0, 50), (1, 10), (1, 6), (4, 7)))
    terms = [start + n * step + growth * n * (n - 1) // 2 for n in range(shown + 1)]
    return [_item("growing_steps", terms)]


def zigzag(random: np.random.Generator) -> Group:
    """``20, 27, 24, 31, 28,`` is followed by ``35``: up by one number and down by another, in turn."""
    start, up, down, shown = (int(random.integers(*ends)) for ends in ((50, 100), (2, 16), (1, 16), (5, 8)))
    return [_item("zigzag", [start + (n + 1) // 2 * up - n // 2 * down for n in range(shown + 1)])]


def interleaved(random: np.random.Generator) -> Group:
    """``1, 20, 4, 25, 7,`` is followed by ``30``: two sequences with steps of their own take turns."""
    starts, steps, shown = random.integers(1, 60, 2), random.integers(1, 12, 2), int(random.integers(5, 8))
    return [_item("interleaved", [int(starts[n % 2] + n // 2 * steps[n % 2]) for n in range(shown + 1)])]


def repeating(random: np.random.Generator) -> Group:
    """``river, stone, king, river, stone,`` is followed by ``king``: three words over and over."""
    words, shown = some(random, WORDS, 3), int(random.integers(5, 9))
    return [_item("repeating", [words[number % 3] for number in range(shown + 1)])]


def letter_groups(random: np.random.Generator) -> Group:
    """``AB, CD, EF,`` is followed by ``GH``: two or three letters that move on together."""
    size, step, shown = (int(random.integers(*ends)) for ends in ((2, 4), (1, 4), (3, 6)))
    start = int(random.integers(len(UPPER) - step * shown - size + 1))
    groups = [UPPER[start + step * number :][:size] for number in range(shown + 1)]
    return [_item("letter_groups", groups if random.random() < 0.5 else [group.lower() for group in groups])]


def addition(random: np.random.Generator) -> Group:
    """``47 + 85 =`` is followed by ``132``."""
    a, b = random.integers(10, 100, 2).tolist()
    return [Item("addition", f"{a} + {b} =", f" {a + b}")]


def subtraction(random: np.random.Generator) -> Group:
    """``85 - 47 =`` is followed by ``38``, never by less than 0."""
    b, a = sorted(random.integers(1, 100, 2).tolist())
    return [Item("subtraction", f"{a} - {b} =", f" {a - b}")]


def multiplication(random: np.random.Generator) -> Group:
    """``7 * 12 =`` is followed by ``84``."""
    a, b = (int(random.integers(*ends)) for ends in ((2, 13), (2, 50)))
    return [Item("multiplication", f"{a} * {b} =", f" {a * b}")]


def division(random: np.random.Generator) -> Group:
    """``84 / 7 =`` is followed by ``12``; nothing is left over."""
    a, b = (int(random.integers(*ends)) for ends in ((2, 50), (2, 13)))
    return [Item("division", f"{a * b} / {b} =", f" {a}")]


def parity(random: np.random.Generator) -> Group:
    """``The number 36 is`` goes on with ``even``, ``The number 37 is`` with ``odd``; two together."""
    number = 2 * int(random.integers(1, 500))
    return [
        Item("parity", f"The number {number} is", compare=(" even", " odd")),
        Item("parity", f"The number {number + 1} is", compare=(" odd", " even")),
    ]


def larger_or_smaller(random: np.random.Generator) -> Group:
    """``Beside 48 the number 35 is`` goes on with ``smaller``, exchanged with ``larger``; two together."""
    a, b = random.permutation(np.arange(1, 1000))[:2].tolist()
    group = []
    for one, other in ((a, b), (b, a)):
        compare = (" smaller", " larger") if one < other else (" larger", " smaller")
        group.append(Item("larger_or_smaller", f"Beside {other} the number {one} is", compare=compare))
    return group


def largest(random: np.random.Generator) -> Group:
    """The largest or the smallest of three to five numbers."""
    numbers = _numbers(random, int(random.integers(3, 6)))
    word, answer = ("largest", max(numbers)) if random.random() < 0.5 else ("smallest", min(numbers))
    return [Item("largest", f"Of {listed(list(map(str, numbers)))}, the {word} is", f" {answer}")]


def sorting(random: np.random.Generator) -> Group:
    """Three to five numbers, and the first of them in their order."""
    numbers = _numbers(random, int(random.integers(3, 6)))
    return [_in_order("sorting", random, "In order", list(map(str, numbers)), list(map(str, sorted(numbers))))]


def alphabetical_order(random: np.random.Generator) -> Group:
    """Three to five words, and the first of them in their order."""
    words = some(random, WORDS, int(random.integers(3, 6)))
    return [_in_order("alphabetical_order", random, "In alphabetical order", words, sorted(words))]


def reversal(random: np.random.Generator) -> Group:
    """Three to five words, and the first of them backwards."""
    words = some(random, WORDS, int(random.integers(3, 6)))
    return [_in_order("reversal", random, "Backwards", words, words[::-1])]


def ordinal(random: np.random.Generator) -> Group:
    """Which of four or five words is the second?"""
    words = some(random, WORDS, int(random.integers(4, 6)))
    place = int(random.integers(len(words)))
    return [Item("ordinal", f"Of {listed(words)}, the {ORDINALS[place]} is", f" {words[place]}")]


def counting(random: np.random.Generator) -> Group:
    """How often does a word stand among others?"""
    word, *others = some(random, WORDS, 4)
    count = int(random.integers(1, 6))
    words = some(random, [*[word] * count, *others], count + 3)
    return [Item("counting", f"Among {listed(words)}, the number of times that {word} comes up is", f" {count}")]


def calendar(random: np.random.Generator) -> Group:
    """``17 days after Tuesday it is`` goes on with ``Friday``; or months after a month."""
    circle, unit = ((DAYS, "days"), (MONTHS, "months"))[random.integers(2)]
    start, later = int(random.integers(len(circle))), int(random.integers(2, 40))
    return [
        Item("calendar", f"{later} {unit} after {circle[start]} it is", f" {circle[(start + later) % len(circle)]}")
    ]


def clock(random: np.random.Generator) -> Group:
    """``At 9 it strikes; 7 hours later it strikes`` goes on with ``4``: twelve hours go round."""
    now, later = int(random.integers(1, 13)), int(random.integers(1, 37))
    return [
        Item("clock", f"The clock strikes {now}, and {later} hours later it strikes", f" {(now + later - 1) % 12 + 1}")
    ]


def roman(random: np.random.Generator) -> Group:
    """``In Roman numerals 14 is`` goes on with ``XIV``."""
    number = int(random.integers(1, 400))
    left, written = number, ""
    for value, sign in ROMAN:
        written += left // value * sign
        left %= value
    return [Item("roman", f"In Roman numerals {number} is", f" {written}")]


def number_words(random: np.random.Generator) -> Group:
    """``In digits three hundred and forty-two is`` goes on with ``342``."""
    number = int(random.integers(1, 1000))
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    small = ONES[rest] if rest < 20 else TENS[tens] + f"-{ONES[ones]}" * (ones > 0)
    parts = [f"{ONES[hundreds]} hundred"] * (hundreds > 0) + [small] * (rest > 0)
    return [Item("number_words", f"In digits {' and '.join(parts)} is", f" {number}")]


def units(random: np.random.Generator) -> Group:
    """``3 hours are 180 minutes, and 5 hours are`` goes on with ``300``."""
    unit, part, each = UNITS[random.integers(len(UNITS))]
    known, asked = (random.permutation(np.arange(2, 21))[:2]).tolist()
    return [Item("units", f"{known} {unit} are {known * each} {part}, and {asked} {unit} are", f" {asked * each}")]


def mapping(random: np.random.Generator) -> Group:
    """``3 becomes 7, 10 becomes 14, and 5 becomes`` goes on with ``9``: always as much is added."""
    added = int(random.integers(2, 30))
    a, b, c = random.permutation(np.arange(1, 50))[:3].tolist()
    return [Item("mapping", f"{a} becomes {a + added}, {b} becomes {b + added}, and {c} becomes", f" {c + added}")]


def spelling(random: np.random.Generator) -> Group:
    """``The letters of river are r, i, v,`` is followed by ``e``; or backwards."""
    word = SPELLED[random.integers(len(SPELLED))]
    backwards, shown = random.random() < 0.5, int(random.integers(1, len(word)))
    letters = word[::-1] if backwards else word
    told = f"The letters of {word}{' backwards' * backwards} are {', '.join(letters[:shown])},"
    return [Item("spelling", told, f" {letters[shown]}")]


def upper_case(random: np.random.Generator) -> Group:
    """``river RIVER, stone STONE, king`` is followed by ``KING``."""
    *shown, word = some(random, WORDS, 3)
    return [Item("upper_case", " ".join([*(f"{one} {one.upper()}," for one in shown), word]), f" {word.upper()}")]


def first_letters(random: np.random.Generator) -> Group:
    """``river r, stone s, king`` is followed by ``k``."""
    *shown, word = some(random, WORDS, 3)
    return [Item("first_letters", " ".join([*(f"{one} {one[0]}," for one in shown), word]), f" {word[0]}")]


def brackets(random: np.random.Generator) -> Group:
    """``( river [ stone ] king`` is followed by ``)``: what was opened last is closed first."""
    depth, words = int(random.integers(2, 5)), some(random, WORDS, 4)
    opened = [BRACKETS[random.integers(len(BRACKETS))] for _ in range(depth)]
    closed = int(random.integers(depth))  # of the inner ones
    parts = [part for pair, word in zip(opened, words, strict=False) for part in (pair[0], word)]
    parts += [opened[depth - 1 - number][1] for number in range(closed)]
    return [Item("brackets", " ".join(parts), f" {opened[depth - 1 - closed][1]}")]


def _numbers(random: np.random.Generator, count: int) -> list[int]:
    return random.permutation(np.arange(1, 100))[:count].tolist()


def _in_order(family: str, random: np.random.Generator, how: str, items: list[str], ordered: list[str]) -> Item:
    """Show items, then the first of them in an order; the next of these is asked for."""
    shown = int(random.integers(1, len(items)))
    return Item(family, f"{how}, {listed(items)} are {', '.join(ordered[:shown])},", f" {ordered[shown]}")


def _item(family: str, terms: Sequence[str | int]) -> Item:
    shown = ", ".join(map(str, terms[:-1]))
    return Item(family, f"{shown},", f" {terms[-1]}")


BASIC: dict[str, Callable[[np.random.Generator], Group]] = {
    family.__name__: family
    for family in (
        arithmetic, geometric, fibonacci, alphabetic, wrap_around, sentences.near_retrieval, sentences.far_retrieval,
        sentences.inference, copying, sentences.negation, sentences.syntax,
    )
}  # fmt: skip
FAMILIES: dict[str, Callable[[np.random.Generator], Group]] = BASIC | {
    family.__name__: family
    for family in (
        squares, growing_steps, zigzag, interleaved, repeating, letter_groups, addition, subtraction, multiplication,
        division, parity, larger_or_smaller, largest, sorting, alphabetical_order, reversal, ordinal, counting, calendar,
        clock, roman, number_words, units, mapping, spelling, upper_case, first_letters, brackets, sentences.association,
        sentences.tracking, sentences.handing_over, sentences.passive, sentences.opposites, sentences.capital_cities,
        sentences.plural, sentences.past_tense, sentences.odd_one_out, sentences.conditional, sentences.quantifier,
        sentences.either_or, sentences.relative_agreement, sentences.determiner, sentences.tense, sentences.age,
    )
}  # fmt: skip
SETS = {"basic": tuple(BASIC), "extended": tuple(FAMILIES)}

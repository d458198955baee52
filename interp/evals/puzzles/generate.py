"""The families of generated puzzles, from sequences to syntax, and how as many different items as wanted are drawn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from interp.errors import InterpError, nearest
from interp.evals.puzzles.items import Group, Item

NAMES = (
    *("John", "Mary", "Peter", "Anna", "David", "Sarah", "Paul", "Jane", "Mark", "Laura", "James", "Alice"),
    *("Tom", "Lucy", "George", "Emma", "Henry", "Helen", "Robert", "Ruth"),
)
COLOURS = ("red", "blue", "green", "white", "black", "brown", "yellow", "grey")
THINGS = ("box", "car", "house", "book", "hat", "bag", "boat", "door", "table", "cup")
ANIMALS = ("dog", "cat", "horse", "bird", "fish", "cow", "bear", "wolf")
PLACES = ("garden", "village", "forest", "city", "valley", "park")
WORDS = (
    *("river", "stone", "music", "paper", "winter", "bread", "king", "light", "road", "metal", "child", "water"),
    *("church", "field", "glass", "horse", "island", "letter", "money", "night", "ocean", "party", "queen", "school"),
    *("tree", "voice", "window", "world", "army", "bridge"),
)

FILLERS = (  # of exactly FILLER_WORDS words; none names a person, a colour or a thing of the facts
    "The train from the north was late again.",
    "It rained for most of the long afternoon.",
    "A new school will open in the spring.",
    "The river runs slowly through the old town.",
    "Many people came to hear the music play.",
    "The price of bread has gone up since.",
    "Nobody knew when the long meeting would end.",
    "The road to the coast is very long.",
    "In the summer the days are often warm.",
    "The church was built a hundred years ago.",
)
FILLER_WORDS = 8
COMPARATIVES = (  # more, most, least
    ("older", "oldest", "youngest"),
    ("taller", "tallest", "shortest"),
    ("faster", "fastest", "slowest"),
    ("richer", "richest", "poorest"),
    ("stronger", "strongest", "weakest"),
)
OPPOSITES = (  # two words of which exactly one is true of each of the subjects
    ("open", "closed", ("door", "window", "gate", "shop", "box", "road")),
    ("on", "off", ("light", "radio", "engine", "heater", "computer", "lamp")),
    ("dead", "alive", ("king", "fish", "tree", "soldier", "bird", "horse")),
    ("wet", "dry", ("floor", "road", "paper", "coat", "ground", "grass")),
    ("true", "false", ("story", "statement", "report", "answer", "claim", "rumour")),
    ("clean", "dirty", ("shirt", "window", "plate", "room", "kitchen", "car")),
    ("full", "empty", ("glass", "bottle", "box", "bag", "hall", "train")),
    ("right", "wrong", ("answer", "result", "address", "number", "date", "time")),
    ("awake", "asleep", ("child", "guard", "dog", "driver", "cat", "baby")),
    ("present", "absent", ("teacher", "doctor", "student", "judge", "mayor", "singer")),
)
NOUNS = (
    *("key", "book", "dog", "car", "boy", "girl", "teacher", "doctor", "picture", "letter", "house", "tree"),
    *("student", "horse", "bird", "table", "window", "river", "road", "king"),
)
PREPOSITIONS = ("near", "behind", "beside", "under", "above")
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))  # singular, plural
PAIRS = (  # he, she
    *(("man", "woman"), ("boy", "girl"), ("king", "queen"), ("father", "mother"), ("brother", "sister")),
    *(("son", "daughter"), ("uncle", "aunt"), ("husband", "wife"), ("prince", "princess")),
)
REFLEXIVE_VERBS = ("saw", "hurt", "killed", "defended", "taught", "introduced", "blamed", "trusted")
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
CIRCLES: tuple[tuple[Sequence[str], int], ...] = ((UPPER, 4), (DAYS, 2), (MONTHS, 2))  # with the largest step
FACTS = 3
FAR = (2, 3, 4)  # how many filler sentences stand before a far question
LARGEST = 9999  # of the numbers in a geometric progression
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


def near_retrieval(random: np.random.Generator) -> Group:
    """Three facts and at once a question about one of them."""
    return [_retrieval("near_retrieval", random, 0)]


def far_retrieval(random: np.random.Generator) -> Group:
    """Three facts, 16, 24 or 32 words about something else, and a question about one of the facts."""
    return [_retrieval("far_retrieval", random, FAR[random.integers(len(FAR))])]


def inference(random: np.random.Generator) -> Group:
    """A rule and a case of it, or an order of three to be put together from two comparisons."""
    return [_rule(random) if random.random() < 0.5 else _order(random)]


def copying(random: np.random.Generator) -> Group:
    """A list of three to seven words, and the beginning of the same list again."""
    listed = _some(random, WORDS, int(random.integers(3, 8)))
    again = int(random.integers(1, len(listed)))
    return [Item("copying", " ".join([*listed, *listed[:again]]), f" {listed[again]}")]


def negation(random: np.random.Generator) -> Group:
    """``The door is not open. The door is`` goes on with ``closed`` rather than ``open``.

    Four together: of both words, affirmed and denied. Who repeats what was said is right in half of them, and so is who
    never does.
    """
    *pair, subjects = OPPOSITES[random.integers(len(OPPOSITES))]
    subject, plainly = subjects[random.integers(len(subjects))], random.random() < 0.5
    group = []
    for said, other in (pair, pair[::-1]):
        for denied in (False, True):
            no = " not" if denied else ""
            told = f"The {subject} is{no} {said}." if plainly else f"It is{no} true that the {subject} is {said}."
            better, worse = (other, said) if denied else (said, other)
            group.append(Item("negation", f"{told} The {subject} is", compare=(f" {better}", f" {worse}")))
    return group


def syntax(random: np.random.Generator) -> Group:
    """A verb that agrees with its subject or a pronoun that fits it, with another noun between them."""
    return _agreement(random) if random.random() < 0.5 else _reflexive(random)


def _item(family: str, terms: Sequence[str | int]) -> Item:
    shown = ", ".join(map(str, terms[:-1]))
    return Item(family, f"{shown},", f" {terms[-1]}")


def _retrieval(family: str, random: np.random.Generator, fillers: int) -> Item:
    thing, asked = THINGS[random.integers(len(THINGS))], int(random.integers(FACTS))
    names, colours = _some(random, NAMES, FACTS), _some(random, COLOURS, FACTS)
    facts = [f"{name} has a {colour} {thing}." for name, colour in zip(names, colours, strict=True)]
    between = [*facts[asked + 1 :], *_some(random, FILLERS, fillers)]
    prompt = " ".join([*facts[: asked + 1], *between, f"The {thing} of {names[asked]} is"])
    return Item(family, prompt, f" {colours[asked]}", distance=len(" ".join(between).split()))


def _rule(random: np.random.Generator) -> Item:
    kinds, colours, asked = _some(random, ANIMALS, 2), _some(random, COLOURS, 2), int(random.integers(2))
    [place], [name] = _some(random, PLACES, 1), _some(random, NAMES, 1)
    rules = [f"Every {kind} in the {place} is {colour}." for kind, colour in zip(kinds, colours, strict=True)]
    prompt = [*rules, f"{name} is a {kinds[asked]} in the {place}.", f"The colour of {name} is"]
    return Item("inference", " ".join(prompt), f" {colours[asked]}")


def _order(random: np.random.Generator) -> Item:
    more, most, least = COMPARATIVES[random.integers(len(COMPARATIVES))]
    first, middle, last = _some(random, NAMES, 3)
    known = _some(random, (f"{first} is {more} than {middle}", f"{middle} is {more} than {last}"), 2)
    asked, answer = (most, first) if random.random() < 0.5 else (least, last)
    return Item("inference", f"We know that {known[0]} and that {known[1]}. The {asked} of the three is", f" {answer}")


def _agreement(random: np.random.Generator) -> Group:
    """``The keys near the table`` goes on with ``are``; four together, both nouns in singular and plural."""
    subject, other = (NOUNS[index] for index in random.permutation(len(NOUNS))[:2])
    preposition = PREPOSITIONS[random.integers(len(PREPOSITIONS))]
    singular, plural = VERBS[random.integers(len(VERBS))]
    group = []
    for other_ending in ("", "s"):
        for ending, better, worse in (("", singular, plural), ("s", plural, singular)):
            prompt = f"The {subject}{ending} {preposition} the {other}{other_ending}"
            group.append(Item("syntax", prompt, compare=(f" {better}", f" {worse}")))
    return group


def _reflexive(random: np.random.Generator) -> Group:
    """``The queen near the king saw`` goes on with ``herself``; two together, the nouns exchanged."""
    he, she = PAIRS[random.integers(len(PAIRS))]
    preposition = PREPOSITIONS[random.integers(len(PREPOSITIONS))]
    verb = REFLEXIVE_VERBS[random.integers(len(REFLEXIVE_VERBS))]
    return [
        Item("syntax", f"The {he} {preposition} the {she} {verb}", compare=(" himself", " herself")),
        Item("syntax", f"The {she} {preposition} the {he} {verb}", compare=(" herself", " himself")),
    ]


def _some(random: np.random.Generator, choices: Sequence[str], count: int) -> list[str]:
    """Return `count` different ones in random order."""
    order: list[int] = random.permutation(len(choices))[:count].tolist()
    return [choices[index] for index in order]


FAMILIES: dict[str, Callable[[np.random.Generator], Group]] = {
    family.__name__: family
    for family in (
        arithmetic, geometric, fibonacci, alphabetic, wrap_around, near_retrieval, far_retrieval, inference, copying,
        negation, syntax,
    )
}  # fmt: skip

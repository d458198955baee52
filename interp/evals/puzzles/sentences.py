"""Families of puzzles in sentences: facts to find again and to put together, and grammar."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

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
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
FRUITS = ("apple", "pear", "plum", "cherry", "lemon", "grape")
CAPITALS = (
    *(("Paris", "France"), ("Rome", "Italy"), ("Madrid", "Spain"), ("Berlin", "Germany"), ("Athens", "Greece")),
    *(("London", "England"), ("Vienna", "Austria"), ("Moscow", "Russia"), ("Tokyo", "Japan"), ("Cairo", "Egypt")),
    *(("Lisbon", "Portugal"), ("Warsaw", "Poland"), ("Dublin", "Ireland"), ("Oslo", "Norway"), ("Delhi", "India")),
    *(("Ottawa", "Canada"), ("Havana", "Cuba"), ("Budapest", "Hungary"), ("Stockholm", "Sweden"), ("Tehran", "Iran")),
)
KINDS = (ANIMALS, COLOURS, DAYS, MONTHS, FRUITS, tuple(country for _, country in CAPITALS))
PLURALS = (
    *(
        ("child", "children"),
        ("man", "men"),
        ("woman", "women"),
        ("foot", "feet"),
        ("tooth", "teeth"),
        ("box", "boxes"),
    ),
    *(
        ("mouse", "mice"),
        ("goose", "geese"),
        ("city", "cities"),
        ("leaf", "leaves"),
        ("wolf", "wolves"),
        ("bus", "buses"),
    ),
    *(
        ("dog", "dogs"),
        ("book", "books"),
        ("knife", "knives"),
        ("lady", "ladies"),
        ("church", "churches"),
        ("ox", "oxen"),
    ),
)
PASTS = (
    *(("go", "went"), ("see", "saw"), ("come", "came"), ("take", "took"), ("give", "gave"), ("write", "wrote")),
    *(("sing", "sang"), ("run", "ran"), ("eat", "ate"), ("buy", "bought"), ("think", "thought"), ("walk", "walked")),
    *(
        ("play", "played"),
        ("speak", "spoke"),
        ("find", "found"),
        ("know", "knew"),
        ("fall", "fell"),
        ("wait", "waited"),
    ),
)
DONE = ("chased", "followed", "watched", "feared", "helped", "attacked")  # the same in the passive
SEEN = ("saw", "knew", "liked", "found")
DETERMINERS = (("this", "these"), ("that", "those"))
LOOKING = ("know", "see", "like", "remember", "want")
FACTS = 3
FAR = (2, 3, 4)  # how many filler sentences stand before a far question


def near_retrieval(random: np.random.Generator) -> Group:
    """Three facts and at once a question about one of them."""
    return [_retrieval("near_retrieval", random, 0)]


def far_retrieval(random: np.random.Generator) -> Group:
    """Three facts, 16, 24 or 32 words about something else, and a question about one of the facts."""
    return [_retrieval("far_retrieval", random, FAR[random.integers(len(FAR))])]


def inference(random: np.random.Generator) -> Group:
    """A rule and a case of it, or an order of three to be put together from two comparisons."""
    return [_rule(random) if random.random() < 0.5 else _order(random)]


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


def association(random: np.random.Generator) -> Group:
    """A code of three words, and a question for the meaning of one."""
    words, meanings, asked = some(random, WORDS, FACTS), some(random, COLOURS, FACTS), int(random.integers(FACTS))
    code = listed([f"{word} means {meaning}" for word, meaning in zip(words, meanings, strict=True)])
    return [Item("association", f"In our code {code}. The meaning of {words[asked]} is", f" {meanings[asked]}")]


def tracking(random: np.random.Generator) -> Group:
    """Two people go to places, one of them to another; where is the one or the other now?"""
    names, places = some(random, NAMES, 2), some(random, PLACES, 3)
    again, asked = int(random.integers(2)), int(random.integers(2))
    moves = [f"{name} went to the {place}." for name, place in zip([*names, names[again]], places, strict=True)]
    answer = places[2] if asked == again else places[asked]
    return [Item("tracking", f"{' '.join(moves)} Now {names[asked]} is in the", f" {answer}")]


def handing_over(random: np.random.Generator) -> Group:
    """A thing goes from hand to hand, two or three times."""
    names, thing = some(random, NAMES, int(random.integers(3, 5))), THINGS[random.integers(len(THINGS))]
    told = [f"{giver} gives the {thing} to {taker}." for giver, taker in pairwise(names)]
    return [
        Item("handing_over", f"{names[0]} has the {thing}. {' '.join(told)} Now the {thing} is with", f" {names[-1]}")
    ]


def passive(random: np.random.Generator) -> Group:
    """``The dog chased the cat. So the cat was chased by the`` goes on with ``dog``."""
    (one, other), [verb] = some(random, ANIMALS, 2), some(random, DONE, 1)
    return [Item("passive", f"The {one} {verb} the {other}. So the {other} was {verb} by the", f" {one}")]


def opposites(random: np.random.Generator) -> Group:
    """Two opposites, and the first half of two others."""
    first, second = (OPPOSITES[index][:2] for index in random.permutation(len(OPPOSITES))[:2])
    (a, b), (c, d) = (pair[:: 1 if random.random() < 0.5 else -1] for pair in (first, second))
    return [Item("opposites", f"The opposite of {a} is {b}, and the opposite of {c} is", f" {d}")]


def capital_cities(random: np.random.Generator) -> Group:
    """A capital with its country, and another capital."""
    (city, country), (other, answer) = (CAPITALS[index] for index in random.permutation(len(CAPITALS))[:2])
    return [Item("capital_cities", f"{city} is the capital of {country}, and {other} is the capital of", f" {answer}")]


def plural(random: np.random.Generator) -> Group:
    """``one box, two boxes, one child, two`` goes on with ``children``."""
    (one, more), (asked, answer) = (PLURALS[index] for index in random.permutation(len(PLURALS))[:2])
    return [Item("plural", f"one {one}, two {more}, one {asked}, two", f" {answer}")]


def past_tense(random: np.random.Generator) -> Group:
    """``Today we go, yesterday we went. Today we see, yesterday we`` goes on with ``saw``."""
    (now, past), (asked, answer) = (PASTS[index] for index in random.permutation(len(PASTS))[:2])
    return [Item("past_tense", f"Today we {now}, yesterday we {past}. Today we {asked}, yesterday we", f" {answer}")]


def odd_one_out(random: np.random.Generator) -> Group:
    """Three words of a kind and one of another."""
    kind, other = (KINDS[index] for index in random.permutation(len(KINDS))[:2])
    [odd] = some(random, other, 1)
    words = some(random, [*some(random, kind, 3), odd], 4)
    return [Item("odd_one_out", f"Of {listed(words)}, the one of another kind is", f" {odd}")]


def conditional(random: np.random.Generator) -> Group:
    """What is so if something is on or off, and whether it is."""
    first, second = (OPPOSITES[index] for index in random.permutation(len(OPPOSITES))[:2])
    [cause], case = some(random, first[2], 1), int(random.integers(2))
    [effect] = some(random, [subject for subject in second[2] if subject != cause], 1)
    ways = some(random, second[:2], 2)
    rules = [f"If the {cause} is {way}, the {effect} is {then}." for way, then in zip(first[:2], ways, strict=True)]
    return [
        Item("conditional", f"{' '.join(rules)} The {cause} is {first[case]}. So the {effect} is", f" {ways[case]}")
    ]


def quantifier(random: np.random.Generator) -> Group:
    """``Every dog in the park is red`` says of one that it is ``red``, ``No dog`` that it is ``not red``; two together."""
    [name], [kind], [place], [colour] = (some(random, choices, 1) for choices in (NAMES, ANIMALS, PLACES, COLOURS))
    is_so, is_not = f" {colour}", f" not {colour}"
    told = f"{kind} in the {place} is {colour}. {name} is a {kind} in the {place}. So {name} is"
    return [
        Item("quantifier", f"Every {told}", compare=(is_so, is_not)),
        Item("quantifier", f"No {told}", compare=(is_not, is_so)),
    ]


def either_or(random: np.random.Generator) -> Group:
    """One of two, and which it is not."""
    names, [thing] = some(random, NAMES, 2), some(random, THINGS, 1)
    out = int(random.integers(2))
    told = f"Either {names[0]} or {names[1]} has the {thing}. It is not {names[out]}."
    return [Item("either_or", f"{told} The one who has it is", f" {names[1 - out]}")]


def relative_agreement(random: np.random.Generator) -> Group:
    """``The keys that the boy saw`` goes on with ``are``; four together, both nouns in singular and plural."""
    subject, other = some(random, NOUNS, 2)
    verb, verbs = SEEN[random.integers(len(SEEN))], VERBS[random.integers(len(VERBS))]
    return _of_both_numbers("relative_agreement", f"The {subject}{{}} that the {other}{{}} {verb}", verbs)


def determiner(random: np.random.Generator) -> Group:
    """``They know this`` goes on with ``key``, ``They know these`` with ``keys``; two together."""
    [who], [verb], [noun] = (some(random, choices, 1) for choices in (("We", "They", "You"), LOOKING, NOUNS))
    one, more = DETERMINERS[random.integers(len(DETERMINERS))]
    return [
        Item("determiner", f"{who} {verb} {one}", compare=(f" {noun}", f" {noun}s")),
        Item("determiner", f"{who} {verb} {more}", compare=(f" {noun}s", f" {noun}")),
    ]


def tense(random: np.random.Generator) -> Group:
    """``Yesterday the bird`` goes on with ``fell``, ``Tomorrow the bird`` with ``will fall``; two together."""
    noun, (now, past) = NOUNS[random.integers(len(NOUNS))], PASTS[random.integers(len(PASTS))]
    did, will = f" {past}", f" will {now}"
    return [
        Item("tense", f"Yesterday the {noun}", compare=(did, will)),
        Item("tense", f"Tomorrow the {noun}", compare=(will, did)),
    ]


def age(random: np.random.Generator) -> Group:
    """One is some years older or younger than another, whose age is told."""
    (one, other), years, gap = some(random, NAMES, 2), int(random.integers(20, 60)), int(random.integers(2, 20))
    word, answer = ("older", years + gap) if random.random() < 0.5 else ("younger", years - gap)
    told = f"{one} is {years} years old. {other} is {gap} years {word} than {one}."
    return [Item("age", f"{told} The age of {other} is", f" {answer}")]


def _retrieval(family: str, random: np.random.Generator, fillers: int) -> Item:
    thing, asked = THINGS[random.integers(len(THINGS))], int(random.integers(FACTS))
    names, colours = some(random, NAMES, FACTS), some(random, COLOURS, FACTS)
    facts = [f"{name} has a {colour} {thing}." for name, colour in zip(names, colours, strict=True)]
    between = [*facts[asked + 1 :], *some(random, FILLERS, fillers)]
    prompt = " ".join([*facts[: asked + 1], *between, f"The {thing} of {names[asked]} is"])
    return Item(family, prompt, f" {colours[asked]}", distance=len(" ".join(between).split()))


def _rule(random: np.random.Generator) -> Item:
    kinds, colours, asked = some(random, ANIMALS, 2), some(random, COLOURS, 2), int(random.integers(2))
    [place], [name] = some(random, PLACES, 1), some(random, NAMES, 1)
    rules = [f"Every {kind} in the {place} is {colour}." for kind, colour in zip(kinds, colours, strict=True)]
    prompt = [*rules, f"{name} is a {kinds[asked]} in the {place}.", f"The colour of {name} is"]
    return Item("inference", " ".join(prompt), f" {colours[asked]}")


def _order(random: np.random.Generator) -> Item:
    more, most, least = COMPARATIVES[random.integers(len(COMPARATIVES))]
    first, middle, last = some(random, NAMES, 3)
    known = some(random, (f"{first} is {more} than {middle}", f"{middle} is {more} than {last}"), 2)
    asked, answer = (most, first) if random.random() < 0.5 else (least, last)
    return Item("inference", f"We know that {known[0]} and that {known[1]}. The {asked} of the three is", f" {answer}")


def _agreement(random: np.random.Generator) -> Group:
    """``The keys near the table`` goes on with ``are``; four together, both nouns in singular and plural."""
    subject, other = (NOUNS[index] for index in random.permutation(len(NOUNS))[:2])
    preposition = PREPOSITIONS[random.integers(len(PREPOSITIONS))]
    verbs = VERBS[random.integers(len(VERBS))]
    return _of_both_numbers("syntax", f"The {subject}{{}} {preposition} the {other}{{}}", verbs)


def _of_both_numbers(family: str, prompt: str, verbs: tuple[str, str]) -> Group:
    """Fill the endings of subject and other noun into a prompt; the verb, of singular and plural, is the subject's."""
    singular, plural = verbs
    return [
        Item(family, prompt.format(ending, other), compare=(f" {better}", f" {worse}"))
        for other in ("", "s")
        for ending, better, worse in (("", singular, plural), ("s", plural, singular))
    ]


def _reflexive(random: np.random.Generator) -> Group:
    """``The queen near the king saw`` goes on with ``herself``; two together, the nouns exchanged."""
    he, she = PAIRS[random.integers(len(PAIRS))]
    preposition = PREPOSITIONS[random.integers(len(PREPOSITIONS))]
    verb = REFLEXIVE_VERBS[random.integers(len(REFLEXIVE_VERBS))]
    return [
        Item("syntax", f"The {he} {preposition} the {she} {verb}", compare=(" himself", " herself")),
        Item("syntax", f"The {she} {preposition} the {he} {verb}", compare=(" herself", " himself")),
    ]


def some(random: np.random.Generator, choices: Sequence[str], count: int) -> list[str]:
    """Return `count` different ones in random order."""
    order: list[int] = random.permutation(len(choices))[:count].tolist()
    return [choices[index] for index in order]


def listed(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return f"{', '.join(words[:-1])} and {words[-1]}"

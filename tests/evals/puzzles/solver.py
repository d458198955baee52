"""Solves generated puzzles from their text alone, each family by reading its sentences; knows nothing of the generators."""

import itertools
import re
from datetime import date, timedelta
from fractions import Fraction

from interp.evals.puzzles.sentences import CAPITALS, COMPARATIVES, KINDS, OPPOSITES, PAIRS, PASTS, PLURALS, VERBS

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
CIRCLES = (list(LETTERS), list(LETTERS.lower()), DAYS, MONTHS)


def solve(family, prompt, continuations=()):
    """Return every answer that some rule gives."""
    if family in ("arithmetic", "geometric", "fibonacci", "alphabetic", "wrap_around"):
        return next_terms(prompt)
    return {RULES[family](prompt, continuations)}


def next_terms(prompt):
    """Every rule that fits all the terms says what comes next."""
    terms = prompt.rstrip(",").split(", ")
    if all(term.isdigit() for term in terms):
        return {f" {value}" for value in next_numbers([int(term) for term in terms])}
    for circle in CIRCLES:
        if all(term in circle for term in terms):
            places = [circle.index(term) for term in terms]
            steps = {(after - before) % len(circle) for before, after in itertools.pairwise(places)}
            return {f" {circle[(places[-1] + step) % len(circle)]}" for step in steps} if len(steps) == 1 else set()
    return set()


def next_numbers(numbers):
    a, b, *rest = numbers
    if [b + (b - a) * n for n in range(1, len(rest) + 1)] == rest:
        yield 2 * numbers[-1] - numbers[-2]
    if all(after * a == before * b for before, after in itertools.pairwise(numbers)):
        yield numbers[-1] * b // a
    if all(x + y == z for x, y, z in zip(numbers, numbers[1:], numbers[2:], strict=False)):
        yield numbers[-1] + numbers[-2]


def retrieval(prompt, _):
    name = re.search(r"The \w+ of (\w+) is$", prompt)[1]
    return " " + re.search(rf"{name} has a (\w+) ", prompt)[1]


def inference(prompt, _):
    if asked := re.search(r"The colour of (\w+) is$", prompt):
        kind, place = re.search(rf"{asked[1]} is a (\w+) in the (\w+)\.", prompt).groups()
        return " " + re.search(rf"Every {kind} in the {place} is (\w+)\.", prompt)[1]
    superlative = re.search(r"The (\w+) of the three is$", prompt)[1]
    facts = re.findall(r"(\w+) is (\w+) than (\w+)", prompt)
    more = {pair[0]: pair[2] for pair in facts}
    first = next(name for name in more if name not in more.values())
    ranking = [first, more[first], more[more[first]]]
    most = next(most for comparative, most, _ in COMPARATIVES if comparative == facts[0][1])
    return f" {ranking[0] if superlative == most else ranking[2]}"


def copying(prompt, _):
    listed = prompt.split()
    length = next(n for n in range(1, len(listed)) if listed[n:] == listed[: len(listed) - n])
    return f" {listed[len(listed) - length]}"


def negation(prompt, continuations):
    told = prompt.split(". ")[0].split()
    said, other = next(pair for one, two, _ in OPPOSITES for pair in ((one, two), (two, one)) if pair[0] == told[-1])
    answer = f" {other if 'not' in told else said}"
    assert answer in continuations
    return answer


def syntax(prompt, continuations):
    subject, last = prompt.split()[1], prompt.split()[-1]
    for he, she in PAIRS:
        if subject in (he, she) and " himself" in continuations:
            assert last not in (he, she)
            return " himself" if subject == he else " herself"
    singular, plural = next(pair for pair in VERBS if f" {pair[0]}" in continuations)
    return f" {plural if subject.endswith('s') else singular}"


def numbers_in(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def squares(prompt, _):
    roots = [round(number**0.5) for number in numbers_in(prompt)]
    assert [root**2 for root in roots] == numbers_in(prompt)
    return f" {(2 * roots[-1] - roots[-2]) ** 2}"


def growing_steps(prompt, _):
    """Differences of differences are all the same."""
    numbers = numbers_in(prompt)
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    [growth] = {after - before for before, after in itertools.pairwise(steps)}
    assert growth > 0
    return f" {numbers[-1] + steps[-1] + growth}"


def every_second(prompt, _):
    """The terms at every second place have a step of their own."""
    numbers = numbers_in(prompt)
    for half in (numbers[::2], numbers[1::2]):
        assert len({after - before for before, after in itertools.pairwise(half)}) == 1
    return f" {2 * numbers[-2] - numbers[-4]}"


def repeating(prompt, _):
    words = prompt.rstrip(",").split(", ")
    period = next(n for n in range(1, len(words)) if words[n:] == words[:-n])
    return f" {words[-period]}"


def letter_groups(prompt, _):
    groups = prompt.rstrip(",").split(", ")
    [step] = {ord(b) - ord(a) for one, two in itertools.pairwise(groups) for a, b in zip(one, two, strict=True)}
    return " " + "".join(chr(ord(letter) + step) for letter in groups[-1])


def calculation(prompt, _):
    value = Fraction(eval(re.sub(r"\d+", r"Fraction(\g<0>)", prompt.removesuffix(" ="))))
    assert value.denominator == 1 and value >= 0
    return f" {value}"


def parity(prompt, _):
    return " odd" if prompt[-4] in "13579" else " even"


def larger_or_smaller(prompt, _):
    other, one = numbers_in(prompt)
    return " larger" if one > other else " smaller"


def largest(prompt, _):
    return f" {sorted(numbers_in(prompt), reverse='largest' in prompt)[0]}"


def words_of(text):
    return re.split(r", | and ", text)


def ordered(prompt, _):
    how, listed, shown = re.match(r"(In order|In alphabetical order|Backwards), (.*) are (.*),$", prompt).groups()
    words, known = words_of(listed), shown.split(", ")
    if how == "Backwards":
        words.reverse()
    else:
        words.sort(key=int if how == "In order" else None)
    assert words[: len(known)] == known
    return f" {words[len(known)]}"


def ordinal(prompt, _):
    words, name = re.match(r"Of (.*), the (\w+) is$", prompt).groups()
    return f" {words_of(words)[['first', 'second', 'third', 'fourth', 'fifth'].index(name)]}"


def counting(prompt, _):
    words, word = re.match(r"Among (.*), the number of times that (\w+) comes up is$", prompt).groups()
    return f" {len(re.findall(rf'{word}', words))}"


def calendar(prompt, _):
    """By a real calendar."""
    later, unit, start = re.match(r"(\d+) (days|months) after (\w+) it is$", prompt).groups()
    if unit == "days":
        day = next(day for n in range(7) if (day := date(2024, 1, 1) + timedelta(n)).strftime("%A") == start)
        return (day + timedelta(int(later))).strftime(" %A")
    month = next(n for n in range(1, 13) if date(2024, n, 1).strftime("%B") == start)
    for _ in range(int(later)):
        month = month + 1 if month < 12 else 1
    return date(2024, month, 1).strftime(" %B")


def clock(prompt, _):
    hour, later = numbers_in(prompt)
    for _ in range(later):
        hour = hour + 1 if hour < 12 else 1
    return f" {hour}"


def roman(prompt, continuations):
    """Read the answer: a sign before a larger one is taken off."""
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[sign] for sign in continuations[0].strip()]
    total = sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
    shape = r" (C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})"
    assert total == numbers_in(prompt)[0] and re.fullmatch(shape, continuations[0])
    return continuations[0]


NUMBER_WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
NUMBER_WORDS += " seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def number_words(prompt, _):
    known = {word: n for n, word in enumerate(NUMBER_WORDS.split(), 1)}
    known |= {word: 10 * n for n, word in enumerate(TENS.split(), 2)}
    total = 0
    for word in re.split(r" and |-| ", re.match(r"In digits (.*) is$", prompt)[1]):
        total = total * 100 if word == "hundred" else total + known[word]
    return f" {total}"


def units(prompt, _):
    first, part, second = numbers_in(prompt)
    per = {
        ("days", "hours"): 24, ("weeks", "days"): 7, ("hours", "minutes"): 60, ("years", "months"): 12,
        ("minutes", "seconds"): 60, ("feet", "inches"): 12, ("yards", "feet"): 3, ("dollars", "cents"): 100,
    }[tuple(re.findall(r"\d+ ([a-z]+)", prompt)[:2])]  # fmt: skip
    assert part == first * per
    return f" {Fraction(part, first) * second}"


def mapping(prompt, _):
    a, b, c, d, asked = numbers_in(prompt)
    assert b - a == d - c
    return f" {asked + d - c}"


def spelling(prompt, _):
    word, backwards, shown = re.match(r"The letters of (\w+)( backwards)? are (.*),$", prompt).groups()
    letters = list(reversed(word)) if backwards else list(word)
    known = shown.split(", ")
    assert letters[: len(known)] == known
    return f" {letters[len(known)]}"


def upper_case(prompt, _):
    return f" {prompt.split()[-1].upper()}"


def first_letters(prompt, _):
    return f" {prompt.split()[-1][:1]}"


def brackets(prompt, _):
    """Take out innermost pairs until none is left."""
    text = re.sub(r"[a-z ]", "", prompt)
    while (shorter := re.sub(r"\(\)|\[\]|\{\}|<>", "", text)) != text:
        text = shorter
    return " " + dict(("()", "[]", "{}", "<>"))[text[-1]]


def association(prompt, _):
    asked = re.search(r"meaning of (\w+) is$", prompt)[1]
    return " " + re.search(rf"{asked} means (\w+)", prompt)[1]


def tracking(prompt, _):
    return " " + dict(re.findall(r"(\w+) went to the (\w+)", prompt))[re.search(r"Now (\w+) is", prompt)[1]]


def handing_over(prompt, _):
    holder = prompt.split()[0]
    for giver, taker in re.findall(r"(\w+) gives the \w+ to (\w+)", prompt):
        assert giver == holder
        holder = taker
    return f" {holder}"


def passive(prompt, _):
    subject, verb, victim = re.match(r"The (\w+) (\w+) the (\w+)\.", prompt).groups()
    assert prompt.endswith(f"So the {victim} was {verb} by the")
    return f" {subject}"


def pairs_of(pairs, prompt, pattern):
    """The partner of the last word asked for, after a pair of the same list."""
    first, second, asked = re.match(pattern, prompt).groups()
    assert (first, second) in pairs
    [answer] = {two for one, two in pairs if one == asked}
    return f" {answer}"


def opposites(prompt, _):
    pairs = [pair[::side] for *pair, _ in OPPOSITES for side in (1, -1)]
    return pairs_of(list(map(tuple, pairs)), prompt, r"The opposite of (\w+) is (\w+), and the opposite of (\w+) is$")


def capital_cities(prompt, _):
    return pairs_of(CAPITALS, prompt, r"(\w+) is the capital of (\w+), and (\w+) is the capital of$")


def plural(prompt, _):
    return pairs_of(PLURALS, prompt, r"one (\w+), two (\w+), one (\w+), two$")


def past_tense(prompt, _):
    return pairs_of(PASTS, prompt, r"Today we (\w+), yesterday we (\w+)\. Today we (\w+), yesterday we$")


def odd_one_out(prompt, _):
    words = words_of(re.match(r"Of (.*), the one of another kind is$", prompt)[1])
    [odd] = [kind[0] for kind in ([word for word in words if word in kind] for kind in KINDS) if len(kind) == 1]
    return f" {odd}"


def conditional(prompt, _):
    thing, state, asked = re.search(r"\. The (\w+) is (\w+)\. So the (\w+) is$", prompt).groups()
    return " " + re.search(rf"If the {thing} is {state}, the {asked} is (\w+)\.", prompt)[1]


def quantifier(prompt, _):
    kind, place, colour = re.match(r"(?:Every|No) (\w+) in the (\w+) is (\w+)\.", prompt).groups()
    assert f"is a {kind} in the {place}." in prompt
    return f" {'not ' * prompt.startswith('No ')}{colour}"


def either_or(prompt, _):
    names = set(re.match(r"Either (\w+) or (\w+) has", prompt).groups())
    [left] = names - {re.search(r"It is not (\w+)\.", prompt)[1]}
    return f" {left}"


def relative_agreement(prompt, continuations):
    subject = re.match(r"The (\w+) that the \w+ \w+$", prompt)[1]
    singular, plural = next(pair for pair in VERBS if f" {pair[0]}" in continuations)
    return f" {plural if subject.endswith('s') else singular}"


def determiner(prompt, continuations):
    noun = min(continuations, key=len)
    return noun if prompt.split()[-1] in ("this", "that") else noun + "s"


def tense(prompt, continuations):
    [will] = [one for one in continuations if one.startswith(" will ")]
    past = f" {dict(PASTS)[will.split()[1]]}"
    return will if prompt.startswith("Tomorrow") else past


def age(prompt, _):
    years, gap = numbers_in(prompt)
    return f" {years + gap * (1 if 'older' in prompt else -1)}"


NAMED = (
    squares, growing_steps, repeating, letter_groups, parity, larger_or_smaller, largest, ordinal, counting, calendar, clock,
    roman, number_words, units, mapping, spelling, upper_case, first_letters, brackets, association, tracking, handing_over,
    passive, opposites, capital_cities, plural, past_tense, odd_one_out, conditional, quantifier, either_or,
    relative_agreement, determiner, tense, age, inference, copying, negation, syntax,
)  # fmt: skip
RULES = {rule.__name__: rule for rule in NAMED} | {
    "near_retrieval": retrieval, "far_retrieval": retrieval, "zigzag": every_second, "interleaved": every_second,
    **dict.fromkeys(("addition", "subtraction", "multiplication", "division"), calculation),
    **dict.fromkeys(("sorting", "alphabetical_order", "reversal"), ordered),
}  # fmt: skip

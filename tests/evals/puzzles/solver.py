"""Solves generated puzzles from their text alone, each family by reading its sentences; knows nothing of the generators."""

import itertools
import re

from interp.evals.puzzles.generate import COMPARATIVES, OPPOSITES, PAIRS, VERBS

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


RULES = {
    "near_retrieval": retrieval, "far_retrieval": retrieval, "inference": inference, "copying": copying,
    "negation": negation, "syntax": syntax,
}  # fmt: skip

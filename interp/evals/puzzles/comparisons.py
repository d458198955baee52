"""Two continuations to compare. Items come with their mirror images, so that half are right for who prefers a word."""

from __future__ import annotations

import numpy as np

from interp.evals.puzzles import words
from interp.evals.puzzles.items import Group, Item


def negation(random: np.random.Generator) -> Group:
    """``The door is not open. The door is`` goes on with ``closed`` rather than ``open``.

    Four together: of both words, affirmed and denied. Who repeats what was said is right in half of them, and so is who
    never does.
    """
    *pair, subjects = words.OPPOSITES[random.integers(len(words.OPPOSITES))]
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


def _agreement(random: np.random.Generator) -> Group:
    """``The keys near the table`` goes on with ``are``; four together, both nouns in singular and plural."""
    subject, other = (words.NOUNS[index] for index in random.permutation(len(words.NOUNS))[:2])
    preposition = words.PREPOSITIONS[random.integers(len(words.PREPOSITIONS))]
    singular, plural = words.VERBS[random.integers(len(words.VERBS))]
    group = []
    for other_ending in ("", "s"):
        for ending, better, worse in (("", singular, plural), ("s", plural, singular)):
            prompt = f"The {subject}{ending} {preposition} the {other}{other_ending}"
            group.append(Item("syntax", prompt, compare=(f" {better}", f" {worse}")))
    return group


def _reflexive(random: np.random.Generator) -> Group:
    """``The queen near the king saw`` goes on with ``herself``; two together, the nouns exchanged."""
    he, she = words.PAIRS[random.integers(len(words.PAIRS))]
    preposition = words.PREPOSITIONS[random.integers(len(words.PREPOSITIONS))]
    verb = words.REFLEXIVE_VERBS[random.integers(len(words.REFLEXIVE_VERBS))]
    return [
        Item("syntax", f"The {he} {preposition} the {she} {verb}", compare=(" himself", " herself")),
        Item("syntax", f"The {she} {preposition} the {he} {verb}", compare=(" herself", " himself")),
    ]

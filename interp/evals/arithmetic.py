"""Arithmetic with written steps: questions of four types, as examples to fine-tune on and as an evaluation."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import pandas as pd
import torch

from interp.data.tokenizer import encode_parts
from interp.errors import InterpError, nearest
from interp.evals.puzzles.scoring import share, told_of_biases
from interp.files import writing
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.provenance import Summarized
from interp.vocabulary import border_id

TEST_EVERY = 8  # one in so many problems is for tests, by its checksum
TRIES = 5000  # draws in a row that give nothing new before a type is taken for exhausted
ANSWER = re.compile(r"answer is\s+(\S+?)[.,;:!]*(?:\s|$)")
NAMES = ("Anna", "Tom", "Mary", "Peter", "Laura", "David", "Ruth", "Henry", "Emma", "George")
THINGS = ("apples", "books", "coins", "cups", "stones", "letters", "pens", "hats")
CONTAINERS = ("boxes", "bags", "shelves", "baskets", "rooms")


@dataclass(frozen=True)
class Problem:
    """A question, the steps to its answer, and the answer."""

    type: str
    prompt: str
    steps: str
    answer: str
    numbers: tuple[int, ...]  # what makes it this problem, in whatever words
    choices: int | None = None  # how many answers the question names, if it does

    @property
    def completion(self) -> str:
        """Steps and answer, as they follow the prompt."""
        return f" {self.steps} The answer is {self.answer}."

    @property
    def split(self) -> Literal["train", "test"]:
        """By a checksum of the numbers in any order, so that sets of whatever seed and size have no problem in common."""
        numbers = " ".join(map(str, sorted(self.numbers)))
        return "test" if crc32(f"{self.type} {numbers}".encode()) % TEST_EVERY == 0 else "train"

    def record(self) -> dict[str, str]:
        """Return it as a line of a file of examples."""
        return {"prompt": self.prompt, "completion": self.completion, "type": self.type, "answer": self.answer}


@dataclass(frozen=True, repr=False)
class ArithmeticResult(Summarized):
    """What a model made of arithmetic.

    `items` has a row per problem: family (its type), prompt, expected, written (all that the model wrote), answer (what it
    says is the answer, missing if nothing), final_answer (1 if that is the right one, letter by letter, else 0), chance.
    `families` has a row per type, and one for all: n, final_answer (the share of right ones), its Wilson interval `_low`
    and `_high`, and `_chance`: what guessing gets, one of the answers that the question names, and where it names none
    always the most frequent right answer of the type.
    """

    items: pd.DataFrame
    families: pd.DataFrame
    run: dict[str, Any]

    def _summary(self) -> dict[str, str]:
        right, chance = self.items["final_answer"].mean(), self.items["chance"].mean()
        return {
            "model": str(self.run.get("model", "unknown")),
            "asked": f"{len(self.items):,} problems of {self.items['family'].nunique():,} types",
            "answer": f"{right:.1%} of the answers are right, by guessing {chance:.1%}.", "next": ".families, .items",
        }  # fmt: skip


def generate(
    split: Literal["train", "test"], n: int, *, seed: int = 0, digits: int = 3, types: Sequence[str] | None = None
) -> list[Problem]:
    """Return `n` different problems, all types in every round, in an order that is drawn anew for each.

    They depend on the seed alone, fewer are the first of more, and none of one split is in the other of any seed.

    Args:
        split: "train" or "test".
        n: of all types together.
        seed: of the numbers and words.
        digits: most of a number in a sum of two; numbers of longer sums and word problems have one less.
        types: of `TYPES` (default: all).

    Raises:
        InterpError: an unknown type, fewer than one problem or digit, or more problems than a type has.
    """
    names = list(TYPES) if types is None else list(dict.fromkeys(types))
    for name in names:
        if name not in TYPES:
            raise InterpError(
                f"There is no type of arithmetic {name!r}; choose from {', '.join(TYPES)}{nearest(name, TYPES)}"
            )
    if n < 1 or not 1 <= digits <= 15:
        raise InterpError(f"{n} problems of {digits} digits were asked for; at least 1 is needed, of 1 to 15 digits.")
    random, rounds = np.random.default_rng(seed), -(-n // len(names))
    turns = np.concatenate([random.permutation(len(names)) for _ in range(rounds)])[:n].tolist()
    own = [iter(_distinct(name, split, turns.count(place), seed, digits)) for place, name in enumerate(names)]
    return [next(own[place]) for place in turns]


def _distinct(name: str, split: str, n: int, seed: int, digits: int) -> list[Problem]:
    random, found, in_vain = np.random.default_rng([seed, crc32(name.encode())]), dict[str, Problem](), 0
    while len(found) < n:
        problem = TYPES[name](random, digits)
        new = problem.split == split and problem.prompt not in found
        in_vain = 0 if new else in_vain + 1
        if in_vain > TRIES:
            raise InterpError(
                f"Of the type {name} there are little more than {len(found)} {split} problems of {digits} digits; ask for "
                "fewer, or for more digits."
            )
        if new:
            found[problem.prompt] = problem
    return list(found.values())


def write_arithmetic(
    folder: Path, n: int, n_test: int, *, seed: int = 0, digits: int = 3, types: Sequence[str] | None = None
) -> list[Path]:
    """Write train.jsonl and test.jsonl, a problem a line, as examples for `python -m interp.train --examples`.

    Raises:
        InterpError: as `generate`, or the folder cannot be written.
    """
    sizes: dict[Literal["train", "test"], int] = {"train": n, "test": n_test}
    texts = {
        f"{split}.jsonl": "".join(
            json.dumps(problem.record()) + "\n"
            for problem in generate(split, size, seed=seed, digits=digits, types=types)
        )
        for split, size in sizes.items()
    }
    with writing(folder) as beside:
        beside.mkdir()
        for name, text in texts.items():
            (beside / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def evaluate(
    model: HookedSymmetryBrokenTransformer,
    problems: Sequence[Problem] | None = None,
    *,
    seed: int = 0,
    n_items: int = 200,
    digits: int = 3,
    batch_size: int = 32,
    on_answered: Callable[[int], None] = lambda count: None,
) -> ArithmeticResult:
    """Let a model write on after each question, always the likeliest token, and compare the answer it comes to.

    It may write twice as many tokens as the right steps have; a border token ends it. The model runs in evaluation mode.

    Args:
        model: with a tokenizer.
        problems: what to ask (default: those of `generate` for tests).
        seed, n_items, digits: of the generated ones, n_items a type.
        batch_size: questions at a time; changes results by float32 rounding only.
        on_answered: hears how many each batch has answered.

    Raises:
        InterpError: no problems, one that with its steps is longer than n_ctx, or no tokenizer.
    """
    asked = generate("test", n_items * len(TYPES), seed=seed, digits=digits) if problems is None else list(problems)
    if not asked:
        raise InterpError("There are no problems to evaluate; give at least one.")
    told = told_of_biases(model)
    written = _written(model, asked, batch_size, on_answered)
    rows = []
    for problem, text in zip(asked, written, strict=True):
        found = final_answer(text)
        rows.append({
            "family": problem.type, "kind": "arithmetic", "prompt": problem.prompt, "expected": problem.answer,
            "written": text, "answer": found, "final_answer": float(found == problem.answer),
            "chance": np.nan if problem.choices is None else 1 / problem.choices,
        })  # fmt: skip
    items = pd.DataFrame(rows)
    for _, own in items.groupby("family"):
        constant = own["expected"].value_counts().iloc[0] / len(own)
        items.loc[own.index, "chance"] = own["chance"].fillna(constant)
    names = [*(name for name in TYPES if name in set(items["family"])), *items["family"].unique()]
    families = [_summary(name, items.loc[items["family"] == name]) for name in dict.fromkeys(names)]
    run = {
        "model": model.cfg.model_name, "d_vocab": model.cfg.d_vocab, "n_items": len(asked),
        "mean_bias": not told, "warnings": told,
        "seed": seed if problems is None else None, "digits": digits if problems is None else None,
    }  # fmt: skip
    return ArithmeticResult(items, pd.DataFrame([*families, _summary("all", items)]), run)


def final_answer(written: str) -> str | None:
    """Return what follows the last "answer is", without the mark that ends the sentence; None if nothing does."""
    found = ANSWER.findall(written)
    return found[-1] if found else None


def _summary(name: str, items: pd.DataFrame) -> dict[str, Any]:
    right, low, high = share(items["final_answer"].to_numpy(float))
    return {
        "family": name, "kind": "arithmetic", "n": len(items), "final_answer": right, "final_answer_low": low,
        "final_answer_high": high, "final_answer_chance": items["chance"].mean(),
    }  # fmt: skip


def _written(
    model: HookedSymmetryBrokenTransformer,
    problems: Sequence[Problem],
    batch_size: int,
    on_answered: Callable[[int], None],
) -> list[str]:
    """Return what the model writes after each prompt, until a border."""
    tokenizer = model.need_tokenizer()
    border, n_ctx = border_id(tokenizer), model.cfg.n_ctx
    prompts = [[border, *tokens] for tokens in encode_parts(tokenizer, [problem.prompt for problem in problems])]
    rooms = [len(tokens) + 1 for tokens in encode_parts(tokenizer, [problem.completion for problem in problems])]
    for problem, prompt, room in zip(problems, prompts, rooms, strict=True):
        if len(prompt) + room > n_ctx:
            raise InterpError(
                f"{problem.prompt!r} and its steps are {len(prompt) + room} tokens; this model has n_ctx {n_ctx}: use "
                "fewer digits, or a model of a longer context."
            )
    order = sorted(range(len(problems)), key=lambda index: len(prompts[index]))
    written: dict[int, str] = {}
    with model.evaluating():
        for start in range(0, len(order), max(batch_size, 1)):
            batch = order[start : start + batch_size]
            longest = max(len(prompts[index]) for index in batch)
            gaps = [longest - len(prompts[index]) for index in batch]
            tokens = torch.tensor([[border] * gap + prompts[index] for gap, index in zip(gaps, batch, strict=True)])
            mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps])
            device = model.embed.weight.device
            found: Any = model.generate(
                tokens.to(device), max_new_tokens=min(2 * max(rooms[index] for index in batch), n_ctx - longest),
                eos_token_id=border, do_sample=False, attention_mask=mask.to(device), return_type="tokens", verbose=False,
            )  # fmt: skip
            for index, row in zip(batch, found[:, longest:].tolist(), strict=True):
                written[index] = str(tokenizer.decode(row[: row.index(border)] if border in row else row))
            on_answered(len(batch))
    return [written[index] for index in range(len(problems))]


def two_numbers(random: np.random.Generator, digits: int) -> Problem:
    """``What is 47 + 85?`` is added digit by digit, from the right: ``7 + 5 = 12, carry 1. 4 + 8 + 1 = 13.``"""
    a, b = _number(random, digits), _number(random, digits)
    steps, carry = [], 0
    for place in range(max(len(str(a)), len(str(b)))):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        steps.append(f"{x} + {y}{' + 1' * carry} = {total}{', carry 1' * (total > 9)}.")
        carry = total // 10
    return Problem("two_numbers", f"What is {a} + {b}?", " ".join(steps), str(a + b), (a, b))


def several_numbers(random: np.random.Generator, digits: int) -> Problem:
    """``What is 12 + 45 + 8?`` is added one by one: ``12 + 45 = 57. 57 + 8 = 65.``"""
    numbers = [_number(random, max(digits - 1, 1)) for _ in range(int(random.integers(3, 6)))]
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"{total} + {number} = {total + number}.")
        total += number
    asked = " + ".join(map(str, numbers))
    return Problem("several_numbers", f"What is {asked}?", " ".join(steps), str(total), tuple(numbers))


def comparison_or_parity(random: np.random.Generator, digits: int) -> Problem:
    """``Which is larger, 345 or 354?`` is compared digit by digit from the left; ``Is 347 even or odd?`` by its last one."""
    if random.random() < 0.5:
        number = _number(random, digits + 1)
        last, word = number % 10, ("even", "odd")[number % 2]
        steps = f"It ends in {last}, and {last} is {word}."
        return Problem("comparison_or_parity", f"Is {number} even or odd?", steps, word, (number,), 2)
    a, word = _number(random, digits), ("larger", "smaller")[random.integers(2)]
    while (b := _number(random, digits)) == a:
        pass
    first, second = str(a), str(b)
    if len(first) != len(second):
        steps = [f"{a} has {len(first)} and {b} has {len(second)} digits."]
    else:
        same = next(place for place in range(len(first)) if first[place] != second[place])
        steps = [f"{digit} and {digit} are the same." for digit in first[:same]]
        x, y = first[same], second[same]
        steps.append(f"{x} is {'more' if x > y else 'less'} than {y}.")
    answer = max(a, b) if word == "larger" else min(a, b)
    asked = f"Which is {word}, {a} or {b}?"
    return Problem("comparison_or_parity", asked, " ".join(steps), str(answer), (a, b), 2)


def word_problem(random: np.random.Generator, digits: int) -> Problem:
    """Somebody gets and gives away things, or so many of them are in each of some boxes; one line for each step."""
    most, things = max(digits - 1, 1), THINGS[random.integers(len(THINGS))]
    if random.random() < 0.5:
        count, each, beside = int(random.integers(2, 10)), _number(random, most), _number(random, most)
        container = CONTAINERS[random.integers(len(CONTAINERS))]
        told = f"There are {each} {things} in each of {count} {container}, and {beside} {things} beside them."
        steps = f"{count} * {each} = {count * each}. {count * each} + {beside} = {count * each + beside}."
        asked = f"{told} How many {things} are there?"
        return Problem("word_problem", asked, steps, str(count * each + beside), (count, each, beside))
    name = NAMES[random.integers(len(NAMES))]
    first, more = _number(random, most), _number(random, most)
    less = int(random.integers(first + more + 1))
    asked = f"{name} has {first} {things}, gets {more} more and gives {less} away. How many {things} are left?"
    steps = f"{first} + {more} = {first + more}. {first + more} - {less} = {first + more - less}."
    return Problem("word_problem", asked, steps, str(first + more - less), (first, more, less))


def _number(random: np.random.Generator, digits: int) -> int:
    """Draw a number of one to so many digits, each as often."""
    length = int(random.integers(1, digits + 1))
    return int(random.integers(10 ** (length - 1) if length > 1 else 0, 10**length))


TYPES: dict[str, Callable[[np.random.Generator, int], Problem]] = {
    kind.__name__: kind for kind in (two_numbers, several_numbers, comparison_or_parity, word_problem)
}

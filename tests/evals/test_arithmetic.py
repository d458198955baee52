"""Arithmetic: every answer and step computed another way from the text, splits without a problem in common, and scoring."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.evals import arithmetic
from interp.evals.__main__ import app
from interp.evals.arithmetic import TYPES, evaluate, final_answer, generate
from interp.model.checkpoint import save_checkpoint

SETS = {(split, seed): generate(split, 800, seed=seed) for split in ("train", "test") for seed in (0, 1)}
EQUATION = re.compile(r"(\d+(?: [+*-] \d+)+) = (\d+)")


def solved(prompt):
    """The answer to a question, from its text alone."""
    numbers = [int(number) for number in re.findall(r"\d+", prompt)]
    if prompt.startswith("What is"):
        return str(sum(numbers))
    if "even or odd" in prompt:
        return "odd" if prompt.split()[1][-1] in "13579" else "even"
    if prompt.startswith("Which is"):
        return str(sorted(numbers)["larger" in prompt])
    if "in each of" in prompt:
        each, count, beside = numbers
        return str(sum([each] * count) + beside)
    first, more, less = numbers
    return str(first + more - less)


@pytest.mark.parametrize("key", SETS, ids=str)
def test_every_answer_is_what_the_question_says_and_every_step_is_true(key):
    for problem in SETS[key]:
        assert problem.answer == solved(problem.prompt) == final_answer(problem.completion), problem
        equations = EQUATION.findall(problem.steps)
        assert all(eval(left) == int(right) for left, right in equations), problem
        assert equations or problem.type == "comparison_or_parity"
        if problem.type in ("several_numbers", "word_problem"):
            assert equations[-1][1] == problem.answer


def test_the_digits_of_a_sum_of_two_are_those_of_its_steps():
    for problem in SETS["train", 0]:
        if problem.type == "two_numbers":
            digits = [right for _, right in EQUATION.findall(problem.steps)]
            assert int(digits[-1] + "".join(right[-1] for right in digits[-2::-1])) == int(problem.answer)
            assert problem.steps.count("carry") == sum(len(right) == 2 for right in digits)


def test_the_digits_that_a_comparison_looks_at_decide_it():
    for problem in SETS["train", 0]:
        if found := re.search(r"(\d) is (more|less) than (\d)\.", problem.steps):
            first, second = re.findall(r"\d+", problem.prompt)
            same = problem.steps.count("are the same")
            assert first[:same] == second[:same] and (first[same], second[same]) == (found[1], found[3])
            assert (found[1] > found[3]) == (found[2] == "more") == (int(first) > int(second))


def numbers_of(problem):
    return problem.type, tuple(sorted(re.findall(r"\d+", problem.prompt)))


def test_training_and_test_problems_have_nothing_in_common_whatever_their_seeds_and_wording():
    train, test = ({numbers_of(one) for seed in (0, 1) for one in SETS[split, seed]} for split in ("train", "test"))
    assert not train & test and len(test) > 800


def test_the_same_seed_gives_the_same_problems_of_all_types_and_fewer_are_the_first_of_more():
    few = generate("train", 30, seed=1)
    assert few == SETS["train", 1][:30] != SETS["train", 0][:30]
    types = [problem.type for problem in SETS["train", 1]]
    assert all(set(types[start : start + 4]) == set(TYPES) for start in range(0, 800, 4))
    assert set(types[7::8]) == set(TYPES)  # what training holds out
    assert len({problem.prompt for problem in SETS["test", 0]}) == 800
    assert [one for one in SETS["test", 0] if one.type == "word_problem"][:5] == generate(
        "test", 5, types=["word_problem"]
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 7 + 5 = 12. The answer is 12.", "12"), ("The answer is 3.5.", "3.5"), (" The answer is odd", "odd"),
        ("The answer is 4. No, the answer is 5!", "5"), ("12", None), ("The answer is", None), ("The answer is 1, so", "1"),
    ],
)  # fmt: skip
def test_the_final_answer_is_what_follows_the_last_answer_is(text, answer):
    assert final_answer(text) == answer


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(n_ctx=300)


def test_what_a_model_writes_in_batches_is_what_it_writes_alone_without_a_cache(model, monkeypatch):
    problems, texts = generate("test", 6, digits=1), []
    monkeypatch.setattr(arithmetic, "final_answer", texts.append)
    found = evaluate(model, problems, batch_size=4).items["written"].tolist()
    border = model.tokenizer.bos_token_id
    for problem, text in zip(problems, found, strict=True):
        prompt = model.to_tokens(problem.prompt)
        alone = model.generate(
            prompt, max_new_tokens=40, do_sample=False, use_past_kv_cache=False, verbose=False, return_type="tokens"
        )[0, prompt.shape[1] :].tolist()
        expected = model.tokenizer.decode(alone[: alone.index(border)] if border in alone else alone)
        assert text and (text.startswith(expected) or expected.startswith(text))
    assert texts == found


def test_the_share_of_right_answers_has_its_wilson_interval_and_what_guessing_gets(model, monkeypatch):
    problems = generate("test", 80)
    wrong = {problem.prompt for problem in problems[::5]}
    monkeypatch.setattr(
        arithmetic, "_written",
        lambda _, asked, *more: ["" if one.prompt in wrong else f" The answer is {one.answer}." for one in asked],
    )  # fmt: skip
    result = evaluate(model, problems)
    families = result.families.set_index("family")
    assert families.index.tolist() == [*TYPES, "all"]
    for name, row in families.iterrows():
        own = [problem for problem in problems if name in (problem.type, "all")]
        right = sum(problem.prompt not in wrong for problem in own)
        assert row["n"] == len(own) and row["final_answer"] == right / len(own)
        interval = binomtest(right, len(own)).proportion_ci(method="wilson")
        np.testing.assert_allclose([row["final_answer_low"], row["final_answer_high"]], interval)
    answers = [problem.answer for problem in problems if problem.type == "two_numbers"]
    most = max(answers.count(answer) for answer in answers) / len(answers)
    assert families.loc["two_numbers", "final_answer_chance"] == pytest.approx(most)
    assert families.loc["comparison_or_parity", "final_answer_chance"] == 0.5
    assert result.items["answer"].isna().sum() == len(wrong)


def test_the_command_writes_both_files_and_the_evaluation_its_tables_and_page(model, tmp_path):
    def call(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done

    call("arithmetic", tmp_path / "sums", "--n", 20, "--n-test", 8, "--seed", 1)
    for split, n in (("train", 20), ("test", 8)):
        lines = (tmp_path / "sums" / f"{split}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [one.record() for one in generate(split, n, seed=1)]
    save_checkpoint(model, tmp_path / "model")
    asked = ("--arithmetic", "--n-items", 2, "--digits", 1, "--corpus", "none")
    done = call(tmp_path / "model", *asked, "-o", tmp_path / "out")
    assert "word_problem" in done.stdout and "Arithmetic: the answer" in done.stdout
    families = pd.read_parquet(tmp_path / "out" / "families.parquet")
    assert (
        families["family"].tolist() == [*TYPES, "all"] and len(pd.read_parquet(tmp_path / "out" / "items.parquet")) == 8
    )
    call(tmp_path / "model", *asked, "--families", "two_numbers", "-o", tmp_path / "one")
    assert pd.read_parquet(tmp_path / "one" / "items.parquet")["family"].tolist() == ["two_numbers"] * 2
    page = (tmp_path / "out" / "evals.html").read_text()
    assert "<h1>Arithmetic</h1>" in page and "<title>Arithmetic of" in page  # no loss was measured


def test_bad_input_is_told_in_a_sentence(model, make_model, tmp_path):
    with pytest.raises(InterpError, match=r"no type of arithmetic 'two_number'.*did you mean 'two_numbers'"):
        generate("train", 4, types=["two_number"])
    with pytest.raises(InterpError, match=r"little more than .* test problems of 1 digits; ask for fewer"):
        generate("test", 400, digits=1)
    for n, digits in ((0, 3), (4, 0), (4, 99)):
        with pytest.raises(InterpError, match="at least 1 is needed"):
            generate("train", n, digits=digits)
    with pytest.raises(InterpError, match="this model has n_ctx 20: use fewer digits"):
        evaluate(make_model(), n_items=2)
    with pytest.raises(InterpError, match="no problems to evaluate"):
        evaluate(model, [])
    done = CliRunner().invoke(app, ["arithmetic", str(tmp_path), "--n", "0"])
    assert done.exit_code == 1 and "n is 0" in done.output
    done = CliRunner().invoke(app, ["somewhere", "--arithmetic", "--items", "a.json"])
    assert done.exit_code == 1 and "Both --arithmetic and --items" in done.output

"""The tutorial and the ten tasks run as they stand, from top to bottom, in an empty folder, on beginnings of articles."""

import ast
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.data.corpora import corpus
from tests import commands

DOCS = Path(__file__).parents[1] / "docs"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LENGTH = 1500  # characters of an article that are read here
FEWER = ("--steps 80", "--steps 6")  # a minute of training
LONGEST = 3  # lines of a task

pytestmark = pytest.mark.slow


def blocks(page):
    """The language and the code of each block of a page."""
    return FENCED.findall((DOCS / page).read_text(encoding="utf-8"))


def run(code, names):
    """Run a block, and return the value of its last line if it has one, as a notebook shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "page", "exec"), names)
    return eval(compile(ast.Expression(last.value), "page", "eval"), names) if last else None


@pytest.fixture(scope="module")
def fresh(own_cache, tmp_path_factory):
    """An empty folder, and articles of which only the beginning is there."""
    whole = corpus.NAMED["wikipedia-sample"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fresh"))
        patch.setitem(corpus.NAMED, "wikipedia-sample", lambda: ((name, text[:LENGTH]) for name, text in whole()))
        yield Path.cwd()


def test_the_tutorial_runs_from_top_to_bottom(fresh, capfd):
    names, said = {}, []
    for language, code in blocks("tutorial.md"):
        if language == "python":
            run(code, names)
            said.append(capfd.readouterr().out)
            continue
        assert language == "bash"
        lines = code.splitlines()
        assert any(FEWER[0] in line for line in lines)
        for line in lines:
            program, *words = shlex.split(line.replace(*FEWER))
            assert program == "python"
            done = commands.run([sys.executable, *words], cwd=fresh, limit=500)
            assert done.returncode == 0, done.stderr
    assert said[0] == "4 6\n" and "' sat'" in said[1]
    assert "log2_amplification_beyond" in said[3] and "findings," in said[4] and len(names["found"]) > 0
    assert "L" in said[7] and "random" in said[7]
    assert (fresh / "report.html").stat().st_size > 1e6
    again, first = (names[name].heads["log2_amplification"].to_numpy() for name in ("again", "result"))
    assert np.array_equal(again, first, equal_nan=True)
    assert (fresh / "reports" / "mine" / "report.html").is_file()


def run_tasks():
    """Return what is defined, what each block but the last gives, and the last. The model of task 9 lies at its id."""
    names, values = {}, []
    first, *rest = [code for _, code in blocks("tasks.md")]
    run(first, names)
    small_qwen("Qwen/Qwen2.5-0.5B", names["model"].tokenizer)
    for code in rest[:-1]:
        values.append(run(code, names))
    return names, values, rest[-1]


def small_qwen(folder, tokenizer):
    """Write a Qwen2 with random weights and biases."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, max_position_embeddings=128, **sizes)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.bias)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_there_are_ten_tasks_of_one_to_three_lines():
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"^## (\d+)\. ", page, re.MULTILINE)] == list(range(1, 11))
    lengths = [len(code.splitlines()) for _, code in blocks("tasks.md")[1:]]
    assert len(lengths) == 10 and min(lengths) >= 1 and max(lengths) <= LONGEST


@pytest.mark.browser
def test_the_tasks_do_what_they_say(fresh, chromium):
    """In one test, as each test process would run all of them anew."""
    tasks = run_tasks()
    check_that_the_patterns_with_and_without_differ_by_the_bias_scores(tasks)
    check_that_rows_of_the_tasks_are_those_asked_for(tasks)
    check_that_steering_changes_the_text_and_leaves_the_model_alone(tasks)
    check_that_a_comparison_is_of_both_models(tasks)
    check_that_a_frame_is_read_as_its_texts_are(tasks)
    check_that_the_own_pipeline_finds_its_own_class(tasks)
    check_that_the_qwen_is_read_along_its_own_bias(tasks)
    check_that_a_figure_is_a_pdf(tasks)


def check_that_the_patterns_with_and_without_differ_by_the_bias_scores(tasks):
    names = tasks[0]
    _, cache = names["model"].run_with_cache("The cat sat on the mat.")
    scores = cache["blocks.1.attn.hook_bias_scores"][0, 0]  # [key_pos]
    raised = names["without"] * scores.exp()
    torch.testing.assert_close(names["pattern"], raised / raised.sum(-1, keepdim=True))
    assert (names["pattern"] - names["without"]).abs().max() > 0.01


def check_that_rows_of_the_tasks_are_those_asked_for(tasks):
    names, (_, determiners, tokens, table, *_), _ = tasks
    assert len(determiners) and set(determiners["token_class"]) == {"DET"} and determiners["beyond_ci_low"].min() > 0
    assert (
        0 < len(tokens) <= 10 and tokens["count"].min() >= 10 and tokens["bias_score_contrast"].is_monotonic_decreasing
    )
    assert table.shape == (24, names["result"].heads["token_class"].nunique())
    row = names["result"].heads.query("layer == 2 and head == 3 and token_class == 'DET'").iloc[0]
    assert table.loc[(2, 3), "DET"] == row["log2_amplification"]


def check_that_steering_changes_the_text_and_leaves_the_model_alone(tasks):
    names = tasks[0]
    plain = names["model"].generate("The history of the", max_new_tokens=20, seed=0, verbose=False)
    assert names["continuation"].startswith("The history of the") and names["continuation"] != plain
    assert not names["model"].generate("", max_new_tokens=1, seed=0, verbose=False).startswith("The history")


def check_that_a_comparison_is_of_both_models(tasks):
    names, values, _ = tasks
    assert [names["comparison"].run[side]["model"] for side in "ab"] == ["tiny-symmetric", "tiny-bq"]
    differences = values[5].query("n_tokens >= 100")
    assert len(differences) > 5 and (differences["value_b"] > differences["value_a"]).mean() > 0.8


def check_that_a_frame_is_read_as_its_texts_are(tasks):
    names = tasks[0]
    strings = interp.amplification(names["model"], names["texts"], schemes=("surface",))
    pd.testing.assert_frame_equal(names["of_frame"].heads, strings.heads)


def check_that_the_own_pipeline_finds_its_own_class(tasks):
    names = tasks[0]
    planets = names["of_planets"].heads.query("token_class == 'PLANET'")
    assert len(planets) == 24 and planets["n_tokens"].min() >= 1
    spans = [names["model"].tokenizer(text, return_offsets_mapping=True)["offset_mapping"] for text in names["texts"]]
    spans.append(names["model"].tokenizer("Mars is red.", return_offsets_mapping=True)["offset_mapping"])
    named = [list(re.finditer(r"\bMars\b", text)) for text in [*names["texts"], "Mars is red."]]
    pairs = ((span, one) for own, found in zip(spans, named, strict=True) for one in found for span in own)
    assert planets["n_tokens"].iloc[0] == sum(start < one.end() and end > one.start() for (start, end), one in pairs)


def check_that_the_qwen_is_read_along_its_own_bias(tasks):
    of_qwen = tasks[0]["of_qwen"]
    assert of_qwen.run["direction"] == "effective" and len(of_qwen.heads[["layer", "head"]].drop_duplicates()) == 4
    assert of_qwen.heads["log2_amplification"].abs().max() > 0.01


def check_that_a_figure_is_a_pdf(tasks):
    names, _, code = tasks
    run(code, names)
    assert Path("heads.pdf").read_bytes().startswith(b"%PDF")

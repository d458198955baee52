"""The adapter for lm-evaluation-harness, against the model's own losses and on a task whose data is a local file."""

import itertools
import json
import math

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from interp.errors import InterpError
from interp.evals.lm_eval import HarnessLM

TASK = """
task: local_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(n_ctx=16)


def requests(kind, *arguments):
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


def slow_loss(model, tokens, first):
    """Sum of the losses of tokens[first:], one forward pass a token."""
    return sum(
        -model(torch.tensor([tokens[:end]]))[0, -1].double().log_softmax(-1)[tokens[end]].item()
        for end in range(first, len(tokens))
    )


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_loglikelihood_is_that_of_the_continuation_after_the_context_whatever_the_batch(model, batch_size):
    pairs = [("The quick brown", " fox"), ("In 1905", " Albert Einstein"), ("", "The fox"), ("Why would", " they?")]
    found = HarnessLM(model, batch_size).loglikelihood(requests("loglikelihood", *pairs), disable_tqdm=True)
    for (context, continuation), (value, _) in zip(pairs, found, strict=True):
        start = model.to_tokens(context)[0].tolist() if context else [model.tokenizer.bos_token_id]
        whole = start + model.tokenizer.encode(continuation)
        assert value == pytest.approx(-slow_loss(model, whole, len(start)), abs=1e-4)


def test_only_what_the_model_would_say_itself_is_greedy(model):
    prompt = "The quick"
    said = model.generate(prompt, 3, do_sample=False, verbose=False, return_type="tokens")[0, -3:].tolist()
    start = model.to_tokens(prompt)[0].tolist()
    other = [*said[:2], (said[2] + 1) % model.cfg.d_vocab]
    found = HarnessLM(model)._loglikelihood_tokens([(None, start, said), (None, start, other)])
    assert [greedy for _, greedy in found] == [True, False]


def test_a_context_that_is_too_long_loses_its_beginning(model):
    tokens = torch.randint(model.cfg.d_vocab, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    [(value, _)] = HarnessLM(model)._loglikelihood_tokens([(None, tokens[:37], tokens[37:])])
    assert value == pytest.approx(-slow_loss(model, tokens[-17:], 14), abs=1e-4)


def test_rolling_loglikelihood_predicts_every_token_of_a_long_text_once(model):
    text = "Prices rose by $5.30 to 12% in well-known markets. Why would they?"
    tokens = [model.tokenizer.bos_token_id, *model.tokenizer.encode(text)]
    assert len(tokens) > 2 * model.cfg.n_ctx
    whole = range(16, len(tokens) - 1, 16)
    ends = [*whole, len(tokens) - 1]
    expected = slow_loss(model, tokens[:17], 1)
    for before, end in itertools.pairwise(ends):  # the last window is full, and only its new tokens count
        window = tokens[max(end - 16, 0) : end + 1]
        expected += slow_loss(model, window, len(window) - (end - before))
    [found] = HarnessLM(model).loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    assert found == pytest.approx(-expected, abs=1e-3)


def test_generation_is_greedy_and_stops_before_a_stop_word(model):
    plain = model.generate("The fox", 6, do_sample=False, verbose=False)[len("The fox") :]
    cut = plain[2:4]
    asked = [("The fox", {"until": [], "max_gen_toks": 6}), ("The fox", {"until": [cut], "max_gen_toks": 6})]
    found = HarnessLM(model).generate_until(requests("generate_until", *asked))
    assert found == [plain, plain.split(cut)[0]]


def test_a_prompt_longer_than_the_context_is_cut_and_still_continued(model):
    long = "In 1905 Albert Einstein published four papers, and none of them mentions a fox."
    [found] = HarnessLM(model).generate_until(requests("generate_until", (long, {"until": ["\n\n\n"]})))
    kept = model.to_tokens(long, truncate=False)[:, -8:]
    expected = model.generate(kept, 8, do_sample=False, verbose=False)[0, 8:]
    assert found == model.tokenizer.decode(expected, skip_special_tokens=True)


def test_a_continuation_longer_than_the_context_is_refused(model):
    with pytest.raises(InterpError, match="40 tokens; this model has n_ctx 16"):
        HarnessLM(model)._loglikelihood_tokens([(None, [1], [2] * 40)])


@pytest.mark.filterwarnings("default")
def test_a_task_with_local_data_gives_the_accuracy_that_the_losses_say(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    choices = [" fox", " dogs", " papers", " 13"]
    rows = [
        {"question": question, "choices": choices, "answer": number % 4}
        for number, question in enumerate(["The quick brown", "Albert Einstein", "Prices rose", "Why", "In 1905", "it"])
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK.format(data=tmp_path / "rows.jsonl", cache=tmp_path / "cache"))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = lm_eval.simple_evaluate(
        HarnessLM(model), tasks=["local_choice"], task_manager=manager, bootstrap_iters=0, log_samples=False
    )
    right = 0
    for row in rows:
        start = model.to_tokens(row["question"])[0].tolist()
        losses = [slow_loss(model, start + model.tokenizer.encode(choice), len(start)) for choice in choices]
        right += losses.index(min(losses)) == row["answer"]
    assert math.isclose(found["results"]["local_choice"]["acc,none"], right / len(rows))

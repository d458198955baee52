"""Fine-tuning on examples: batches, the loss of completions alone, and runs that go on to the same weights."""

import json
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.data.examples import TokenizedExamples
from interp.errors import InterpError
from interp.evals.held_out import summed_loss, validation_loss
from interp.model.checkpoint import load_model
from interp.train.batches import ExampleBatch, ExampleBatches, Prefetcher
from interp.train.config import TrainConfig
from interp.train.loop import train
from interp.train.run import prepare
from interp.train.step import completion_loss, optimizer_step
from tests import commands
from tests.processes import run_ranks
from tests.train.same_run import same_run


def random_examples(count, d_vocab, longest=18, seed=0):
    """Examples of random tokens and lengths, the second part of each learned."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest + 1, size=count)
    learned = np.concatenate([np.arange(n) >= random.integers(1, n) for n in lengths])
    return TokenizedExamples(random.integers(1, d_vocab, size=lengths.sum()), learned, np.cumsum(lengths), padding=0)


def one_by_one(model, examples, numbers):
    """The losses of learned tokens, from a forward pass of each example alone."""
    for number in numbers:
        end, length = examples.ends[number], examples.lengths[number]
        tokens = torch.from_numpy(examples.tokens[end - length : end])
        log_probabilities = model(tokens[None])[0].log_softmax(-1)
        for place in range(1, length):
            if examples.learned[end - length + place]:
                yield -log_probabilities[place - 1, tokens[place]]


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (7, 3), (3, 8)])
def test_batches_are_a_pure_function_of_the_step_and_every_example_comes_once_an_epoch(count, batch_size):
    examples = random_examples(count, 50)
    examples.tokens[examples.ends - examples.lengths] = np.arange(count)  # names them
    batches, tokens = ExampleBatches(examples, batch_size, 3), 0
    names = []
    for step in range(3 * count):
        assert batches.tokens_until(step) == tokens
        batch = batches.at(step)
        names += batch.tokens[:, 0].tolist()
        tokens += int(examples.lengths[batch.tokens[:, 0]].sum())
    for epoch in range(len(names) // count):
        assert sorted(names[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert names[:count] != names[count : 2 * count]
    ahead = Prefetcher(ExampleBatches(examples, batch_size, 3), torch.device("cpu"))
    for step in (5, 6, 1):
        found, expected = ahead.at(step), batches.at(step)
        assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.learned, expected.learned)
    ahead.close()


def test_the_parts_of_all_processes_are_the_batch_of_one_and_know_how_much_all_learn():
    examples = random_examples(11, 50)
    whole = ExampleBatches(examples, 8, 3)
    for step in (0, 1, 5):
        parts = [ExampleBatches(examples, 8, 3, rank, 4).at(step) for rank in range(4)]
        assert torch.equal(torch.cat([part.tokens for part in parts]), whole.at(step).tokens)
        assert {part.n_learned for part in parts} == {whole.at(step).learned.sum().item()}


def test_the_loss_and_its_gradient_are_those_of_the_learned_tokens_of_each_example_alone(make_model):
    model = make_model()
    examples = random_examples(6, model.cfg.d_vocab)
    batch = ExampleBatches(examples, 6, 0).at(0)
    expected = torch.stack(list(one_by_one(model, examples, range(6)))).mean()
    gradient = torch.autograd.grad(expected, list(model.parameters()))
    for size in (6, 2):  # in micro-batches of so many examples
        model.zero_grad()
        shares = [completion_loss(model, part, 1) for part in batch.split(size)]
        sum(shares).backward()
        torch.testing.assert_close(sum(shares), expected)
        for parameter, own in zip(model.parameters(), gradient, strict=True):
            torch.testing.assert_close(parameter.grad, own, atol=1e-6, rtol=1e-4)
    model.zero_grad(set_to_none=True)
    # of three processes, the mean of what each has
    shares = [completion_loss(model, part, 3) for part in batch.split(2)]
    torch.testing.assert_close(sum(shares) / 3, expected)


def test_the_held_out_loss_is_that_of_the_learned_tokens_whatever_the_batches_and_processes(make_model):
    model = make_model()
    examples = random_examples(9, model.cfg.d_vocab, seed=1)
    with torch.no_grad():
        expected = torch.stack(list(one_by_one(model, examples, range(9)))).mean().item()
    assert validation_loss(model, examples, batch_size=4) == pytest.approx(expected, abs=1e-5)
    parts = sum(summed_loss(model, examples, 2, rank, 3) for rank in range(3))
    assert (parts[0] / parts[1]).item() == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """Two dozen examples of adding one, as a file."""
    path = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    records = [{"prompt": f"{n} + 1 =", "completion": f" {n + 1}."} for n in range(24)]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture
def tuned(config, sums):
    def make(**changes):
        length = {} if "steps" in changes else {"epochs": 2}
        settings = {
            "corpus": str(sums),
            "examples": True,
            "vocabulary": 257,
            "steps": None,
            "evaluate_every": 4,
            "keep": 9,
        }
        return config(**{**settings, **length, "variant": "bqbv", "dropout": 0.1, **changes})

    return make


def test_a_run_takes_the_epochs_asked_for_and_measures_completions_alone(tuned, curve):
    folder = train(tuned(epochs=3))
    rows, model = curve(folder), load_model(folder)
    assert len(rows) == 8  # 3 x 21 examples in batches of 8
    run = prepare(tuned(output=folder.parent / "other"))
    assert len(run.tokens.training) == 21 and len(run.tokens.held_out) == 3
    assert rows[-1]["tokens"] == ExampleBatches(run.tokens.training, 8, 0).tokens_until(8)
    best = min(row["validation_loss"] for row in rows if "validation_loss" in row)
    assert validation_loss(model, run.tokens.held_out) == pytest.approx(best, abs=1e-5)
    told = (folder / "README.md").read_text()
    assert "of completions alone" in told and "--examples" in told and "--epochs 3" in told


def test_micro_batches_change_a_step_by_rounding_only(tuned):
    losses = []
    for size in (8, 2):
        run = prepare(tuned(micro_batch_size=size, dropout=0.0, overwrite=True))
        losses.append([value.item() for step in range(2) for value in _step(run, step)])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_the_balance_of_experts_is_part_of_the_loss_of_examples_too(tuned):
    losses = []
    for weight in (0.0, 0.5):
        run = prepare(tuned(load_balancing=weight, experts=2, experts_per_token=1, dropout=0.0, overwrite=True))
        losses.append(_step(run, 0)[0].item())
    assert losses[1] - losses[0] == pytest.approx(0.5 * run.model.experts_balance.item(), abs=1e-5)


def _step(run, step):
    values = optimizer_step(run, run.batches.at(step))
    run.progress.step += 1
    return values


def test_a_fine_tuning_resumed_from_any_state_ends_like_one_that_was_not_stopped(tuned, curve, tmp_path):
    whole = train(tuned(evaluate_every=2))
    part = shutil.copytree(whole, tmp_path / "part", ignore=shutil.ignore_patterns("step-*4", "step-*6"))
    torch.manual_seed(2)  # what a new process would have
    train(tuned(evaluate_every=2, output=part, resume=True))
    same_run(whole, part, curve)


@pytest.mark.slow
def test_a_fine_tuning_killed_in_the_middle_of_a_state_ends_like_one_that_was_not(sums, curve, tmp_path):
    def words(name, *more):
        told = f"--corpus {sums} --examples --vocabulary 257 --preset mini --epochs 4 --batch-size 4 --context 16"
        return [*told.split(), "--evaluate-every", "5", "--dropout", "0.1", "-o", str(tmp_path / name), *more]

    code = """
import os, signal, sys, torch
from interp.train.__main__ import app
save, calls = torch.save, []
def killed(value, path):
    calls.append(path)
    if len(calls) == 2:
        open(path, "wb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(value, path)
torch.save = killed
app(sys.argv[1:])
"""
    commands.run([sys.executable, "-m", "interp.train", *words("whole")], check=True)
    assert commands.run([sys.executable, "-c", code, *words("part")]).returncode == -signal.SIGKILL
    commands.run([sys.executable, "-m", "interp.train", *words("part", "--resume")], check=True)
    same_run(tmp_path / "whole", tmp_path / "part", curve)


@pytest.mark.slow
@pytest.mark.parametrize("distribute", ["ddp", "fsdp"])
def test_two_processes_go_on_from_experts_with_frozen_parts_as_one_does(tuned, sums, curve, tmp_path, distribute):
    start = train(tuned(steps=2, evaluate_every=2, context=16, experts=3, output=tmp_path / "start"))
    told = f"--corpus {sums} --examples --init {start} --layers blocks.1,ln_final --steps 4 --batch-size 8 --context 16"
    words = [*told.split(), "--evaluate-every", "2", "-o"]
    commands.run([sys.executable, "-m", "interp.train", *words, str(tmp_path / "one")], check=True)
    two = [*words, str(tmp_path / "two"), "--distribute", distribute]
    statuses, said = run_ranks([sys.executable, "-m", "interp.train", *two])
    assert statuses == [0, 0], said
    for one, two in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert one["tokens"] == two["tokens"]
        assert one.keys() == two.keys()
        for name in {"loss", "grad_norm", "validation_loss"} & one.keys():
            assert one[name] == pytest.approx(two[name], rel=1e-4)
    before, after = (load_model(folder).state_dict() for folder in (start, tmp_path / "two" / "step-00000004"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(("blocks.1.", "ln_final.")) for name in moved)


def test_other_examples_are_another_run(tuned, sums, tmp_path):
    settings = tuned(steps=2, corpus=str(shutil.copy(sums, tmp_path / "sums.jsonl")))
    train(settings)
    (tmp_path / "sums.jsonl").write_text(sums.read_text().replace("3.", "4."))
    with pytest.raises(InterpError, match="training tokens was 21 examples"):
        train(replace(settings, resume=True, steps=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2, "steps": 3}, "Both 3 steps and 2 epochs were given"), ({"epochs": 0}, "epochs is 0"),
        ({"tokens": 100, "examples": True}, "give --epochs"), ({"vocabulary": 300, "tokenizer": "a"}, "give one of them"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(InterpError, match=message):
        TrainConfig(**changes)


def test_epochs_of_a_text_go_through_all_its_contexts(config):
    run = prepare(config(steps=None, epochs=2))
    assert run.steps == 2 * run.batches.per_epoch > 2


def test_a_batch_goes_where_it_is_sent():
    batch = ExampleBatch(torch.arange(6).view(2, 3), torch.ones(2, 3, dtype=torch.bool), 4)
    assert batch.to(torch.device("meta")).device.type == "meta" and len(batch) == 2
    assert [len(part) for part in batch.split(1)] == [1, 1]

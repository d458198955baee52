import math
import sys

import numpy as np
import pytest
import torch

from interp.data.shards.open import TokenShards
from interp.errors import InterpError
from interp.evals.held_out import validation_loss
from interp.model.checkpoint import load_model, read_training
from interp.train.loop import duration, large, progress_line, train
from interp.train.run import prepare
from tests import commands


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_a_checkpoint_that_loads(config, curve):
    folder = train(config(variant="bqbv", store="float16"))
    rows = curve(folder)
    assert [row["step"] for row in rows] == list(range(1, 31))
    held_out = [row["validation_loss"] for row in rows if "validation_loss" in row]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0] < 0.95 * math.log(300)
    training = read_training(folder)
    assert training["best_validation_loss"] == min(held_out)
    assert training["command"].startswith("python -m interp.train --corpus ")
    assert training["command"] in (folder / "README.md").read_text()
    model = load_model(folder)
    assert model.cfg.q.mode == model.cfg.v.mode == "batch"
    run = prepare(config(output=folder.parent / "again", tokenizer=str(folder / "tokenizer.json")))
    assert validation_loss(model, run.tokens.held_out) == pytest.approx(min(held_out), abs=2e-3)  # float16 weights


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(config, tmp_path):
    runs = [train(config(output=tmp_path / name, seed=seed, steps=5)) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, same, other = (load_model(run).W_E for run in runs)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_best_checkpoint_and_the_last_states_stay(config, curve, monkeypatch):
    losses, weights = [3.0, 2.0, 4.0, 2.5], []

    def measured(model, *_, **__):
        weights.append(model.W_E.detach().clone())
        return torch.tensor([losses[len(weights) - 1], 1.0])

    monkeypatch.setattr("interp.train.loop.summed_loss", measured)
    folder = train(config(steps=8, evaluate_every=2, keep=2, directions=4))
    assert torch.equal(load_model(folder).W_E, weights[1])
    assert load_model(folder).component_names == [f"component:{k}" for k in range(4)]
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-00000006", "step-00000008"]
    assert torch.equal(load_model(folder / "step-00000008").W_E, weights[3])
    assert [row["validation_loss"] for row in curve(folder) if "validation_loss" in row] == losses
    assert "best validation loss: 2.0000" in (folder / "README.md").read_text()
    told = "4 directions (laid out orthogonally, each as long as mean 0.5), one drawn for each layer, std (0.05, 0.15)"
    assert f"b_Q: mode batch, {told}, one vector a layer" in (folder / "README.md").read_text()
    assert "| 8 |" in (folder / "README.md").read_text()


def test_a_plateau_ends_the_run_and_says_so(config, curve, monkeypatch, capsys):
    losses = iter([3.0, 2.0, 2.1, 2.2, 1.0])
    monkeypatch.setattr("interp.train.loop.summed_loss", lambda *_, **__: torch.tensor([next(losses), 1.0]))
    folder = train(config(steps=10, evaluate_every=1, patience=2))
    assert len(curve(folder)) == 4
    assert "has not fallen in 2 evaluations" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_in_one_sentence_and_keeps_the_best(config):
    with pytest.raises(InterpError, match=r"The (loss|norm of the gradient) is (nan|inf) at step"):
        train(config(lr=1e12, clip=0.0, warmup=0.0))
    folder = config().output
    with pytest.raises(InterpError, match=r"The (loss|norm of the gradient) is (nan|inf) at step"):
        train(
            config(
                optimizer="sgdm", schedule="constant", lr=1.0, clip=0.0, warmup=0.0, evaluate_every=1, overwrite=True
            )
        )
    assert load_model(folder)(torch.zeros(1, 4, dtype=torch.long)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("draws", ["step", "micro-batch"])
def test_micro_batches_give_the_gradient_of_the_whole_batch_when_the_bias_is_drawn_once(config, tmp_path, draws):
    runs = []
    for micro in (8, 4, 2):
        output = tmp_path / f"{draws}{micro}"
        run = train(config(output=output, steps=3, micro_batch_size=micro, bias_draws=draws, variant="bqbv"))
        runs.append(load_model(run / "step-00000003").W_E)
    for other in runs[1:]:
        assert torch.allclose(other, runs[0], atol=2e-5) == (draws == "step")


def test_one_line_tells_time_left_tokens_seen_the_best_loss_and_where_its_weights_are(config):
    run = prepare(config(steps=400))
    row = {"step": 100, "tokens": 12_800, "loss": 5.0, "seconds": 50.0, "tokens_per_second": 256.4}
    assert progress_line(run, row) == "100/400, 2 min 30 s left, 12.8k tokens, loss 5.000, 256 tokens/s"
    run.progress.evaluations, run.progress.best = [row], 4.25
    assert progress_line(run, {**row, "validation_loss": 4.5}) == (
        "100/400, 2 min 30 s left, 12.8k tokens, loss 5.000, validation 4.5000, best 4.2500 in "
        f"{run.config.output}, 256 tokens/s"
    )
    assert ", no time left, " in progress_line(run, {**row, "step": 400})
    assert [duration(seconds) for seconds in (0.4, 59.6, 61, 3600, 90_000)] == [
        "0 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "25 h 00 min",
    ]  # fmt: skip
    numbers = (999, 1000, 20_480, 999_949, 1_234_567, 45_600_000_000, 2_000_000_000_000)
    assert [large(number) for number in numbers] == ["999", "1k", "20.5k", "1M", "1.23M", "45.6B", "2,000B"]


def test_every_step_draws_a_new_bias_and_every_batch_is_new(config):
    run = prepare(config())
    run.model.train()
    draws = []
    for step, micro_batch in ((1, 0), (2, 0), (2, 1)):
        run.model.draw_biases(step, micro_batch=micro_batch)
        draws.append(run.model.biases_in_force()[0].clone())
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])
    assert not torch.equal(run.batches.at(0), run.batches.at(1))


def test_shards_train_without_a_tokenizer_and_hold_their_end_out(config, tmp_path):
    tokens = np.random.default_rng(0).integers(4096, size=20_000).astype(np.uint16)
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "shards" / "part.npy", tokens)
    folder = train(config(corpus=str(tmp_path / "shards"), steps=2, evaluate_every=1))
    assert load_model(folder).tokenizer is None
    assert load_model(folder).cfg.d_vocab == 4096
    run = prepare(config(corpus=str(tmp_path / "shards"), output=tmp_path / "again"))
    assert isinstance(run.tokens.training, TokenShards) and len(run.tokens.training) == 19_000
    assert (run.tokens.held_out == tokens[19_000:]).all()


@pytest.mark.slow
def test_the_training_forward_compiles_without_a_graph_break_in_every_bias_mode_and_with_experts():
    code = """
import torch
from interp.model.config import BiasConfig, ModelConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer
# one down to machine code
for mode, backend, directions in ("batch", "inductor", 2), ("fixed", "aot_eager", 1), ("learned", "aot_eager", 2):
    bias = BiasConfig(0.5, 0.1, mode, shared_across_heads=mode != "learned", directions=directions)
    cfg = ModelConfig(n_layers=1, d_model=8, n_heads=2, n_ctx=4, d_vocab=11, q=bias, v=bias)
    model = HookedSymmetryBrokenTransformer(cfg).train()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    losses = []
    for step in range(3):
        model.draw_biases(step)
        tokens = torch.arange(8).view(2, 4)
        losses.append(compiled(tokens, return_type="loss").item())
        assert abs(losses[-1] - model(tokens, return_type="loss").item()) < 1e-5
    assert (len(set(losses)) == 3) == (mode == "batch"), (mode, losses)
cfg = ModelConfig(n_layers=2, d_model=8, n_heads=2, n_ctx=4, d_vocab=11, num_experts=4)
model = HookedSymmetryBrokenTransformer(cfg).train()
expected = model(tokens, return_type="loss")
expected.backward()
gradients = [parameter.grad.clone() for parameter in model.parameters()]
model.zero_grad()
found = torch.compile(model, fullgraph=True)(tokens, return_type="loss")
found.backward()
assert abs(found.item() - expected.item()) < 1e-5 and model.experts_balance.item() >= 1
for parameter, gradient in zip(model.parameters(), gradients):
    assert torch.allclose(parameter.grad, gradient, atol=1e-6)
"""
    commands.run([sys.executable, "-c", code], check=True)

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.model.checkpoint import load_model, read_training
from interp.train.__main__ import app
from interp.train.config import TrainConfig
from interp.train.setup import model_config, resolved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5, "tokens": 100}, "Both 5 steps and 100 tokens"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"warmup": 1.5}, "warmup is 1.5"),
        ({"dropout": 2.0}, "dropout is 2.0; a share from 0 to below 1"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"seed": -1}, "seed is -1; a number from 0 to"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"clip": -1.0}, "clip is -1.0; a number from 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"final_lr": -0.1}, "final_lr is -0.1"),
        ({"patience": -1}, "patience is -1"),
        ({"charges_every": -5}, "charges_every is -5"),
        ({"resume": True, "overwrite": True}, "Both --resume and --overwrite"),
    ],
)
def test_contradictory_settings_are_refused(changes, message):
    with pytest.raises(InterpError, match=message):
        TrainConfig(**changes)


def test_biases_are_set_from_the_command_line():
    cfg = model_config(TrainConfig(variant="bqbv", mean_q="0", std_q="0.1:0.3", mean_v=",".join(["0.25"] * 32)))
    assert (cfg.q.mean, cfg.q.std, cfg.q.mode, cfg.q.shared_across_heads) == (0.0, (0.1, 0.3), "batch", True)
    assert cfg.v.mean == [0.25] * 32 and cfg.v.std == 0.05
    cfg = model_config(TrainConfig(variant="bq", bias_mode="learned", bias_per_head=True))
    assert (cfg.q.mode, cfg.q.shared_across_heads, cfg.v.mode) == ("learned", False, "none")
    cfg = model_config(TrainConfig(variant="bqbv", directions=4, component_per="head", bias_per_head=True))
    assert (cfg.q.directions, cfg.q.component_per, cfg.q.mean, cfg.v.directions) == (4, "head", 0.5, 1)
    cfg = model_config(TrainConfig(variant="bq", direction_means=f"-0.5/0:1/{','.join(['0.25'] * 32)}"))
    assert (cfg.q.directions, cfg.q.means, cfg.q.mean) == (3, [-0.5, (0.0, 1.0), [0.25] * 32], 0.0)
    command = TrainConfig(directions=2, direction_means="-0.5/0.5").command()
    assert command == "python -m interp.train --directions 2 --direction-means -0.5/0.5 -o runs/latest"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "bq", "mean_v": "0.5"}, "--mean-v or --std-v was given, but the variant bq has no such bias"),
        ({"variant": "bq", "mean_q": "half"}, "--mean-q is 'half'; give a number, START:END"),
        ({"variant": "bq", "std_q": "1,2,3"}, "has 3 numbers; d_head is 32"),
        ({"variant": "bq", "mean_q": "1e308"}, "--mean-q is '1e308'; numbers of at most 1e\\+06 are needed"),
        ({"variant": "bq", "std_q": "0.1:nan"}, "--std-q is '0.1:nan'; numbers of at most"),
        ({"variant": "bq", "mean_q": "1:2:3"}, "--mean-q is '1:2:3'; give a number, START:END"),
        ({"variant": "bv", "directions": 4}, "Several directions of b_Q were asked for, but the variant bv has no b_Q"),
        ({"variant": "bq", "directions": 4, "mean_q": "0"}, "4 directions are laid out from the mean, which is 0"),
        ({"variant": "bq", "direction_means": "1/x"}, "--direction-means is 'x'; give a number, START:END"),
        ({"variant": "bq", "direction_means": "1/2", "mean_q": "1"}, "Both the mean 1.0 and means of directions"),
        ({"variant": "bq", "direction_means": "1/2", "directions": 3}, "There are 3 directions, but 2 means"),
        ({"variant": "bq", "directions": 2, "component_per": "head"}, "has shared_across_heads, one vector a layer"),
    ],
)
def test_biases_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InterpError, match=message):
        model_config(TrainConfig(**changes))


def test_the_paper_s_settings_are_the_defaults_of_its_sizes():
    for optimizer, lr, decay in (("adamw", 1e-4, 0.01), ("sgdm", 0.03, 0.0), ("soap", 3e-4, 0.01), ("ecd", 1.0, 0.0)):
        config = resolved(TrainConfig(preset="gpt2-124m", optimizer=optimizer))
        assert (config.lr, config.weight_decay) == (lr, decay)
    assert resolved(TrainConfig(optimizer="ecd")).clip == 0.0
    assert resolved(TrainConfig(optimizer="ecd", clip=1.0, lr=2.0)).clip == 1.0


def test_the_block_is_the_presets_unless_it_is_chosen():
    cfg = model_config(resolved(TrainConfig(preset="llama-mini")))
    assert (cfg.norm, cfg.activation, cfg.positional, cfg.n_key_value_heads) == ("rms", "swiglu", "rope", 2)
    assert (cfg.rotary_dim, cfg.learned_biases, cfg.tied, cfg.qk_norm) == (32, "none", True, False)
    chosen = {"kv_heads": 1, "d_head": 40, "tied": False, "learned_biases": True, "qk_norm": True, "activation": "gelu"}
    cfg = model_config(resolved(TrainConfig(preset="llama-mini", **chosen)))
    assert (cfg.n_key_value_heads, cfg.d_head, cfg.rotary_dim, cfg.tied) == (1, 40, 40, False)
    assert (cfg.learned_biases, cfg.qk_norm, cfg.activation, cfg.norm) == ("all", True, "gelu", "rms")
    cfg = model_config(resolved(TrainConfig()))
    assert (cfg.norm, cfg.activation, cfg.positional, cfg.kv_heads, cfg.tied) == ("layer", "prelu", "learned", 6, True)
    assert "kv_heads is 0" in refusal(kv_heads=0)
    with pytest.raises(InterpError, match="4 key and value heads do not divide 6 heads"):
        model_config(TrainConfig(kv_heads=4))


def refusal(**changes):
    with pytest.raises(InterpError) as caught:
        TrainConfig(**changes)
    return str(caught.value)


def test_the_command_that_repeats_a_run_says_of_the_block_what_is_not_the_presets():
    changes = {"preset": "llama-mini", "tied": False, "qk_norm": True, "kv_heads": 1, "lr": 0.1}
    config = resolved(TrainConfig(**changes, output=Path("runs/x")))
    words = "--preset llama-mini --kv-heads 1 --qk-norm --no-tied --lr 0.1 --weight-decay 0.01 --clip 1.0"
    assert config.command() == f"python -m interp.train {words} -o runs/x"


def words(corpus, output, *more):
    return f"--corpus {corpus} --steps 2 --batch-size 2 --context 8 -o {output}".split() + list(more)


def test_the_command_trains_and_refuses_to_overwrite_in_one_line(corpus, tmp_path):
    assert CliRunner().invoke(app, words(corpus, tmp_path / "run")).exit_code == 0
    again = CliRunner().invoke(app, words(corpus, tmp_path / "run"))
    assert again.exit_code == 1
    assert "is not empty" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1
    assert CliRunner().invoke(app, words(corpus, tmp_path / "run", "--overwrite")).exit_code == 0
    assert CliRunner().invoke(app, ["--variant", "bqvb"]).exit_code == 2


@pytest.mark.parametrize(
    "more",
    ["--seed -1", "--clip -1", "--mean-q 1e308", "--dropout 2", "--optimizer-args eta", "--optimizer-args betas=3",
     "--lr nan", "--context 0", "--device cuda:99", "--steps -3", "--batch-size 3 --micro-batch-size 2"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_read_or_made(tmp_path, monkeypatch, more):
    monkeypatch.setattr("interp.train.run.open_tokens", lambda *_: pytest.fail("the corpus was read"))
    result = CliRunner().invoke(app, ["-o", str(tmp_path / "run"), *more.split()])
    assert result.exit_code == 1 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ") and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yaml", "toml", "json"])
def test_a_file_gives_settings_and_what_is_typed_goes_before_them(corpus, tmp_path, kind):
    settings = {"variant": "bqbv", "batch-size": 4, "mean_q": 0.25, "output": str(tmp_path / "run"), "compile": False}
    file = tmp_path / f"run.{kind}"
    toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    file.write_text({"yaml": yaml.safe_dump(settings), "toml": toml, "json": json.dumps(settings)}[kind])
    typed = f"--config {file} --corpus {corpus} --steps 2 --context 8 --batch-size 2".split()
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 0, result.stderr
    training = read_training(tmp_path / "run")
    assert (training["variant"], training["batch_size"], training["mean_q"]) == ("bqbv", 2, "0.25")
    assert torch.equal(load_model(tmp_path / "run").bias_q.mean, torch.full((32,), 0.25))
    assert "batch_size 2" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("varient: bq", "'varient', which there is not; did you mean 'variant'?"),
        ("[1, 2", "is broken"),
        ("just words", "holds str; expected settings"),
        ("variant: bqvb", "bqvb"),
    ],
)
def test_a_broken_settings_file_is_told_in_a_sentence(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    result = CliRunner().invoke(app, ["--config", str(tmp_path / "run.yaml")])
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.split())


def test_the_command_of_a_run_repeats_it():
    config = TrainConfig(variant="bqbv", lr=0.002, compile=True, optimizer_args="eta=50,F0=1.5", optimizer="ecd")
    command = config.command()
    assert command == (
        "python -m interp.train --variant bqbv --optimizer ecd --optimizer-args eta=50,F0=1.5 --lr 0.002 --compile "
        "-o runs/latest"
    )


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_its_own_settings_when_only_its_folder_is_typed(corpus, tmp_path, curve):
    folder = tmp_path / "run"
    assert CliRunner().invoke(app, words(corpus, folder, "--variant", "bqbv", "--mean-q", "0.25")).exit_code == 0
    result = CliRunner().invoke(app, ["--resume", "-o", str(folder), "--steps", "4"])
    assert result.exit_code == 0, result.stderr
    assert len(curve(folder)) == 4
    training = read_training(folder)
    assert (training["variant"], training["mean_q"], training["steps"]) == ("bqbv", "0.25", 4)
    assert CliRunner().invoke(app, ["--resume", "-o", str(folder), "--tokens", "100"]).exit_code == 0
    assert len(curve(folder)) == 6
    refused = CliRunner().invoke(app, ["--resume", "-o", str(folder), "--variant", "bq"])
    assert refused.exit_code == 1 and "variant was bqbv, now bq" in refused.stderr

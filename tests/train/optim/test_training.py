import json
import math
from dataclasses import replace

import pytest

from interp.train.config import TrainConfig
from interp.train.loop import prepare, train
from interp.train.optim.registry import OPTIMIZERS


def config(corpus, output, **changes):
    settings = {"corpus": str(corpus), "batch_size": 8, "context": 16, "output": output}
    return TrainConfig(**{**settings, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_with_its_default_learning_rate(corpus, tmp_path, optimizer):
    settings = config(corpus, tmp_path / "run", steps=25, evaluate_every=25, optimizer=optimizer, preset="mini")
    assert train(settings) == tmp_path / "run"
    rows = [json.loads(line) for line in (tmp_path / "run/training.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"] and rows[-1]["validation_loss"] < 0.8 * math.log(300)
    assert rows[-1]["lr"] == pytest.approx(0.1 * OPTIMIZERS[optimizer].small_lr, rel=0.1)


def test_a_loss_at_the_floor_is_said_once_and_the_checkpoint_is_kept(corpus, tmp_path, monkeypatch, capsys):
    spec = OPTIMIZERS["ecd"]
    monkeypatch.setitem(OPTIMIZERS, "ecd", replace(spec, defaults={**spec.defaults, "F0": 9.0}))
    folder = train(config(corpus, tmp_path / "run", steps=4, evaluate_every=2, optimizer="ecd", weight_decay=0.0))
    said = capsys.readouterr().err
    assert said.count("is not above F0 9") == 1
    assert (folder / "model.safetensors").exists()


def test_weight_decay_of_the_command_reaches_matrices_only(corpus, tmp_path):
    run = prepare(config(corpus, tmp_path / "run", steps=1, optimizer="ecd", weight_decay=0.2))
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.2, 0.0]

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from interp.errors import InterpError
from interp.train.config import TrainConfig
from interp.train.loop import train
from interp.train.records import Lines, open_records


def test_every_step_is_a_line_with_what_was_measured(config, curve):
    folder = train(config(steps=4, evaluate_every=2, optimizer="ecd", charges_every=2))
    rows = curve(folder)
    assert [row["tokens"] for row in rows] == [128, 256, 384, 512]
    for row in rows:
        assert {"loss", "lr", "grad_norm", "seconds", "tokens_per_second", "utilization", "energy"} <= row.keys()
        assert row["tokens_per_second"] > 0 and 0 < row["utilization"] < 2
    assert ["charges" in row for row in rows] == [False, True, False, True]
    assert len(rows[1]["charges"]["qk"]) == 3 and len(rows[1]["charges"]["vo"][0]) == 4
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_tensorboard_has_the_same_numbers(config, curve):
    folder = train(config(steps=4, evaluate_every=2, tensorboard=True, charges_every=4, optimizer="sgdm"))
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = curve(folder)
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(r["step"], pytest.approx(r["loss"])) for r in rows]
    assert [e.step for e in events.Scalars("validation_loss")] == [2, 4]
    heads = [number for layer in rows[3]["charges"]["qk"] for number in layer]
    assert events.Scalars("charge_qk")[0].value == pytest.approx(sum(heads) / len(heads))


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_weights_and_biases_keeps_the_curve_offline_and_a_resumed_run_is_the_same_one(config, curve, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = train(config(steps=2, evaluate_every=2, wandb="symmetry"))
    identity = (folder / "wandb-run.txt").read_text().strip()
    train(config(steps=4, evaluate_every=2, wandb="symmetry", resume=True))
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and all(identity in file.name for file in files)
    assert b"validation_loss" in files[0].read_bytes()
    assert b"symmetry" in files[1].read_bytes()


def test_lines_after_the_step_that_a_run_goes_on_from_are_dropped(tmp_path):
    rows = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    (tmp_path / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    lines = Lines(tmp_path, 2)
    lines.write({"step": 3, "loss": 0.5})
    lines.close()
    written = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert written == [*rows[:2], {"step": 3, "loss": 0.5}]


@pytest.mark.parametrize(("setting", "module"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_named_with_the_extra_that_has_it(tmp_path, monkeypatch, setting, module):
    for name in (module, "torch.utils.tensorboard.writer"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    config = TrainConfig(output=tmp_path, **{setting: True if setting == "tensorboard" else "project"})
    with pytest.raises(InterpError, match=f"needs the package {module}; install interp with its extra 'logging'"):
        open_records(config, 0)

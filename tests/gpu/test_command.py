"""The command, its bench and its table, on a machine that need not have a GPU."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from interp.model.config import preset
from interp.train.measures import H100, flops_per_token
from tests import commands
from tests.gpu import __main__ as command
from tests.gpu import bench
from tests.gpu.found import Found, record, table

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_device_it_says_so_in_one_sentence_and_runs_nothing(tmp_path):
    done = commands.run([sys.executable, "-m", "tests.gpu", "--json", str(tmp_path / "gpu.json")], check=True)
    assert done.stdout.startswith("There is no CUDA device") and done.stdout.count("\n") == 1
    assert done.stdout.endswith("nothing was run, and nothing is said of any GPU.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_gives_a_status_and_a_missed_aim_is_marked_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command, "device_of", lambda device: "a card")
    monkeypatch.setattr(command, "record", lambda device, rows: record(CPU, rows))
    missed, failed = Found("slow", "1.5", "<= 1.3", False), Found("broken", "RuntimeError: no", failed=True)
    monkeypatch.setattr(command, "tested", lambda: [Found("a test", "1 s", held=True)])
    for found, status in ((missed, 0), (failed, 1)):
        monkeypatch.setattr(bench, "rows", lambda device, found=found: [found])
        assert command.main(["--json", str(tmp_path / "gpu.json")]) == status
        kept = json.loads((tmp_path / "gpu.json").read_text())
        assert kept["torch"] == torch.__version__ and [row["verdict"] for row in kept["rows"]] == [
            "pass",
            found.verdict,
        ]
    assert "slow    1.5     <= 1.3  MISSED" in (told := capsys.readouterr().out)
    assert "2 lines, 0 failed, 1 missed their aim" in told and "2 lines, 1 failed, 0 missed their aim" in told


def test_tests_become_rows_with_what_went_wrong():
    collector = command.Collector()
    report = {"nodeid": "tests/gpu/test_a.py::test_a_step_waits[cuda]", "duration": 1.26, "outcome": "passed"}
    wrong = {**report, "longreprtext": "    x = 1\nE   assert 1 == 2\nE    where", "outcome": "failed"}
    for when, of in (("setup", report), ("call", report), ("call", wrong), ("teardown", wrong)):
        flags = {name: of["outcome"] == name for name in ("passed", "failed")}
        collector.pytest_runtest_logreport(SimpleNamespace(**{"when": when, "longreprtext": "", **of, **flags}))
    assert [str(row) for row in collector.rows] == [
        "pass   a step waits[cuda]: 1.3 s", *["FAIL   a step waits[cuda]: assert 1 == 2"] * 2
    ]  # fmt: skip


def test_every_part_of_the_bench_runs_at_small_sizes(make_model, make_documents, make_scheme):
    def reading(contexts):
        model = make_model()
        return model, make_documents([make_scheme("s", bench.CLASSES)], model.cfg.d_vocab, [10] * 4)

    sizes = {"preset": "mini", "context": 16, "compile": False}
    found = list(bench.rows(CPU, sizes, ("sgdm",), repeats=1, batch=2, reading=reading))
    assert not [row for row in found if row.failed], found
    assert [row.name.split(",")[0] for row in found] == [
        "training", "training", "step with biases / without", "graphs compiled after the first steps",
        "tokens/s", "fused SGD step with momentum", "ECD step", "ECD step", "amplification / plain forward with logits",
        "memory of amplification above the weights",
    ]  # fmt: skip
    assert "no MFU: this card is not in" in found[0].result and found[0].held is None


def test_a_part_that_fails_is_a_row_and_the_others_go_on(monkeypatch):
    def out_of_memory(*_):
        yield Found("first", "1")
        raise RuntimeError("CUDA out of memory\nand more")

    for part in ("training", "whole_loop", "ecd_step"):
        monkeypatch.setattr(bench, part, lambda *_: iter([Found("one", "1")]))
    monkeypatch.setattr(bench, "amplification", out_of_memory)
    *others, last = bench.rows(CPU, optimizers=("adamw",))
    assert [row.name for row in others] == ["one"] * 3 + ["first"]
    assert last.failed and last.result == "RuntimeError: CUDA out of memory"


def test_utilization_is_of_the_data_sheet_and_its_aim_of_one_model_of_card(monkeypatch):
    cfg = preset("gpt2-124m", "bqbv")
    monkeypatch.setattr(bench, "card", lambda device: H100)
    share = bench.utilization(CPU, cfg, 0.5 * 989.4e12 / flops_per_token(cfg))
    assert share == pytest.approx(0.5) and bench.told_share(share) == ", MFU 50.0%"
    assert bench.aimed(CPU, share, "adamw") == (">= 45% MFU", True)
    assert bench.aimed(CPU, 0.44, "adamw") == (">= 45% MFU", False) and bench.aimed(CPU, share, "soap")[1] is None
    for other in ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"):
        monkeypatch.setattr(bench, "card", lambda device, other=other: other)
        share = bench.utilization(CPU, cfg, 1e5)
        assert (share is None) == ("MIG" in other) and bench.aimed(CPU, share, "adamw") == ("", None)


def test_the_table_is_in_columns():
    told = table([Found("a", "1.000", "<= 2", True), Found("a longer name", "3")])
    assert told.splitlines()[:3] == [
        "name           result  aim",
        "a              1.000   <= 2  pass",
        "a longer name  3",
    ]

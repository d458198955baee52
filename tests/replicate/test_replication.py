"""Whole replications: killed or not, with one worker or two, they end in the same table."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml

from interp.replicate.plan import Measuring, Tuning, store_plan
from tests import commands

MEASURING = Measuring(max_tokens=12_000, nulls=4, puzzles=2, uses_tokens=600, controls=2)
RESULTS = ("results.csv", "contrasts.csv")


@pytest.fixture
def stored(small_plan, tmp_path):
    tuning = Tuning([1, 2], {"adamw": 0.01}, 9, {"steps": 2})
    plan = small_plan(learning_rates={}, tuning=tuning, measuring=MEASURING)
    store_plan(plan, tmp_path / "plan.yaml")
    return tmp_path / "plan.yaml"


def command(plan, output, *more, module="tests.replicate.forked"):
    return [sys.executable, "-m", module, "--plan", str(plan), "-o", str(output), *more]


@pytest.mark.slow
def test_a_replication_killed_again_and_again_ends_like_one_that_was_not(stored, tmp_path):
    commands.run(command(stored, tmp_path / "whole", "--workers", "2"), check=True)
    moments, kills, logs = random.Random(0), 0, tmp_path / "killed" / "logs"
    for begun in (2, 4):  # of the eight jobs
        process = commands.start(command(stored, tmp_path / "killed"), start_new_session=True)
        while process.poll() is None and len(list(logs.glob("*"))) < begun:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        kills += process.poll() is None
        # the second time only the command dies, and the job that it started goes on alone
        os.killpg(process.pid, signal.SIGKILL) if kills % 2 else process.kill()
        process.wait()
    ended = commands.run(command(stored, tmp_path / "killed"))
    assert ended.returncode == 0, ended.stderr
    assert kills == 2
    for name in RESULTS:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    table = pd.read_csv(tmp_path / "whole" / "results.csv")
    assert list(table["status"]) == ["measured"] * 2 and table["validation_loss"].between(2.5, 4).all()
    assert list(table["direction"]) == ["matrix", "own"] and (table["rms_amplification"] > 0).all()
    assert table.filter(regex="_(top1|accuracy)$").notna().all(axis=None)
    symmetric, broken = (
        json.loads((tmp_path / "whole" / "runs" / f"adamw-{variant}-seed0" / "measured.json").read_text())
        for variant in ("symmetric", "bq")
    )
    assert "uses" not in symmetric and broken["uses"]["control"]["draws"] == 2
    assert {len(losses) for losses in broken["uses"]["replicates"].values()} == {200}
    assert broken["loss"]["documents"] == {
        "n_tokens": [broken["loss"]["n_tokens"]],
        "loss": [pytest.approx(broken["loss"]["loss"])],
    }
    rates = json.loads((tmp_path / "whole" / "learning_rates.json").read_text())["adamw"]
    assert rates["lr"] == float(min(rates["losses"], key=rates["losses"].get)) and len(rates["losses"]) == 2
    assert not list((tmp_path / "whole").glob("runs/*/step-*"))


@pytest.mark.slow
def test_sigterm_saves_what_is_under_way_and_says_how_to_go_on(stored, tmp_path):
    plan = yaml.safe_load(stored.read_text())
    plan["settings"]["steps"] = plan["tuning"]["settings"]["steps"] = 100_000
    stored.write_text(yaml.safe_dump(plan))
    output = tmp_path / "stopped"
    process = commands.start(command(stored, output, "--until", "tune"))
    while process.poll() is None and not list(output.glob("tuning/*/step-*/state.pt")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(60)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"python -m interp.replicate -o {output}" in " ".join(told.split())
    log = next((output / "logs").glob("tune-*")).read_text()
    assert "everything is saved" in log


@pytest.mark.slow
def test_a_job_that_fails_is_told_by_its_last_words_and_at_the_end(stored, tmp_path):
    plan = yaml.safe_load(stored.read_text())
    plan["settings"]["batch_size"] = 10_000
    stored.write_text(yaml.safe_dump(plan))
    fresh = command(stored, tmp_path / "failed", "--until", "prepare", module="interp.replicate")
    subprocess.run(fresh, check=True, capture_output=True, timeout=180)
    ended = commands.run(command(stored, tmp_path / "failed"))
    told = " ".join(ended.stderr.split())
    assert ended.returncode == 1 and "Traceback" not in told
    assert "tune/adamw-symmetric-lr0.01-seed9 ended with status 1" in told and "use more text" in told
    assert "2 of 8 jobs failed (tune/adamw-symmetric-lr0.01-seed9, " in told and "7 are not done" in told
    assert (tmp_path / "failed" / "report.md").is_file()

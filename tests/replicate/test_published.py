"""The replication that the docs tell of: its tables follow from its measurements, and the page tells what they say."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interp.replicate.claims import answers
from interp.replicate.page import write_results
from interp.replicate.plan import PLAN, read_plan, scale
from interp.replicate.results import results_table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import replication  # noqa: E402 - a script of the docs

RECORD = ROOT / "docs" / "replication" / "tiny"


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The results made once more from what was measured of each run."""
    folder = tmp_path_factory.mktemp("again") / RECORD.name
    shutil.copytree(RECORD, folder)
    for made in ("results.csv", "contrasts.csv", "report.md"):
        (folder / made).unlink()
    write_results(read_plan(folder / "plan.yaml"), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results.csv", "contrasts.csv"])
def test_the_published_tables_follow_from_the_measurements(again, name):
    pd.testing.assert_frame_equal(pd.read_csv(again / name), pd.read_csv(RECORD / name), rtol=1e-9)


def test_the_published_report_follows_from_the_measurements(again):
    assert (again / "report.md").read_text() == (RECORD / "report.md").read_text()


def test_every_run_of_its_plan_is_measured_and_the_scale_is_the_plan_of_a_record():
    plan = read_plan(RECORD / PLAN)
    assert scale("tiny") in [read_plan(path) for path in RECORD.parent.glob(f"*/{PLAN}")]
    assert {cell.name for cell in plan.cells()} == {folder.name for folder in (RECORD / "runs").iterdir()}
    assert all((RECORD / "runs" / cell.name / "measured.json").is_file() for cell in plan.cells())


def test_the_page_and_the_readme_are_what_the_measurements_say():
    assert (ROOT / "docs" / "replication.md").read_text() == replication.written(RECORD), (
        "run python docs/replication.py"
    )
    assert replication.README.read_text() == replication.readme(), "run python docs/replication.py"


def test_every_row_and_every_interval_of_the_page_stands_in_the_report():
    report, page = (path.read_text() for path in (RECORD / "report.md", ROOT / "docs" / "replication.md"))
    rows = [line for line in page.splitlines() if line.startswith("| ") and any(c.isdigit() for c in line)]
    own = [row for row in rows if row not in report.splitlines()]
    assert len(rows) > 60 and all(
        row.startswith("| ") and row.count("|") == 7 for row in own
    )  # of classes: fewer columns
    intervals = re.findall(r"[-+]?\d+\.\d+ \[[^\]\n]+\]", page)
    assert len(set(intervals)) > 60 and [interval for interval in intervals if interval not in report] == []


def test_intervals_of_the_page_are_those_of_the_measurements_worked_out_anew():
    """Where the losses of documents are not stored they are Student's, over seeds; else they are no narrower by much."""
    plan, page = read_plan(RECORD / PLAN), (ROOT / "docs" / "replication.md").read_text()
    losses = {
        cell.name: json.loads((RECORD / "runs" / cell.name / "measured.json").read_text())["loss"]
        for cell in plan.cells()
    }
    for optimizer in plan.optimizers:
        seeds = [cell.seed for cell in plan.cells() if cell.name.startswith(f"{optimizer}-bq-seed")]
        values = [
            losses[f"{optimizer}-bq-seed{s}"]["loss"] - losses[f"{optimizer}-symmetric-seed{s}"]["loss"] for s in seeds
        ]
        test = stats.ttest_1samp(values, 0).confidence_interval()
        [told] = re.findall(rf"bq with {optimizer}, minus symmetric: (\S+) \[(\S+), (\S+)\], {len(seeds)} seeds", page)
        mean, low, high = map(float, told)
        assert mean == pytest.approx(np.mean(values), abs=6e-5)
        if "documents" not in losses[f"{optimizer}-bq-seed0"]:
            assert (low, high) == pytest.approx(tuple(test), abs=6e-5)
        assert low < mean < high


def test_a_page_of_new_measurements_is_made_by_one_command_and_twice_the_same(made, tmp_path):
    (tmp_path / "done").mkdir()
    tiny = scale("tiny")
    short = replace(
        tiny, optimizers={"adamw": {}, "ecd": {}}, further_seeds={}, variants=["symmetric", "bq"], tuning=None,
        ablations=tiny.ablations[:1], learning_rates={"adamw": 0.1, "ecd": 1.0},
    )  # fmt: skip
    plan, pages = made(tmp_path / "done", plan=short), []
    for place in ("one", "two"):
        replication.collect(tmp_path / "done", tmp_path / place)
        pages.append(replication.written(tmp_path / place))
    assert pages[0] == pages[1] and "not measured yet" not in pages[0] and "An earlier version measured" not in pages[0]
    assert "over seeds and documents together" in pages[0]
    assert all(sentence in pages[0] for sentence in answers(results_table(plan, tmp_path / "one")))
    (tmp_path / "done" / "runs" / "ecd-bq-seed2" / "measured.json").unlink()
    with pytest.raises(SystemExit, match="1 runs of"):
        replication.collect(tmp_path / "done", RECORD)
    replication.collect(tmp_path / "done", tmp_path / "half")  # elsewhere what is known so far
    assert "2 seeds, q" in replication.written(tmp_path / "half")

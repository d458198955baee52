"""The replication that the docs tell of: its tables follow from its measurements, and the page tells what they say."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from interp.replicate.page import write_results
from interp.replicate.plan import read_plan, scale

ROOT = Path(__file__).parents[2]
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


def test_it_is_the_plan_of_the_scale_and_every_run_of_it_is_measured():
    plan = read_plan(RECORD / "plan.yaml")
    assert plan == scale("tiny")
    assert {cell.name for cell in plan.cells()} == {folder.name for folder in (RECORD / "runs").iterdir()}
    assert all((RECORD / "runs" / cell.name / "measured.json").is_file() for cell in plan.cells())


def test_every_row_and_every_interval_of_the_page_stands_in_the_report():
    report, page = (path.read_text() for path in (RECORD / "report.md", ROOT / "docs" / "replication.md"))
    _, _, rest = page.partition("## How it was done")
    rows = [line for line in rest.splitlines() if line.startswith("| ") and any(c.isdigit() for c in line)]
    assert len(rows) > 30 and set(rows) <= set(report.splitlines())
    intervals = re.findall(r"[-+]?\d+\.\d+ \[[^\]\n]+\]", page)
    assert len(set(intervals)) > 60 and [interval for interval in intervals if interval not in report] == []

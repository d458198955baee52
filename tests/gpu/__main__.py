"""Everything that wants a CUDA device: the tests marked `gpu`, then speed and memory, as one table: `make gpu`.

python -m tests.gpu [--json FILE]

The status is 1 if a test fails or a figure cannot be taken; an aim that is missed is marked, and no failure. Where there is
no CUDA device it says so, and runs nothing. `python docs/gpu.py FILE` puts what was found on the page docs/gpu.md.
"""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from interp.errors import InterpError
from interp.files import check_writable, writing
from tests.gpu.found import Found, device_of, record, table

HERE = Path(__file__).parent
NONE = "There is no CUDA device that torch {version} can use here: nothing was run, and nothing is said of any GPU."
# without the type checker of the tests, through which no compiler can look; a card's own warnings are no failures
PYTEST = [
    "-q",
    "-m",
    "gpu",
    "-o",
    "addopts=--import-mode=importlib --strict-markers -p no:cacheprovider",
    "-W",
    "default",
]


class Collector:
    """Keeps the outcome of every test as a row."""

    def __init__(self):
        self.rows = []

    def pytest_runtest_logreport(self, report):
        """Keep what is told of a test, its end or what failed before and after it."""
        if report.when != "call" and not report.failed:
            return
        name = report.nodeid.split("::")[-1].removeprefix("test_").replace("_", " ")
        said = f"{report.duration:.1f} s" if report.passed else last_line(report.longreprtext) or report.outcome
        self.rows.append(Found(name, said, held=report.passed or None, failed=report.failed))


def last_line(text):
    """The line of a traceback that says what went wrong."""
    told = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return told[0][:200] if told else ""


def tested():
    """Run the tests marked `gpu` and return a row for each; none at all is a failure."""
    collector = Collector()
    status = pytest.main([str(HERE), *PYTEST], plugins=[collector])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not collector.rows:
        collector.rows.append(Found("tests marked gpu", f"pytest ended with {status!r}", failed=True))
    return collector.rows


def main(arguments):
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write what was found to this file, for python docs/gpu.py FILE")
    path = parser.parse_args(arguments).json
    if not torch.cuda.is_available():
        print(NONE.format(version=torch.__version__))
        return 0
    from tests.gpu import bench  # late: what says that there is nothing to do needs none of it

    if path is not None:
        try:
            check_writable(path)
        except InterpError as error:
            parser.error(str(error))
    device = torch.device("cuda", 0)
    print(device_of(device), flush=True)
    rows = tested()
    for row in bench.rows(device):
        print(row, flush=True)
        rows.append(row)
    print(table(rows))
    if path is not None:
        with writing(path) as new:
            new.write_text(json.dumps(record(device, rows), indent=1) + "\n", encoding="utf-8")
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

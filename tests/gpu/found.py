"""What `make gpu` finds: rows of a table, and the card and versions that they are of."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Found:
    """One line: a test that passed or failed, or a figure with the aim that it held or missed."""

    name: str
    result: str
    aim: str = ""
    held: bool | None = None  # None: there is no aim, or none for this card
    failed: bool = False  # a test, or a figure that could not be taken; a missed aim is none

    @property
    def verdict(self) -> str:
        """The last column."""
        return "FAIL" if self.failed else {True: "pass", False: "MISSED", None: ""}[self.held]

    def __str__(self):
        aim = f" (aim {self.aim})" if self.aim else ""
        return f"{self.verdict:7}{self.name}: {self.result}{aim}"


def device_of(device: torch.device) -> dict[str, Any]:
    """Return the names and versions that figures are of."""
    found = {"torch": torch.__version__, "cuda": torch.version.cuda, "card": "", "driver": "", "memory_gb": 0.0}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"card": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1), "driver": _driver()}
    return found


def _driver() -> str:
    """The version of the driver, where the program that tells it is there."""
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[0].strip() or "unknown"


def record(device: torch.device, rows: list[Found]) -> dict[str, Any]:
    """Return, as plain values, what `--json` keeps and `docs/gpu.py` reads."""
    return {**device_of(device), "rows": [{**asdict(row), "verdict": row.verdict} for row in rows]}


def table(rows: list[Found]) -> str:
    """Return the rows as a table with a line that sums it up."""
    header = Found("name", "result", "aim")
    cells = [(r.name, r.result, r.aim, r.verdict) for r in (header, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(3)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in cells]
    failed, missed = sum(row.failed for row in rows), sum(row.held is False and not row.failed for row in rows)
    return "\n".join([*lines, f"{len(rows)} lines, {failed} failed, {missed} missed their aim"])

"""JSON files of a replication."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp.files import writing


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    with writing(path) as beside:
        beside.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, an empty dictionary where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

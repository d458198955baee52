"""How a result was made: versions, checksums, date and command, for run.json and the page."""

import hashlib
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("interp", "torch", "transformer-lens", "transformers", "tokenizers", "spacy", "numpy", "pandas", "plotly")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, of the libraries behind the numbers, and of further distributions."""
    return {"python": platform.python_version(), **{name: _version(name) for name in (*LIBRARIES, *more)}}


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line(module: str) -> str:
    """Return the command of this process as it would be typed."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"

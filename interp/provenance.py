"""How a result was made: versions, checksums, date and command, for run.json and the page; and how a result prints."""

import hashlib
import html
import platform
import shlex
import sys
import textwrap
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from interp.errors import one_line

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


WIDTH = 100
"""Letters in a line of a printed result."""


class Summarized:
    """A result that prints as a few lines, and shows as a small table in a notebook; both say what `_summary` returns."""

    def _summary(self) -> dict[str, str]:
        """Return what it is of, what it says and what to call next, by label, in the order of the lines."""
        raise NotImplementedError

    def __repr__(self) -> str:
        rows = {label: one_line(text) for label, text in self._summary().items() if text}
        start = 4 + max(map(len, rows), default=0)
        lines = [textwrap.fill(text, WIDTH, initial_indent=f"  {label:<{start - 2}}", subsequent_indent=" " * start,
                               break_long_words=False, break_on_hyphens=False)
                 for label, text in rows.items()]  # fmt: skip
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        rows = {label: html.escape(one_line(text)) for label, text in self._summary().items() if text}
        cell = 'style="text-align: left; vertical-align: top; max-width: 60em; white-space: normal"'
        lines = [f"<tr><th {cell}>{label}</th><td {cell}>{text}</td></tr>" for label, text in rows.items()]
        return f"<table><caption>{type(self).__name__}</caption>{''.join(lines)}</table>"


def model_and_text(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines "model" and "text" of a result's summary: what its run record has of them."""
    sizes = "" if run.get("n_layers") is None else f", {run['n_layers']} layers of {run.get('n_heads')} heads"
    along = f", along {run['direction']}" if run.get("direction") is not None else ""
    split = f" ({run['split']})" if run.get("split") is not None else ""
    counts = [f"{run[f'n_{noun}s']:,} {noun}{'s' * (run[f'n_{noun}s'] != 1)}" for noun in ("token", "document")
              if f"n_{noun}s" in run]  # fmt: skip
    schemes = ", ".join(map(str, run.get("schemes") or ()))
    text = f"{run.get('corpus', 'a text')}{split}{': ' if counts else ''}{', '.join(counts)}"
    return {
        "model": f"{run.get('model', 'unknown')}{sizes}{along}",
        "text": f"{text}; classes: {schemes}" if schemes else text,
    }


def number(value: float, digits: int = 2) -> str:
    """Return ``+0.41``, ``−0.41`` (a true minus) or ``0.00``."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def interval(low: float, high: float, form: str) -> str:
    """Return " [low, high]" for the end of a number; "" where the interval is not known."""
    return f" [{low:{form}}, {high:{form}}]" if low == low else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"

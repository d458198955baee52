"""What the reader is looking at: the facts of the run in words, each only if the run recorded it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from interp.errors import InterpError

NEEDED = ("model", "corpus", "n_tokens", "n_documents")
BIASES = {"mean": "its mean, as at evaluation", "sample": "one draw", "none": "switched off"}
DIRECTIONS = {"bias": "the unlearned b_Q", "effective": "b_Q plus the learned query bias of each head"}


def facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label, text) pairs for the head of the page, in the order in which a reader asks.

    Raises:
        InterpError: the run does not say model, corpus, n_tokens and n_documents.
    """
    if missing := [key for key in NEEDED if key not in run]:
        raise InterpError(f"The run record lacks {', '.join(missing)}; the page must say what it shows.")
    pairs = [
        ("model", _with(run["model"], _size(run))),
        ("corpus", _with(run["corpus"], run.get("split"))),
        (
            "read",
            f"{run['n_tokens']:,} tokens in {run['n_documents']:,} document{'' if run['n_documents'] == 1 else 's'}",
        ),
        ("token classes by", run.get("pipeline")),
        ("bias in force", BIASES.get(str(run.get("bias")), run.get("bias"))),
        ("direction", DIRECTIONS.get(str(run.get("direction")), run.get("direction"))),
        ("seed", run.get("seed")),
        ("made on", _date(run.get("date"))),
        ("took", f"{run['wall_seconds']:.0f} s" if run.get("wall_seconds") is not None else None),
    ]
    return [(label, str(text)) for label, text in pairs if text is not None]


def _with(name: Any, detail: str | None) -> str:
    return f"{name} ({detail})" if detail else str(name)


def _date(date: Any) -> str | None:
    """Return ``2026-03-01 14:05 UTC`` for an ISO date with seconds and offset, anything else as it is."""
    try:
        return f"{datetime.fromisoformat(str(date)).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return None if date is None else str(date)


def _size(run: Mapping[str, Any]) -> str | None:
    if run.get("n_layers") is None or run.get("n_heads") is None:
        return None
    return f"{run['n_layers']} layers × {run['n_heads']} heads"

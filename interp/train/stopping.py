"""Ends of a run before its last step: a signal, or a held-out loss that no longer falls."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Inside a with block, SIGTERM and Ctrl-C only set `received`; a second one acts as usual.

    Elsewhere than in the main thread, where Python handles no signals, nothing is caught.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}


def on_a_plateau(losses: list[float], patience: int) -> bool:
    """Return whether the last `patience` held-out losses are all no lower than the lowest before them; 0 never."""
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])

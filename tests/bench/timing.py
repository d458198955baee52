"""How times are taken: in turn, within one process, and compared round by round."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the bench."""

    name: str
    value: float
    unit: str = ""
    budget: str = ""

    def __str__(self):
        return f"{self.value:10.3f} {self.unit:4} {self.name}{f' (budget {self.budget})' if self.budget else ''}"


def seconds(functions, repeats=3, clock=time.perf_counter, warm_up=True):
    """Times of each function, taken in turn, after one warm-up of each unless that is left out.

    `time.process_time` as clock counts this process alone, and so on a busy machine is disturbed less.
    """
    times = {name: [] for name in functions}
    for round_number in range(repeats + warm_up):
        for name, function in functions.items():
            started = clock()
            function()
            if round_number >= warm_up:
                times[name].append(clock() - started)
    return times


def medians(times):
    """Median time of each function."""
    return {name: statistics.median(taken) for name, taken in times.items()}


def ratio(times, first, second):
    """Median over the rounds of the ratio of two times of the same round."""
    return statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))

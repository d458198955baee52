"""Where the time of one call goes: each measurement's own share, the forward pass, and what is fitted before it."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from functools import wraps

import pytest

from interp.analysis import run
from interp.analysis.readers.own import OwnReader

METHODS = ("start", "layer", "close", "columns", "nulls", "tables")
LOOP, FITTED, FORWARD = "loop", "means fitted before the pass", "forward pass, up to the last layer's keys"


@contextmanager
def parts_timed():
    """Yield seconds of the processor by part, of what runs inside: every measurement, `FORWARD`, `FITTED`; and `LOOP`.

    A part counts all that it asks for first: `Shares` the attention that `LabelShifts` reads too. `LOOP` is the whole pass
    over the text, so the forward pass and what measurements sum there, and no table.
    """
    spent, open_parts = defaultdict(float), []

    def timed(function, label):
        @wraps(function)
        def run_timed(*args, **keywords):
            started, inside = time.process_time(), spent["inside"]
            open_parts.append(label)
            try:
                found = function(*args, **keywords)
                return iter(list(found)) if function.__name__ == "nulls" else found
            finally:
                open_parts.pop()
                taken = time.process_time() - started
                if label == LOOP:
                    spent[LOOP] += taken
                elif not set(open_parts) - {LOOP, FORWARD}:  # else it is part of what asked for it
                    own = taken - (spent["inside"] - inside) if label == FORWARD else taken
                    spent[label] += own
                    spent["inside"] += own

        return run_timed

    with pytest.MonkeyPatch.context() as patch:
        for kind in run.MEASUREMENTS:
            for name in METHODS:
                if name in vars(kind):
                    patch.setattr(kind, name, timed(vars(kind)[name], kind.__name__))
        patch.setattr(OwnReader, "visit", timed(OwnReader.visit, FORWARD))
        patch.setattr(run, "fit_means", timed(run.fit_means, FITTED))
        patch.setattr(run.Pass, "add", timed(run.Pass.add, LOOP))
        yield spent
    spent.pop("inside", None)

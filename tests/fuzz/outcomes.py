"""One mutation and its outcome: equal numbers, or one sentence; anything else is a finding."""

import shutil
import signal
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from interp.errors import InterpError
from tests.fuzz.targets import TARGETS

LIMIT = 20  # seconds


class HangError(Exception):
    """It hangs."""


def outcomes(count, seed=0, only=None):
    """Yield (target, file, change, number, outcome) of `count` mutations, the targets in turn.

    The outcome is "equal", "refused", "read" (where a file says itself what it holds), or a finding, which begins with "!".
    A number gives the same mutation whatever `count` is.
    """
    with tempfile.TemporaryDirectory() as place:
        made = {}
        for name in TARGETS if only is None else [only]:
            target, folder = TARGETS[name](), Path(place) / name
            folder.mkdir()
            target.make(folder)
            made[name] = target, folder, target.read(folder)
        before = signal.signal(signal.SIGALRM, _too_long)
        try:
            for number in range(count):
                name = list(made)[number % len(made)]
                random = np.random.default_rng([seed, number])
                yield (name, *_one(random, *made[name], Path(place) / "damaged"), number)
        finally:
            signal.signal(signal.SIGALRM, before)


def _one(random, target, folder, numbers, place):
    shutil.copytree(folder, place)
    try:
        file = list(target.files)[int(random.integers(len(target.files)))]
        change = target.files[file][int(random.integers(len(target.files[file])))]
        data = (folder / file).read_bytes()
        (place / file).write_bytes(changed := change(random, data))
        outcome = "equal" if changed == data else _outcome(target, numbers, place)
        left = {path.name for path in place.iterdir()} - {path.name for path in folder.iterdir()}
        return file, change.__name__, f"! left behind: {left}" if left else outcome
    finally:
        shutil.rmtree(place)


def _outcome(target, numbers, place):
    signal.alarm(LIMIT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = target.read(place)
    except InterpError as error:
        return "! more than a line" if "\n" in str(error) else "refused"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a library in Rust panics with one
        return f"! {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if np.array_equal(found, numbers):
        return "equal"
    return "! other numbers" if target.exact else "read"


def table(found):
    """Return how many mutations of each target had which outcome."""
    return Counter((name, "finding" if outcome[0] == "!" else outcome) for name, _, _, outcome, _ in found)


def _too_long(number, frame):
    raise HangError(f"more than {LIMIT} s")

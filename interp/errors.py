"""The one exception a command turns into a single line and a non-zero exit, and what its sentences are made of."""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class InterpError(Exception):
    """Bad input, said in one sentence: what was found, what was expected, what to do.

    It is one line whatever it names: newlines, terminal codes and halves of characters in the names of files, models,
    classes and documents are shown as Python writes them, as in "a\\nb".
    """

    exit_status = 1  # of the command that it ends

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Return a text with newlines, terminal codes and halves of characters as Python writes them."""
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: ``"; did you mean 'x'?"`` with the known name most like `name`, or ``"."``."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else "."


def few(names: Sequence[str]) -> str:
    """Return the first five of a list for a message, and how many more there are; "nothing" for none."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"


def check_number(name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    """Raise an InterpError unless the value is a number, or a whole number, from `low` to `high`."""
    number: Any = value if isinstance(value, Integral if whole else Real) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        kind = "a whole number" if whole else "a number"
        raise InterpError(f"{name} is {shown(value)}; {kind} from {_limit(low)} to {_limit(high)} is expected.")


def _limit(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) and abs(number) < 2**63 else f"{number:g}"


def shown(value: Any) -> str:
    """Return a value as a message quotes it: its beginning, if it is long; shape and type of a tensor."""
    if getattr(value, "shape", ()):
        return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_choice(name: str, value: Any, allowed: tuple[str | None, ...]) -> None:
    """Raise an InterpError unless the value is one of those allowed."""
    if not isinstance(value, str | None) or value not in allowed:
        words = tuple(map(str, allowed))
        raise InterpError(f"{name} is {shown(value)}; choose one of {', '.join(words)}{nearest(str(value), words)}")

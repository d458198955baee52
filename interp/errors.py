"""The one exception a command turns into a single line and a non-zero exit."""

import difflib
from collections.abc import Iterable, Sequence


class InterpError(Exception):
    """Bad input, said in one sentence: what was found, what was expected, what to do."""

    exit_status = 1  # of the command that it ends


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: ``"; did you mean 'x'?"`` with the known name most like `name`, or ``"."``."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else "."


def few(names: Sequence[str]) -> str:
    """Return the first five of a list for a message, and how many more there are; "nothing" for none."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"

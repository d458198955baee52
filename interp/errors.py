"""The one exception a command turns into a single line and a non-zero exit."""

import difflib
import re
from collections.abc import Iterable, Sequence

_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class InterpError(Exception):
    """Bad input, said in one sentence: what was found, what was expected, what to do.

    It is one line whatever it names: newlines, terminal codes and halves of characters in the names of files, models,
    classes and documents are shown as Python writes them, as in "a\\nb".
    """

    exit_status = 1  # of the command that it ends

    def __str__(self) -> str:
        return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], super().__str__())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: ``"; did you mean 'x'?"`` with the known name most like `name`, or ``"."``."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else "."


def few(names: Sequence[str]) -> str:
    """Return the first five of a list for a message, and how many more there are; "nothing" for none."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"

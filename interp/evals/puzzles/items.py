"""What a puzzle is: a prompt with its one right continuation, or with two continuations of which one is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interp.errors import InterpError


@dataclass(frozen=True)
class Item:
    """One puzzle. Texts follow each other as they stand: a continuation begins with its own space.

    Raises:
        InterpError: neither or both of `expected` and `compare`, an empty continuation, two that are the same, or no
            prompt before an expected one.
    """

    family: str
    prompt: str
    expected: str | None = None  # the right continuation
    compare: tuple[str, str] | None = None  # the better continuation, the worse
    distance: int | None = None  # retrieval: how many words stand between the fact and the question
    group: int | None = None  # of the items that were drawn together

    def __post_init__(self) -> None:
        if (self.expected is None) == (self.compare is None):
            raise InterpError('An item needs either "expected" or "compare", and not both.')
        if not all(self.continuations):
            raise InterpError('A continuation is empty; "expected" and both of "compare" need text.')
        if len(set(self.continuations)) != len(self.continuations):
            raise InterpError(f"The two continuations to compare are the same, {self.continuations[0]!r}; give two.")
        if self.expected is not None and not self.prompt:
            raise InterpError('The prompt of an item with "expected" is empty; only "compare" goes without one.')

    @property
    def continuations(self) -> tuple[str, ...]:
        """The right or better continuation first."""
        return (self.expected,) if self.expected is not None else self.compare or ()


Group = Sequence[Item]
"""Items drawn together, such as the mirror images of one comparison: who does not read the prompt gets half right."""

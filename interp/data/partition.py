"""A scheme: what divides the tokens of a document into classes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from interp.data.marks import Marks
from interp.data.words import Words

BOS = 0
"""The class of the first token of a document in every scheme: attention sinks there, whatever the text."""

Assign = Callable[[np.ndarray, Words | None, np.ndarray | None], np.ndarray]
Units = Callable[[str, Words | None], Words]


@dataclass(frozen=True)
class Scheme:
    """A partition: every token has exactly one class.

    `assign(tokens, words, nearest_word)` returns int64 [pos], indices into `classes`, for the tokens of one document
    without the first (bos). `nearest_word` [pos] says which of `words` each token belongs to, -1 for a blank between
    words; both are None when no scheme of the run needs tags.

    A scheme that is not about words gives `units(text, words)`: how it cuts the text itself; `assign` is then called with
    these units in the place of words. `marks` are what spaCy's documents are searched for on its behalf; what was found is
    in `words.spans`.
    """

    name: str
    classes: tuple[str, ...]  # classes[0] is "bos", the document's first token
    needs_tags: bool  # whether spaCy has to read the text
    assign: Assign
    units: Units | None = None
    marks: Marks = field(default_factory=Marks)
    version: str = ""  # differs where schemes of one name and the same classes are defined differently

"""The words of a text as a tagger sees them: where they stand, and what it says of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

ATTRIBUTES = ("pos", "tag", "dep", "ent")
"""spaCy's `pos_`, `tag_`, `dep_` and `ent_type_`."""


@dataclass(frozen=True)
class Words:
    """Tagged words of one document, in order.

    White space that spaCy makes a token of is a word with `pos` SPACE. A single blank between two words is no word.
    """

    starts: Int64[np.ndarray, " word"]  # first character
    ends: Int64[np.ndarray, " word"]  # last character plus one
    codes: dict[str, Int64[np.ndarray, " word"]]  # by attribute: an index into `names[attribute]`
    names: dict[str, tuple[str, ...]]  # by attribute; "" where the pipeline does not set it
    spans: dict[str, Int64[np.ndarray, "_ 2"]] = field(
        default_factory=dict
    )  # by key of `interp.data.marks`: characters

    def is_space(self) -> np.ndarray:
        """Return a mask [word] of the words that are white space."""
        if "SPACE" not in self.names["pos"]:
            return np.zeros(len(self.starts), dtype=bool)
        return self.codes["pos"] == self.names["pos"].index("SPACE")


def join(parts: Sequence[Words], shifts: Sequence[int]) -> Words:
    """Return the words of consecutive pieces of a text, each moved by its piece's place in the text."""
    codes, names = {}, {}
    for attribute in ATTRIBUTES:
        known = sorted({name for part in parts for name in part.names[attribute]})
        recode = [np.array([known.index(name) for name in part.names[attribute]], dtype=np.int64) for part in parts]
        found = [table[part.codes[attribute]] for table, part in zip(recode, parts, strict=True)]
        codes[attribute], names[attribute] = _concatenate(found), tuple(known)
    starts = _concatenate([part.starts + shift for part, shift in zip(parts, shifts, strict=True)])
    ends = _concatenate([part.ends + shift for part, shift in zip(parts, shifts, strict=True)])
    spans = {
        key: np.concatenate([part.spans[key] + shift for part, shift in zip(parts, shifts, strict=True)])
        for key in (parts[0].spans if parts else ())
    }
    return Words(starts, ends, codes, names, spans)


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays])

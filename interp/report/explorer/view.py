"""What the explorer shows, as plain values; and the Python that gives the same."""

import re
from dataclasses import dataclass
from typing import Literal

from interp.errors import InterpError

Where = Literal["head", "layer", "all"]
Part = Literal["q", "v", "qv"]


@dataclass(frozen=True)
class View:
    """A text, one head, one class of one scheme, and how the biases are scaled.

    Attributes:
        text: what is read.
        head: such as "L3H7".
        scheme, token_class: whose tags are shown, and which of them stand out.
        scale: 0 removes the biases, 1 is as trained, 2 doubles them.
        where: which biases are scaled: those of this head, of its layer, or of all heads.
        part: "q" (b_Q, or the vector of another direction), "v" (b_V) or "qv" (both).
        place: the next token is predicted after this one; None for the last.
    """

    text: str
    head: str
    scheme: str
    token_class: str
    scale: float = 1.0
    where: Where = "head"
    part: Part = "qv"
    place: int | None = None

    @property
    def layer_and_head(self) -> tuple[int, int]:
        """The numbers in the head's label.

        Raises:
            InterpError: it is no label of a head.
        """
        match = re.fullmatch(r"L(\d+)H(\d+)", self.head)
        if match is None:
            raise InterpError(f"{self.head!r} names no head; write its layer and head as in L3H7.")
        return int(match[1]), int(match[2])

    @property
    def scaled_at(self) -> str:
        """Where the biases are scaled, as `interp.read_sentence` calls it: "L3H7", "L3" or "all"."""
        return {"head": self.head, "layer": f"L{self.layer_and_head[0]}", "all": "all"}[self.where]

    def reading(self, vector: str = "b_Q") -> str:
        """Return what the second reading is called, such as "b_Q × 0 in L3H7"; `vector` is what queries lose."""
        biases = {"qv": "biases", "q": vector, "v": "b_V"}[self.part]
        return f"{biases} × {self.scale:g} in {'all heads' if self.where == 'all' else self.scaled_at}"

    def python(self, place: int, more: str = "") -> str:
        """Return the lines of Python that give the tables and figures of this view; `place` is where it predicts.

        `more` are further arguments of `interp.read_sentence`.
        """
        layer, head = self.layer_and_head
        part = "" if self.part == "qv" else f", part={self.part!r}"
        return (
            f"sentence = interp.read_sentence(\n    model, {self.text!r},\n    [{self.scheme!r}], scale={self.scale:g}, "
            f"where={self.scaled_at!r}{part}{more},\n)\n"
            f"sentence.of_head({layer}, {head})  # bias scores, attention, loss of every token\n"
            f"sentence.pattern({layer}, {head}).table  # attention from each token to each, with b_Q and without\n"
            f"sentence.shares({self.scheme!r})  # attention of each head to each class\n"
            f"sentence.predictions.query('place == {place}')"
        )

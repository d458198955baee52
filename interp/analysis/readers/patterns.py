"""What a bridge shows of attention: the patterns of a layer, with and without a direction, or of runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.attention import HeadVectors, OneHot
from interp.analysis.readers.reader import ALL, Attended, KeyScores, Pattern, Ran, Received, SeenLayer

ROUNDING = 1e-5
"""What a row of a pattern may lack to 1 without a sink."""


class BridgeLayer(SeenLayer):
    """Both patterns of a layer, its keys as `Turning` gives them, and what gives its pattern along another direction."""

    def __init__(
        self,
        patterns: tuple[Pattern, Pattern],
        keys: HeadVectors | None,
        scores: KeyScores,
        along: Callable[[Tensor], Pattern],
    ) -> None:
        self.patterns, self.scores, self.along = patterns, scores, along
        if keys is not None:
            self.keys = keys

    def received(
        self, readings: Float[Tensor, "reading batch pos head_index"], documents: Float[Tensor, "batch pos document"]
    ) -> Received:
        """Sums of the patterns' rows, a context at a time: memory holds no third pattern of a whole batch."""
        found = []
        for row, of_row in enumerate(documents.to(self.patterns[0]).mT):  # [document, pos]
            with_direction, without = (pattern[row] for pattern in self.patterns)
            changed = (_without_but(without, reading[row]) for reading in readings)
            found.append(torch.stack([of_row @ pattern for pattern in (with_direction, without, *changed)]))
        return torch.stack(found, -2).transpose(1, 2)  # of [reading, head_index, document, batch, key_pos]

    def mean_received(
        self,
    ) -> tuple[Float[Tensor, "batch head_index key_pos"], Float[Tensor, "batch head_index key_pos"]]:
        """Means of the columns of the patterns."""
        with_direction, without = (BridgeAttended(pattern).mean_received() for pattern in self.patterns)
        return with_direction, without

    def pattern(self, rows: slice = ALL, queries: slice = ALL) -> tuple[Pattern, Pattern]:
        """A part of both patterns."""
        with_direction, without = (pattern[rows, :, queries, : queries.stop] for pattern in self.patterns)
        return with_direction, without

    def shares_along(
        self, direction: Float[Tensor, "head_index d_head"], one_hot: OneHot
    ) -> Float[Tensor, "2 batch pos head_index token_class"]:
        """From patterns: the layer's attention runs once more."""
        return torch.stack([BridgeAttended(each).shares(one_hot) for each in (self.along(direction), self.patterns[1])])


class BridgeAttended(Attended):
    """Patterns of runs."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern

    def shares(
        self, values: Float[Tensor, "row pos column"], rows: list[int] | None = None
    ) -> Float[Tensor, "row pos head_index column"]:
        """Sums of the pattern's columns."""
        pattern = self.pattern if rows is None else self.pattern[rows]
        return torch.einsum("bhij,bjc->bihc", pattern, values.to(pattern))

    def mean_received(self) -> Float[Tensor, "row head_index key_pos"]:
        """Means of the pattern's columns."""
        seen_by = torch.arange(self.pattern.shape[-1], 0, -1, device=self.pattern.device)
        return self.pattern.sum(2) / seen_by


@dataclass(frozen=True)
class BridgeRan(Ran):
    """The contexts, and what runs predict."""

    tokens: Int[Tensor, "batch pos"]
    predicted: Float[Tensor, "run batch pos d_vocab"]

    def log_probabilities(
        self, context: int, runs: slice | Sequence[int] = slice(None)
    ) -> Float[Tensor, "run pos d_vocab"]:
        """As kept."""
        return self.predicted[runs, context]


def _without_but(
    without: Float[Tensor, "*batch head_index query_pos key_pos"], added: Float[Tensor, "*batch key_pos head_index"]
) -> Float[Tensor, "*batch head_index query_pos key_pos"]:
    """Return the pattern without the direction when numbers r_j are added to the scores of keys.

    The softmax of log p0_ij + r_j, beside the log of what a row lacks to 1, as with sinks.
    """
    lacking = 1 - without.sum(-1, keepdim=True)
    sink = torch.where(lacking > ROUNDING, lacking, 0.0).log()
    return torch.cat([without.log() + added.mT[..., None, :], sink], -1).softmax(-1)[..., :-1]

"""What an analysis asks of a model: sizes, tokenizer, attention with and without a vector in the query, and changed runs.

One reader serves `HookedSymmetryBrokenTransformer`, another everything that TransformerLens' bridge can hold; analyses know
neither. A reader shows one layer of a batch after the other, as a `SeenLayer`, and runs the model as it is, or changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.analysis.attention import HeadVectors, OneHot
from interp.analysis.batch import Batch, Classes
from interp.analysis.direction import Direction, Held, PerHead, QueryShifts, direction_name
from interp.analysis.settings import Reading
from interp.data.contexts import TaggedDocument, pack
from interp.errors import InterpError

KeyScores = Float[Tensor, "batch pos head_index"]
Pattern = Float[Tensor, "batch head_index query_pos key_pos"]
Received = Float[Tensor, "reading_or_two document head_index batch pos"]

HALF = (torch.float16, torch.bfloat16)
"""What holds two or three digits of a number."""

RERUN_TOKENS = 1024
"""Tokens of a batch that changed runs read, where no batch size is asked for."""

SIDE_BY_SIDE = 8
"""Runs that go side by side along the batch axis."""

TOLD = {
    "folded": "Read along the query bias with the shift of the LayerNorm before it folded in: the part of the queries "
    "that does not depend on the text.",
    "mean-query": "Read along the mean query of each head, fitted on other documents: what the part of its attention "
    "favours that does not depend on the query.",
}
ELSEWHERE = (
    "Read along a direction from elsewhere ({}): what such a bias would do, not what this model's own bias does."
)
ALL = slice(None)


class SeenLayer(ABC):
    """One layer of a batch of contexts: attention with and without the direction in the queries, all upstream alike.

    Attributes:
        keys: vectors whose product with the direction, over sqrt(d_head), is the bias score. Of a reader that is not
            `linear` there are none: behind a norm of queries the direction is no summand of scores.
        scores: bias scores of the keys in nats. Where they depend on the query too, as with rotary positions, the mean over
            the queries that see the key.
    """

    keys: HeadVectors
    scores: KeyScores

    @abstractmethod
    def received(
        self, readings: Float[Tensor, "reading batch pos head_index"], documents: Float[Tensor, "batch pos document"]
    ) -> Received:
        """Return the attention that keys receive from all queries of each document.

        Readings: with the direction (0), without (1), and then without it, but with numbers added to the scores of keys.
        """

    @abstractmethod
    def mean_received(
        self,
    ) -> tuple[Float[Tensor, "batch head_index key_pos"], Float[Tensor, "batch head_index key_pos"]]:
        """Return the mean attention of each key from its own and all later queries, with the direction and without."""

    @abstractmethod
    def pattern(self, rows: slice = ALL, queries: slice = ALL) -> tuple[Pattern, Pattern]:
        """Return the attention of queries to keys, by default of all of all contexts, with the direction and without.

        The keys are those up to the last of the queries. Rows lack to 1 what a sink takes, in models that have sinks.
        """

    @abstractmethod
    def shares_along(
        self, direction: Float[Tensor, "head_index d_head"], one_hot: OneHot
    ) -> Float[Tensor, "2 batch pos head_index token_class"]:
        """Return each query's share per class with another direction in the place of this one (0), and without (1)."""


Visitor = Callable[[int, SeenLayer], None]


class Attended(ABC):
    """The attention of one layer in runs side by side: rows are all contexts of the first run, then all of the next."""

    @abstractmethod
    def shares(
        self, values: Float[Tensor, "row pos column"], rows: list[int] | None = None
    ) -> Float[Tensor, "row pos head_index column"]:
        """Return each query's mean of values of keys, weighted by attention; of one-hot classes it is their shares.

        Of all rows, or of some.
        """

    @abstractmethod
    def mean_received(self) -> Float[Tensor, "row head_index key_pos"]:
        """Return the mean attention of each key from its own and all later queries."""


AttentionVisitor = Callable[[int, Attended], None]


class Ran(ABC):
    """What runs over the contexts of a batch leave, one or several side by side."""

    @abstractmethod
    def log_probabilities(
        self, context: int, runs: slice | Sequence[int] = slice(None)
    ) -> Float[Tensor, "run pos d_vocab"]:
        """Return what the runs predict after every token of a context, in float32 at least."""

    def logits(self, context: int, run: int = 0) -> Iterator[Float[Tensor, "pos block"]]:
        """Yield what a run predicts after every token of a context, the vocabulary in blocks, in float32 at least.

        They are logarithms of probabilities up to a number for each position.
        """
        yield self.log_probabilities(context, [run])[0]


Changes = Float[Tensor, "run 2 layer head_index d_head"]
"""What each run adds to queries (0) and values (1) of every head."""


def nothing(layer: int, seen: Attended) -> None:
    """Look at nothing: an `AttentionVisitor`."""


class Reader(ABC):
    """A model as analyses see it.

    Attributes:
        name: of the model.
        n_layers, n_heads, d_head: sizes; heads are those of queries.
        n_ctx: tokens of a context.
        d_vocab: numbers of tokens are below it.
        device: where the model is.
        tokenizer: the one it was trained with.
        border: the token that stands before every document.
        model: what it reads.
        source: path or name it was loaded from; None for a model that came in memory.
    """

    name: str
    n_layers: int
    n_heads: int
    d_head: int
    n_ctx: int
    d_vocab: int
    device: torch.device
    tokenizer: PreTrainedTokenizerFast
    border: int
    model: Any
    source: str | None = None

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """In what the model computes."""

    @abstractmethod
    def reading(self, bias: Any) -> AbstractContextManager[Any]:
        """Put the model into evaluation mode, with the biases in force that are named, inside a with block."""

    @abstractmethod
    def shifts(self, direction: Any) -> QueryShifts:
        """Return what a direction adds to the queries and what it takes away.

        Raises:
            InterpError: the model has no such direction.
        """

    @abstractmethod
    def visit(self, batch: Batch, shifts: QueryShifts, see: Visitor) -> None:
        """Run the model as it is over a batch and call ``see(layer, seen)`` in every layer, in order."""

    @abstractmethod
    def mean_queries(self, batches: Iterable[Batch]) -> PerHead:
        """Return E[q] of every head over the tokens of some batches, all biases included.

        Raises:
            InterpError: it is no vector, as positions turn it.
        """

    @abstractmethod
    def digest(self, bias: Any, direction: Any) -> str:
        """Return a digest of all that a measurement depends on: weights, biases in force, the direction."""

    @abstractmethod
    def told(self, bias: Any, direction: str) -> list[str]:
        """Return what a reader of the results must know of the direction, by sentence."""

    @abstractmethod
    def run(self, tokens: Int[Tensor, "batch pos"], see: AttentionVisitor = nothing) -> Ran:
        """Run the model as it is, and call ``see(layer, attended)`` in every layer, in order."""

    @abstractmethod
    def rerun(
        self,
        ran: Ran,
        changes: Changes,
        see: AttentionVisitor = nothing,
        first: int = 0,
        scores: Float[Tensor, "layer run batch head_index pos"] | None = None,
    ) -> Ran:
        """Run the model again over the same contexts, once for each of the changes.

        Args:
            ran: what `run` left of these contexts.
            changes: of queries and values.
            see: is shown all runs side by side, from layer `first` on.
            first: the first layer that is changed.
            scores: numbers added to the attention scores of keys, before the softmax, for every query alike.

        Raises:
            InterpError: values, or scores, of this model cannot be changed.
        """

    def bias_name(self, bias: Any) -> Any:
        """Return what run records call the biases in force, for what `reading` takes."""
        return bias

    @property
    def value_bias(self) -> PerHead | None:
        """The unlearned value bias in force, b_V; None for a model that has no such thing."""
        return None

    @property
    def takes_scores(self) -> bool:
        """Whether `rerun` can add numbers to attention scores."""
        return True

    def need_scores(self) -> None:
        """Refuse to replace bias scores where `rerun` cannot add numbers to attention scores.

        Raises:
            InterpError: it cannot.
        """
        if not self.takes_scores:
            raise InterpError(
                f"TransformerLens' bridge shows the attention scores of {self.name} only after its softmax, so bias scores "
                "cannot be replaced by others (uses); scale the vector in its queries instead (interventions)."
            )

    def contexts_per_rerun(self, settings: Reading) -> int:
        """Return how many contexts a changed run reads at a time."""
        return settings.contexts_per_batch(self.n_ctx, RERUN_TOKENS)

    def side_by_side(self, tokens: int) -> int:
        """Return how many runs over so many tokens should go side by side."""
        return SIDE_BY_SIDE

    def held(self, direction: Direction) -> QueryShifts:
        """Return the queries as they are and without a direction: what is scaled, and put aside, in runs.

        A tensor, and another model's b_Q, count as held by the queries here, so that scaled by 0 they are taken out.

        Raises:
            InterpError: the model has no such direction.
        """
        shifts = self.shifts(direction)
        if isinstance(direction, str | Held):
            return shifts
        return self.shifts(Held(direction_name(direction), shifts.vector))

    @property
    def linear(self) -> bool:
        """Whether the direction adds b . k to scores, with k the `keys` that layers show; else there are none."""
        return True

    def contexts_per_batch(self, settings: Reading) -> int:
        """Return how many contexts go through the model at a time."""
        return settings.contexts_per_batch(self.n_ctx)


def mean_query(reader: Reader, read: Sequence[TaggedDocument], classes: Classes, settings: Reading) -> Held:
    """Return the mean query of every head over the beginnings of documents, as a direction that queries hold.

    It asks what the part of a head's attention favours that does not depend on the query; any model has one.

    Args:
        reader: of a model in evaluation mode.
        read: documents other than those that are measured, in these classes.
        classes: of the documents.
        settings: say how many contexts go through the model at a time.

    Raises:
        InterpError: there is no document, or the mean is no vector, as positions turn it.
    """
    if not read:
        raise InterpError(
            "A mean query is fitted on documents that are not measured (every eighth of a corpus without splits), and there "
            "are none; give a corpus of more documents, or a vector of your own as direction=."
        )
    contexts = pack(read, reader.n_ctx, reader.contexts_per_batch(settings), reader.border)
    return Held("mean-query", reader.mean_queries(Batch(each, classes, reader.device) for each in contexts))

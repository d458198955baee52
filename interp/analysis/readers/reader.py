"""What an analysis asks of a model: sizes, tokenizer, and in every layer attention with and without a vector in the query.

One reader serves `HookedSymmetryBrokenTransformer`, another everything that TransformerLens' bridge can hold; analyses know
neither. A reader shows one layer of a batch after the other, as a `SeenLayer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.analysis.attention import HeadVectors, OneHot
from interp.analysis.batch import Batch, Classes
from interp.analysis.direction import Held, PerHead, QueryShifts
from interp.analysis.settings import Reading
from interp.data.contexts import TaggedDocument, pack
from interp.errors import InterpError

KeyScores = Float[Tensor, "batch pos head_index"]
Received = Float[Tensor, "reading_or_two document head_index batch pos"]


TOLD = {
    "folded": "Read along the query bias with the shift of the LayerNorm before it folded in: the part of the queries "
    "that does not depend on the text.",
    "mean-query": "Read along the mean query of each head, fitted on other documents: what the part of its attention "
    "favours that does not depend on the query.",
}
ELSEWHERE = (
    "Read along a direction from elsewhere ({}): what such a bias would do, not what this model's own bias does."
)


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
    def shares_along(
        self, direction: Float[Tensor, "head_index d_head"], one_hot: OneHot
    ) -> Float[Tensor, "2 batch pos head_index token_class"]:
        """Return each query's share per class with another direction added to queries without this one (0), and without (1).

        Raises:
            InterpError: where that is not known from the keys.
        """


Visitor = Callable[[int, SeenLayer], None]


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

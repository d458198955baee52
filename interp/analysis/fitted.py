"""What the position in the context, or the type of the token, explains of the bias scores: means fitted on other documents.

With m_j the mean bias score at the position of key j, amplification has two parts that add up exactly,

    A = A_position + A_beyond,    A_position = log2(M(s + m) / M(s)),    A_beyond = log2(M(s + beta) / M(s + m)),

where M(s + r) is the class's share of attention when r_j is added to the score of key j. The means are cross-fitted: those
of documents with an even running number are applied to odd ones, and the other way round, so that what a document has of its
own cannot pass for what its positions explain. The same with means by token type.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.accumulators import GroupedSums
from interp.analysis.batch import Batch, Classes
from interp.analysis.direction import QueryShifts
from interp.analysis.readers.reader import Reader, SeenLayer
from interp.analysis.settings import Settings
from interp.data.contexts import TaggedDocument, pack, take_tokens
from interp.data.corpora.corpus import Document

LEAST_PER_POSITION = 16
"""Keys of each half that a position needs to have a mean of its own; with fewer, positions go in quarter octaves."""

FIT_TOKENS = Settings.fit_tokens
"""Tokens that means are fitted on by default."""

LEAST_DOCUMENTS = 20
"""Of each document at most so large a part of the fitted tokens is read."""

FREQUENT = 1000
"""Token types, the most frequent ones, that keys are summed by; sums by every type of a vocabulary would take gigabytes."""


@runtime_checkable
class HasTokens(Protocol):
    """A tokenized document with its running number in the corpus."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def tokens(self) -> np.ndarray: ...  # noqa: D102


@dataclass(frozen=True)
class FittedMeans:
    """Mean bias scores by group of keys, fitted on the even (0) and on the odd (1) documents.

    Attributes:
        name: "position" or "type".
        group_of: group of each position, or of each token of the vocabulary.
        means: nats; a group that was not met has the mean over all keys.
    """

    name: str
    group_of: Int64[Tensor, " value"]
    means: Float[Tensor, "half layer head_index group"]

    def of(self, layer: int, batch: Batch) -> Float[Tensor, "head_index token"]:
        """Return m_j of the keys that are not padding, each from the documents of the other parity."""
        groups = self.group_of[batch.places if self.name == "position" else batch.tokens]
        other = 1 - batch.document_of % 2
        return self.means[other, layer, :, groups].T


def fit_means(
    reader: Reader, shifts: QueryShifts, settings: Settings, read: Sequence[TaggedDocument]
) -> tuple[FittedMeans, ...]:
    """Fit the means that the settings ask for.

    Args:
        reader: of a model in evaluation mode, with the biases of the settings in force.
        shifts: along the direction of the bias scores.
        settings: say on how much text, and whether by type too.
        read: `beginnings` of the corpus that is measured; without any there are no means.
    """
    device, vector = reader.device, shifts.vector
    if not read:
        return ()
    n_ctx = reader.n_ctx
    of_position = _groups_of_positions(n_ctx, settings.fit_tokens, device)
    grouped = [("position", of_position, int(of_position[-1]) + 1)]
    if settings.by_type:
        types = np.unique(np.concatenate([document.tokens for document in read]))
        of_type = torch.full((reader.d_vocab,), len(types), device=device)  # a last group, of all that do not occur
        of_type[torch.from_numpy(types)] = torch.arange(len(types), device=device)
        grouped.append(("type", of_type, len(types) + 1))
    sums = [[GroupedSums(len(vector), vector.shape[1], size, device) for _ in range(2)] for _, _, size in grouped]
    for contexts in pack(read, n_ctx, reader.contexts_per_batch(settings), reader.border):
        batch = Batch(contexts, ONE_CLASS, device)
        halves = [batch.document_of % 2 == half for half in range(2)]
        groups = [group_of[batch.places if name == "position" else batch.tokens] for name, group_of, _ in grouped]
        for of_group, which in zip(sums, groups, strict=True):
            for half, mine in enumerate(halves):
                of_group[half].count_groups(which[mine])

        def visit(layer: int, seen: SeenLayer, batch=batch, halves=halves, groups=groups) -> None:  # type: ignore[no-untyped-def]
            scores = seen.scores[batch.mask].T
            for of_group, which in zip(sums, groups, strict=True):
                for half, mine in enumerate(halves):
                    of_group[half].update(layer, scores[:, mine], which[mine])

        reader.visit(batch, shifts, visit)
    return tuple(
        FittedMeans(name, group_of, torch.stack([_filled(half) for half in of_group]).float())
        for (name, group_of, _), of_group in zip(grouped, sums, strict=True)
    )


def sample_of(
    documents: Iterable[TaggedDocument], tokens: int
) -> tuple[list[TaggedDocument], Iterable[TaggedDocument]]:
    """Return the documents that fitting on so many tokens reads, and the whole stream, those included."""
    if isinstance(documents, Sequence):
        return list(documents), documents
    stream, read = iter(documents), []
    left = tokens
    while left > 0 and (document := next(stream, None)) is not None:
        read.append(document)
        left -= min(len(document.tokens), math.ceil(tokens / LEAST_DOCUMENTS))
    return read, _chained(read, stream)


def frequent_types(read: Sequence[TaggedDocument], d_vocab: int) -> Int64[np.ndarray, " type"]:
    """Return the `FREQUENT` most frequent token types that occur at least twice, by frequency, then by number."""
    counts = np.bincount(
        np.concatenate([document.tokens for document in read] or [np.zeros(0, int)]), minlength=d_vocab
    )
    order = np.argsort(-counts, kind="stable")[:FREQUENT]
    return order[counts[order] > 1]


ONE_CLASS = Classes({"all": ["all"]})


def _chained(read: list[TaggedDocument], rest: Iterator[TaggedDocument]) -> Iterator[TaggedDocument]:
    yield from read
    yield from rest


def beginnings(documents: Iterable[HasTokens], tokens: int) -> list[TaggedDocument]:
    """Return the beginnings of documents, from the first on, so many tokens in all; in one class."""
    return list(take_tokens(_cut(documents, math.ceil(tokens / LEAST_DOCUMENTS)), tokens)) if tokens else []


def _cut(documents: Iterable[HasTokens], length: int) -> Iterator[TaggedDocument]:
    no_text = Document("", "")
    for document in documents:
        tokens = document.tokens[:length]
        zeros = np.zeros(len(tokens), dtype=np.int64)
        yield TaggedDocument(document.index, no_text, tokens, np.stack([zeros, zeros], 1), {"all": zeros})


def _groups_of_positions(n_ctx: int, tokens: int, device: torch.device) -> Int64[Tensor, " pos"]:
    positions = torch.arange(n_ctx, device=device)
    if tokens / n_ctx / 2 >= LEAST_PER_POSITION:
        return positions
    octaves = (4 * torch.log2(positions.double() + 1)).floor().long()
    return octaves.unique(return_inverse=True)[1]


def _filled(sums: GroupedSums) -> Float[Tensor, "layer head_index group"]:
    overall = sums.sum.sum(-1, keepdim=True) / sums.count.sum().clamp(min=1)
    return torch.where(sums.count > 0, sums.sum / sums.count.clamp(min=1), overall)

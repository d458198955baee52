"""Deal the documents of a corpus to processes in blocks: whole documents, about 64 contexts a block, the same every time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from interp.data.corpus import Document
from interp.errors import InterpError

ROWS = 64
"""Contexts that a block has at least. Its last one is padded, so blocks cost less than a hundredth of the work."""


@runtime_checkable
class _HasTokens(Protocol):
    @property
    def tokens(self) -> np.ndarray: ...


Tokenized = TypeVar("Tokenized", bound=_HasTokens)


@dataclass
class Block:
    """Consecutive documents that are cut into contexts by themselves, so that any process may take them."""

    number: int = 0
    first_row: int = 0  # contexts of all blocks before
    tokens: int = 0
    digest: str = ""  # of the texts of the corpus up to the end of the block; "" while it is not over


class Encoded(NamedTuple):
    """A document with its tokens, and the block it is in."""

    index: int
    document: Document
    tokens: np.ndarray
    offsets: np.ndarray
    block: Block | None = None


class Done(NamedTuple):
    """The last block that is done, and its digest."""

    number: int
    digest: str


def within(documents: Iterable[Tokenized], max_tokens: int | None) -> Iterator[Tokenized]:
    """Yield documents and stop before one that would exceed `max_tokens` in all (but not before the first)."""
    total = 0
    for document in documents:
        if max_tokens is not None and total and total + len(document.tokens) > max_tokens:
            return
        total += len(document.tokens)
        yield document


class Dealer:
    """Deals block b to process b modulo `world`; every process reads and tokenizes all documents, and keeps its own.

    A block ends with the document that brings it to 64 contexts. So blocks depend on the corpus and the tokenizer alone, and
    what is summed over them depends neither on the number of processes nor on interruptions, but for the order of sums.

    Args:
        n_ctx: tokens of a context.
        max_tokens: of the whole corpus.
        rank, world: which process this is, of how many.
        done: blocks up to this one are passed over.
    """

    def __init__(
        self, n_ctx: int, max_tokens: int | None = None, rank: int = 0, world: int = 1, done: Done | None = None
    ) -> None:
        self.n_ctx, self.max_tokens, self.rank, self.world, self.done = n_ctx, max_tokens, rank, world, done
        self.checksum = hashlib.sha256()  # of all texts, in the end

    def deal(self, documents: Iterable[Encoded]) -> Iterator[Encoded]:
        """Yield this process' documents with their blocks.

        Raises:
            InterpError: the texts up to the last block that is done are not those that were read before.
        """
        block, last = Block(), -1 if self.done is None else self.done.number
        for document in within(documents, self.max_tokens):
            self.checksum.update(document.document.text.encode("utf-8") + b"\0")
            block.tokens += len(document.tokens)
            if block.number > last and block.number % self.world == self.rank:
                yield document._replace(block=block)
            if block.tokens >= ROWS * self.n_ctx:
                self._close(block)
                block = Block(block.number + 1, block.first_row + math.ceil(block.tokens / self.n_ctx))
        self._close(block)
        if block.number < last:
            raise _other_corpus()

    def _close(self, block: Block) -> None:
        block.digest = self.checksum.hexdigest()
        if self.done and block.number == self.done.number and block.digest != self.done.digest:
            raise _other_corpus()


def _other_corpus() -> InterpError:
    return InterpError(
        "The corpus is not the one that the partial results were made of; give the same texts, or remove the partial "
        "results to start over."
    )

"""Documents become contexts: dealt to processes by blocks, joined into one stream, cut into rows of n_ctx tokens.

Labels and borders of documents go along with the tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.data.corpora.corpus import Corpus, Document, encodable
from interp.data.tokenizer import text_encoder
from interp.errors import InterpError

ROWS = 64
"""Contexts that a block has at least. Its last one is padded, so blocks cost less than a hundredth of the work."""

Tokenized = TypeVar("Tokenized", "Encoded", "TaggedDocument")
OTHER_CORPUS = (
    "The corpus is not the one that the partial results were made of; give the same texts, or remove the partial "
    "results to start over."
)


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


def take_tokens(documents: Iterable[Tokenized], max_tokens: int | None) -> Iterator[Tokenized]:
    """Yield documents and stop before one that would exceed `max_tokens` in all (but not before the first)."""
    total = 0
    for document in documents:
        if max_tokens is not None and total and total + len(document.tokens) > max_tokens:
            return
        total += len(document.tokens)
        yield document


def told_of_length(n_tokens: int, max_tokens: int | None) -> list[str]:
    """Return the warning that `take_tokens` deserves where its first document had more than `max_tokens`."""
    if max_tokens is None or n_tokens <= max_tokens:
        return []
    return [f"The first document has {n_tokens:,} tokens, more than max_tokens {max_tokens:,}; it is measured whole."]


@dataclass
class Dealer:
    """Deals block b to process b modulo `world`; every process reads and tokenizes all documents, and keeps its own.

    A block ends with the document that brings it to 64 contexts. So blocks depend on the corpus and the tokenizer alone, and
    what is summed over them depends neither on the number of processes nor on interruptions, but for the order of sums.
    """

    n_ctx: int  # tokens of a context
    max_tokens: int | None = None  # of the whole corpus
    rank: int = 0  # which process this is
    world: int = 1  # of how many
    done: Done | None = None  # blocks up to this one are passed over
    checksum: Any = field(default_factory=hashlib.sha256, init=False)  # of all texts, in the end

    def shard_by_block(self, documents: Iterable[Encoded]) -> Iterator[Encoded]:
        """Yield this process' documents with their blocks.

        Raises:
            InterpError: the texts up to the last block that is done are not those that were read before.
        """
        block, last = Block(), -1 if self.done is None else self.done.number
        for document in take_tokens(documents, self.max_tokens):
            self.checksum.update(document.document.text.encode("utf-8") + b"\0")
            block.tokens += len(document.tokens)
            if block.number > last and block.number % self.world == self.rank:
                yield document._replace(block=block)
            if block.tokens >= ROWS * self.n_ctx:
                self._close(block)
                block = Block(block.number + 1, block.first_row + math.ceil(block.tokens / self.n_ctx))
        self._close(block)
        if block.number < last:
            raise InterpError(OTHER_CORPUS)

    def _close(self, block: Block) -> None:
        block.digest = self.checksum.hexdigest()
        if self.done and block.number == self.done.number and block.digest != self.done.digest:
            raise InterpError(OTHER_CORPUS)


@dataclass(frozen=True)
class TaggedDocument:
    """A document's tokens, bos first, where they stand in its text, and the class of each in every scheme."""

    index: int  # running number in the corpus
    document: Document
    tokens: Int64[np.ndarray, " pos"]
    offsets: Int64[np.ndarray, "pos 2"]  # characters of document.text, end excluded; (0, 0) for bos
    classes: dict[str, Int64[np.ndarray, " pos"]]  # by scheme name
    block: Block | None = None  # None: all documents are one

    def beginning(self, length: int | None) -> TaggedDocument:
        """Return its first `length` tokens as a document; all of them for None."""
        kept = slice(length)
        classes = {name: labels[kept] for name, labels in self.classes.items()}
        return replace(self, tokens=self.tokens[kept], offsets=self.offsets[kept], classes=classes)


@dataclass(frozen=True)
class Contexts:
    """A batch of rows. Padding, on the right of the corpus' last row only, has `mask` False and class 0."""

    tokens: Int64[Tensor, "batch pos"]
    classes: dict[str, Int64[Tensor, "batch pos"]]  # by scheme name; empty for untagged documents
    documents: Int64[Tensor, "batch pos"]  # `TaggedDocument.index` of each token
    mask: Bool[Tensor, "batch pos"]
    titles: Mapping[int, str] = field(default_factory=dict)  # names of the documents, by `TaggedDocument.index`


def pack(documents: Iterable[TaggedDocument], n_ctx: int, batch_size: int, pad_token: int) -> Iterator[Contexts]:
    """Yield batches of full rows of one continuous stream; documents follow each other without a gap.

    A document may begin anywhere in a row and go on in the next; `Contexts.documents` says which token is whose.
    The rows are the same for every `batch_size`; only the last batch may hold fewer, and only its last row is padded.

    Raises:
        InterpError: `n_ctx` or `batch_size` is below 1.
    """
    if n_ctx < 1 or batch_size < 1:
        raise InterpError(f"Rows of {n_ctx} tokens in batches of {batch_size} cannot be cut; both must be at least 1.")
    schemes: list[str] = []
    pending: list[np.ndarray] = []  # [2 + scheme, pos] each: tokens, document index, classes
    waiting, titles = 0, {}
    for document in documents:
        schemes = list(document.classes)
        titles[document.index] = encodable(document.document.name)
        numbers = np.full_like(document.tokens, document.index)
        pending.append(np.stack([document.tokens, numbers, *document.classes.values()]))
        waiting += len(document.tokens)
        if waiting >= n_ctx * batch_size:
            stream = np.concatenate(pending, axis=1)
            whole = waiting - waiting % (n_ctx * batch_size)
            for start in range(0, whole, n_ctx * batch_size):
                yield _contexts(stream[:, start : start + n_ctx * batch_size], schemes, n_ctx, pad_token, titles)
            pending, waiting = [stream[:, whole:].copy()], waiting - whole
            titles = {document.index: titles[document.index]}  # of the last one some may wait, of no other
    if waiting:
        yield _contexts(np.concatenate(pending, axis=1), schemes, n_ctx, pad_token, titles)


def _contexts(
    stream: Int64[np.ndarray, "columns pos"],
    schemes: Sequence[str],
    n_ctx: int,
    pad_token: int,
    titles: Mapping[int, str],
) -> Contexts:
    """Cut a piece of the stream into rows, and pad what is missing of the last."""
    n_tokens = stream.shape[1]
    missing = -n_tokens % n_ctx
    padding = np.zeros((len(stream), missing), dtype=np.int64)
    padding[0], padding[1] = pad_token, stream[1, -1]
    columns = torch.from_numpy(np.concatenate([stream, padding], axis=1)).unflatten(1, (-1, n_ctx))
    mask = (torch.arange(n_tokens + missing) < n_tokens).unflatten(0, (-1, n_ctx))
    classes = {name: columns[2 + row] for row, name in enumerate(schemes)}
    return Contexts(columns[0], classes, columns[1], mask, titles)


def token_stream(tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> Shaped[np.ndarray, " tokens"]:
    """Return all documents as one array of token ids for training, bos before each.

    uint16 when every id of the vocabulary fits, uint32 otherwise.
    """
    encode = text_encoder(tokenizer)
    return np.concatenate([encode([document.text])[0] for document in corpus])

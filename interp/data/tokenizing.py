"""Tokens of a stream of documents, made in several processes, in the documents' order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt

from interp.data.corpus import Document, Place
from interp.data.processes import Processes, in_order
from interp.data.tokenizer import text_encoder
from interp.errors import InterpError
from interp.vocabulary import load_tokenizer

Placed = tuple[Place, Document]

CHUNK_CHARACTERS, CHUNK_DOCUMENTS = 500_000, 2000
"""A process gets documents up to one of these at once; a longer document goes alone."""


def tokenize(
    tokenizer: Path, documents: Iterable[Placed], workers: int
) -> Iterator[tuple[Place, UInt[np.ndarray, " tokens"]]]:
    """Yield the tokens of every document, bos first, with its place.

    Their number changes nothing in the result. At most two chunks of documents a process are in memory.

    Args:
        tokenizer: the tokenizer.json.
        documents: each with its place in the corpus.
        workers: processes; 0 tokenizes in this one.

    Raises:
        InterpError: a negative number of workers, a bad tokenizer, or a process that dies.
    """
    if workers < 0:
        raise InterpError(f"There cannot be {workers} tokenizing processes; give 0 or more.")
    if workers == 0:
        encode = text_encoder(load_tokenizer(tokenizer))
        for chunk in _chunks(documents):
            yield from _apart(chunk, *encode(_texts(chunk)))
        return
    with Processes("tokenizing", "interp.data.token_worker", str(tokenizer), workers) as processes:
        for chunk, answer in in_order(_chunks(documents), lambda chunk: processes.submit(_texts(chunk)), 2 * workers):
            yield from _apart(chunk, *answer)


def _chunks(documents: Iterable[Placed]) -> Iterator[list[Placed]]:
    chunk: list[Placed] = []
    characters = 0
    for place, document in documents:
        if chunk and (len(chunk) == CHUNK_DOCUMENTS or characters + len(document.text) > CHUNK_CHARACTERS):
            yield chunk
            chunk, characters = [], 0
        chunk.append((place, document))
        characters += len(document.text)
    if chunk:
        yield chunk


def _texts(chunk: list[Placed]) -> list[str]:
    return [document.text for _, document in chunk]


def _apart(
    chunk: list[Placed], tokens: UInt[np.ndarray, " tokens"], lengths: Int64[np.ndarray, " documents"]
) -> Iterator[tuple[Place, UInt[np.ndarray, " document"]]]:
    """Cut the tokens of a chunk into those of its documents."""
    for (place, _), one in zip(chunk, np.split(tokens, np.cumsum(lengths)[:-1]), strict=True):
        yield place, one

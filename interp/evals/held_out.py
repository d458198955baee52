"""The fixed held-out documents that a model is judged on, of a corpus or of token shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from interp.data.corpus import Corpus, Split, open_corpus, open_for_measuring
from interp.data.shards import is_shards, open_shards
from interp.data.token_shards import TokenShards
from interp.model.tokens import special_index

PIECE = 1 << 20  # tokens of shards read at a time


def open_held_out(
    tokenizer: PreTrainedTokenizerFast, corpus: str | Path | Iterable[str] | Corpus, split: Split | None = None
) -> Corpus:
    """Return the held-out documents of a corpus: the validation split of the Wikipedia sample and of shards, else all.

    Shards are decoded document by document, so that words can be tagged; their tokenizer must be the one given.

    Raises:
        InterpError: no such corpus, or nothing in the split.
    """
    if isinstance(corpus, str | Path) and is_shards(corpus):
        shards = open_shards(corpus, "train" if split == "train" else "validation", len(tokenizer))
        return open_corpus(Corpus(str(corpus), lambda row: islice(_decoded(tokenizer, shards), row, None)))
    return open_for_measuring(corpus, split)


def _decoded(tokenizer: PreTrainedTokenizerFast, shards: TokenShards) -> Iterator[tuple[str, str]]:
    for number, tokens in enumerate(_documents(shards, special_index(tokenizer.bos_token_id)), start=1):
        yield f"document {number}", str(tokenizer.decode(tokens))


def _documents(shards: TokenShards, bos: int) -> Iterator[np.ndarray]:
    """Yield the tokens between one bos and the next, across pieces and files."""
    waiting = np.empty(0, dtype=np.int64)
    for start in range(0, len(shards), PIECE):
        piece = shards.windows(np.array([start]), min(PIECE, len(shards) - start))[0]
        *whole, waiting = np.split(stream := np.concatenate([waiting, piece]), np.flatnonzero(stream == bos))
        yield from (tokens[tokens != bos] for tokens in whole if len(tokens) > 1)
    yield waiting[waiting != bos]

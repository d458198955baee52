"""Byte-level byte-pair encoding: train it, and encode documents with the place of every token in the text."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.vocabulary import END_OF_TEXT, wrap

if TYPE_CHECKING:
    from interp.data.corpus import Document

SMALLEST_VOCABULARY = 257
"""All 256 bytes and the special token."""


def train_tokenizer(texts: Iterable[str], d_vocab: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with GPT-2's splitting rules; the same texts give the same tokenizer.

    Args:
        texts: the documents to learn merges from.
        d_vocab: the number of entries: 256 bytes, one special token, the rest merges. A text with too few
            different pairs gives fewer.

    Raises:
        InterpError: `d_vocab` is below 257.
    """
    if d_vocab < SMALLEST_VOCABULARY:
        raise InterpError(
            f"A byte-level vocabulary of {d_vocab} is too small for 256 bytes and {END_OF_TEXT}; "
            f"give at least {SMALLEST_VOCABULARY}."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return wrap(tokenizer)


def encode_documents(
    tokenizer: PreTrainedTokenizerFast, documents: Iterable["Document"]
) -> Iterator[tuple[Int64[np.ndarray, " pos"], Int64[np.ndarray, "pos 2"]]]:
    """Yield token ids and character offsets of each document, the bos token with offsets (0, 0) first.

    Offsets are indices into the Python string, the end excluded. A text that spells out a special token is encoded
    as the plain characters it consists of: what a user writes cannot forge a document border.
    """
    plain = _without_special_tokens(tokenizer)
    start = np.array([[0, 0]], dtype=np.int64)
    for document in documents:
        encoding = plain.encode(document.text, add_special_tokens=False)
        tokens = np.array([tokenizer.bos_token_id, *encoding.ids], dtype=np.int64)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        yield tokens, np.concatenate([start, offsets])


def token_dtype(tokenizer: PreTrainedTokenizerFast) -> type[np.uint16] | type[np.uint32]:
    """Return uint16 when every id of the vocabulary fits, uint32 otherwise."""
    return np.uint16 if len(tokenizer) <= 2**16 else np.uint32


def text_encoder(
    tokenizer: PreTrainedTokenizerFast,
) -> Callable[[list[str]], tuple[UInt[np.ndarray, " tokens"], Int64[np.ndarray, " texts"]]]:
    """Return a function from texts to the tokens of all, bos before each text, and the number of tokens of each text.

    They are the tokens of `encode_documents`. Offsets are left out, which nearly halves the time.
    """
    plain, dtype = _without_special_tokens(tokenizer), token_dtype(tokenizer)

    def encode(texts: list[str]) -> tuple[UInt[np.ndarray, " tokens"], Int64[np.ndarray, " texts"]]:
        encodings = plain.encode_batch_fast(texts, add_special_tokens=False)
        tokens = [np.array([tokenizer.bos_token_id, *encoding.ids], dtype=dtype) for encoding in encodings]
        return np.concatenate(tokens), np.array([len(one) for one in tokens], dtype=np.int64)

    return encode


def _without_special_tokens(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy, because `transformers` sets this switch back on its own copy with every call."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.encode_special_tokens = True
    plain.no_truncation()
    plain.no_padding()
    return plain

"""Byte-level byte-pair encoding: train it, load it, and encode documents with the place of every token in the text."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError

if TYPE_CHECKING:
    from interp.data.corpus import Document

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token. It stands before every document, and is bos, eos, unk and pad at once."""

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
    return _wrap(tokenizer)


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a `tokenizer.json`, or from a folder that holds one.

    Raises:
        InterpError: no such file, not a tokenizer, or without the token that stands between documents.
    """
    path = Path(path).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InterpError(f"There is no tokenizer at {file}; expected a tokenizer.json as `tokenizers` writes it.")
    try:
        tokenizer = Tokenizer.from_str(json.dumps(json.loads(file.read_text(encoding="utf-8"))))
    except OSError as error:
        raise InterpError(f"Cannot read {file}: {error.strerror}.") from error
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InterpError(f"{file} is not a tokenizer.json ({error}); write it again with `tokenizers`.") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise InterpError(f"The tokenizer {file} has no {END_OF_TEXT} token, which must stand before every document.")
    return _wrap(tokenizer)


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


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


def _without_special_tokens(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy, because `transformers` sets this switch back on its own copy with every call."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.encode_special_tokens = True
    plain.no_truncation()
    plain.no_padding()
    return plain

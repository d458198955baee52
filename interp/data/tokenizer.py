"""Byte-level byte-pair encoding: train it, encode documents with the place of every token, tokenize in several processes.

python -m interp.data.tokenizer TOKENIZER     such a process: texts come in on standard input, their tokens go out
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from interp.data.corpora.corpus import Document, Place
from interp.data.workers import WorkerPool, in_order, serve
from interp.errors import InterpError
from interp.vocabulary import END_OF_TEXT, NOT_SPLIT, border_id, library_errors, load_tokenizer, vocabulary_size, wrap

Placed = tuple[Place, Document]
Encodings = tuple[UInt[np.ndarray, " tokens"], Int64[np.ndarray, " texts"]]  # tokens of all texts; how many each has
SMALLEST_VOCABULARY = 257
"""All 256 bytes and the special token."""

CHUNK_CHARACTERS, CHUNK_DOCUMENTS = 500_000, 2000
"""A process gets documents up to one of these at once; a longer document goes alone."""


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
    tokenizer: PreTrainedTokenizerFast, documents: Iterable[Document]
) -> Iterator[tuple[Int64[np.ndarray, " pos"], Int64[np.ndarray, "pos 2"]]]:
    """Yield token ids and character offsets of each document, the border with offsets (0, 0) first.

    Offsets are indices into the Python string, the end excluded. A text that spells out a special token is encoded
    as the plain characters it consists of: what a user writes cannot forge a document border.
    """
    plain, border = _without_special_tokens(tokenizer), border_id(tokenizer)
    start = np.array([[0, 0]], dtype=np.int64)
    for document in documents:
        with library_errors(*NOT_SPLIT):
            encoding = plain.encode(document.text, add_special_tokens=False)
        tokens = np.array([border, *encoding.ids], dtype=np.int64)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        yield tokens, np.concatenate([start, offsets])


def text_encoder(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], Encodings]:
    """Return a function from texts to the tokens of all, the border before each, and the number of tokens of each text.

    They are the tokens of `encode_documents`. Offsets are left out, which nearly halves the time.
    """
    plain, border = _without_special_tokens(tokenizer), border_id(tokenizer)
    dtype = (
        np.uint16 if vocabulary_size(tokenizer) <= 2**16 else np.uint32
    )  # uint16 when every id of the vocabulary fits

    def encode(texts: list[str]) -> Encodings:
        with library_errors(*NOT_SPLIT):
            encodings = plain.encode_batch_fast(texts, add_special_tokens=False)
        tokens = [np.array([border, *encoding.ids], dtype=dtype) for encoding in encodings]
        return np.concatenate(tokens), np.array([len(one) for one in tokens], dtype=np.int64)

    return encode


def encode_parts(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Return the tokens of each text, as `encode_documents` has them, without a border."""
    with library_errors(*NOT_SPLIT):
        encodings = _without_special_tokens(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


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
        yield from _apart((chunk, encode(_texts(chunk))) for chunk in _chunks(documents))
        return
    with WorkerPool("tokenizing", "interp.data.tokenizer", str(tokenizer), workers) as processes:
        yield from _apart(in_order(_chunks(documents), lambda chunk: processes.submit(_texts(chunk)), 2 * workers))


def _without_special_tokens(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy, because `transformers` sets this switch back on its own copy with every call.

    The switch keeps added tokens out of texts. A vocabulary that is not made by merges finds the border by itself if a text
    spells it, as Unigram's does: there it gets a name that no text holds.
    """
    text = tokenizer.backend_tokenizer.to_str()
    if not isinstance(tokenizer.backend_tokenizer.model, models.BPE):
        text = _border_hidden(text, str(tokenizer.bos_token or tokenizer.eos_token))
    plain = Tokenizer.from_str(text)
    plain.encode_special_tokens = True
    plain.no_truncation()
    plain.no_padding()
    return plain


def _border_hidden(text: str, border: str) -> str:
    parts = json.loads(text)
    model, name = parts["model"], "\ufdd0border\ufdd0"  # U+FDD0 is no character

    def hidden(piece: str | None) -> str | None:
        return name if piece == border else piece

    if isinstance(model["vocab"], list):  # of pieces with their scores
        model["vocab"] = [[hidden(piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden(piece): index for piece, index in model["vocab"].items()}
    if "unk_token" in model:
        model["unk_token"] = hidden(model["unk_token"])
    for added in parts["added_tokens"]:
        added["content"] = hidden(added["content"])
    return json.dumps(parts | {"post_processor": None})


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


def _apart(answers: Iterable[tuple[list[Placed], Encodings]]) -> Iterator[tuple[Place, UInt[np.ndarray, " document"]]]:
    """Cut the tokens of each chunk into those of its documents."""
    for chunk, (tokens, lengths) in answers:
        for (place, _), one in zip(chunk, np.split(tokens, np.cumsum(lengths)[:-1]), strict=True):
            yield place, one


if __name__ == "__main__":
    serve(text_encoder(load_tokenizer(Path(sys.argv[1]))))

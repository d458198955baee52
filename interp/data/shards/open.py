"""Open token shards to train on: one file, a folder that `interp.data prepare` made, or a folder from elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, Integer
from transformers import PreTrainedTokenizerFast

from interp.data.shards.file import ENDINGS, ShardFile, open_shard
from interp.data.shards.manifest import Manifest, has_manifest
from interp.errors import InterpError
from interp.options import say
from interp.vocabulary import TOKENIZER, load_tokenizer, tokenizer_files_sha256

VALIDATION_SHARE, MOST_VALIDATION = 0.05, 10_000_000
"""What is held out at the end of shards that come without a validation file: 5 %, at most ten million tokens."""


@dataclass(frozen=True)
class Loaded:
    """Tokens in memory, in the place of a file; messages name them as the `path`."""

    path: str
    tokens: Integer[np.ndarray, " tokens"]


@dataclass(frozen=True)
class Part:
    """The tokens of one source from `first` to before `end`."""

    source: ShardFile | Loaded
    first: int
    end: int

    @property
    def tokens(self) -> Integer[np.ndarray, " tokens"]:
        """The tokens of this part, not copied."""
        return self.source.tokens[self.first : self.end]


class TokenShards:
    """Tokens of several files, one file after the other, as one stream."""

    def __init__(self, parts: Iterable[Part], d_vocab: int | None = None) -> None:
        self.parts = tuple(parts)  # the files, in order
        self.d_vocab = d_vocab  # every id must be below it; None if nothing is known
        self._ends = np.cumsum([part.end - part.first for part in self.parts], dtype=np.int64)

    @classmethod
    def of(
        cls, tokens: Integer[np.ndarray, " tokens"], d_vocab: int | None = None, name: str = "the tokens in memory"
    ) -> TokenShards:
        """Return an array of tokens as a stream."""
        return cls([Part(Loaded(name, tokens), 0, len(tokens))], d_vocab)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    def __repr__(self) -> str:
        return f"TokenShards({self.describe()})"

    def describe(self) -> str:
        """Return "1,234 tokens in 2 files (a.bin, b.bin)" for messages."""
        names = [Path(part.source.path).name for part in self.parts]
        shown = ", ".join(names if len(names) <= 3 else [names[0], "...", names[-1]])
        return f"{len(self):,} tokens in {len(names)} file{'s' * (len(names) != 1)} ({shown})"

    def slice(self, first: int, end: int) -> TokenShards:
        """Return the stream of the tokens from `first` to before `end`; nothing is read or copied."""
        parts = []
        for part, stop in zip(self.parts, self._ends.tolist(), strict=True):
            begin = stop - (part.end - part.first)
            if max(first, begin) < min(end, stop):
                shift = part.first - begin
                parts.append(replace(part, first=max(first, begin) + shift, end=min(end, stop) + shift))
        return TokenShards(parts, self.d_vocab)

    def windows(self, starts: Int64[np.ndarray, " rows"], length: int) -> Int64[np.ndarray, "rows length"]:
        """Return the `length` tokens from each start on; a window may go on in the next file.

        Raises:
            InterpError: a window outside the stream, or a token id outside the vocabulary (file, position, id).
        """
        if length < 1 or (len(starts) and not 0 <= starts.min() <= starts.max() <= len(self) - length):
            raise InterpError(
                f"Windows of {length} tokens that start at {starts.min(initial=len(self))} to {starts.max(initial=0)} "
                f"do not lie in the {self.describe()}."
            )
        rows = np.empty((len(starts), length), dtype=np.int64)
        first = np.searchsorted(self._ends, starts, side="right")
        last = np.searchsorted(self._ends, starts + length - 1, side="right")
        for number in np.unique(first).tolist():
            here = (first == number) & (last == number)
            if here.any():
                tokens = self.parts[number].tokens
                places = starts[here] - (self._ends[number] - len(tokens))
                rows[here] = np.lib.stride_tricks.sliding_window_view(tokens, length)[places]
        for row in np.flatnonzero(first != last):
            start = int(starts[row])
            rows[row] = np.concatenate([part.tokens for part in self.slice(start, start + length).parts])
        if rows.size and (rows.min() < 0 or (self.d_vocab is not None and rows.max() >= self.d_vocab)):
            raise InterpError(self._bad_token(starts, rows))
        return rows

    def _bad_token(self, starts: Int64[np.ndarray, " rows"], rows: Int64[np.ndarray, "rows length"]) -> str:
        bad = (rows < 0) | (rows >= (self.d_vocab if self.d_vocab is not None else np.inf))
        row, column = np.argwhere(bad)[0]
        place = int(starts[row] + column)
        (part,) = self.slice(place, place + 1).parts
        allowed = f"ids 0 to {self.d_vocab - 1:,}" if self.d_vocab is not None else "ids from 0 on"
        return (
            f"{part.source.path} holds the token id {rows[row, column]} at position {part.first}, outside the vocabulary "
            f"({allowed}); use the tokenizer and vocabulary the shards were made with, or prepare them again."
        )


def digest(stream: TokenShards) -> str:
    """Return "1,234 tokens, sha256 ..." for a stream: of all its tokens, or of 1,024 even pieces of 268 million of them."""
    size, most = 2**18, 1024
    starts = np.unique(np.linspace(0, max(0, len(stream) - size), min(most, -(-len(stream) // size)), dtype=np.int64))
    found = hashlib.sha256()
    for start in starts.tolist():
        found.update(stream.windows(np.array([start]), min(size, len(stream))).astype("<i8").data)
    return f"{len(stream):,} tokens, sha256 {found.hexdigest()[:16]}"


def is_shards(path: str | Path) -> bool:
    """Return whether a path is a token shard, or a folder that `interp.data prepare` made or that holds shards."""
    path = Path(path).expanduser()
    try:
        return has_manifest(path) or (path.is_file() and path.suffix in ENDINGS) or bool(_shards_in(path))
    except (OSError, ValueError):  # a text, too long for a path
        return False


def open_shards(path: str | Path, split: Literal["train", "validation"], d_vocab: int | None = None) -> TokenShards:
    """Open a split of a shard file or of a folder of shards; only headers are read.

    A folder made by `interp.data prepare` says in its manifest which file is of which split. In any other folder files
    with the word val, valid, validation or dev in their names ("fineweb_val_000.bin", not "interval.bin") are validation;
    files with the word train, or all others but those with the word test, are training; one line says which. Where there
    is no validation file, the last 5 % of the tokens (at most ten million) are validation.

    Args:
        path: the file or the folder.
        split: "train" or "validation".
        d_vocab: reading a token id from here on is an error; the default is the manifest's vocabulary, if there is one.

    Raises:
        InterpError: no shards, an unfinished folder, a damaged file, or a file that does not fit the manifest.
    """
    path = Path(path).expanduser()
    if has_manifest(path):
        manifest = Manifest.read(path)
        return TokenShards(_whole(manifest.open_files(split)), manifest.d_vocab if d_vocab is None else d_vocab)
    if not path.exists():
        raise InterpError(f"There are no token shards at {path}; expected a {' or '.join(ENDINGS)} file or a folder.")
    training, validation = ([path], []) if path.is_file() else _by_name(path)
    if split == "train" and not training:
        raise InterpError(
            f"The folder {path} holds validation shards only ({validation[0].name}); add training shards."
        )
    if validation:
        return TokenShards(_whole(map(open_shard, training if split == "train" else validation)), d_vocab)
    stream = TokenShards(_whole(map(open_shard, training)), d_vocab)
    border = len(stream) - max(1, min(MOST_VALIDATION, int(VALIDATION_SHARE * len(stream))))
    return stream.slice(0, border) if split == "train" else stream.slice(border, len(stream))


def tokenizer_of(path: str | Path) -> PreTrainedTokenizerFast | None:
    """Return the tokenizer that lies beside the shards as tokenizer.json, or None if there is none.

    Raises:
        InterpError: it is not a tokenizer, or not the one that the manifest names.
    """
    path = Path(path).expanduser()
    folder = path if path.is_dir() else path.parent
    file = folder / TOKENIZER
    if has_manifest(folder):
        expected = Manifest.read(folder).tokenizer_sha256
        if not file.is_file() or tokenizer_files_sha256(file) != expected:
            raise InterpError(
                f"{file} is missing or not the tokenizer the shards were made with; copy the whole folder."
            )
    return load_tokenizer(file) if file.is_file() else None


def _by_name(folder: Path) -> tuple[list[Path], list[Path]]:
    files = _shards_in(folder)
    if not files:
        raise InterpError(f"The folder {folder} holds no token shard; expected files that end in {', '.join(ENDINGS)}.")
    validation = [file for file in files if _words(file) & HELD_OUT]
    others = [file for file in files if file not in validation and "test" not in _words(file)]
    training = [file for file in others if "train" in _words(file)] or others
    _say_split(folder, len(files) - len(training) - len(validation), *map(_named, (training, validation)))
    return training, validation


HELD_OUT = {"val", "valid", "validation", "dev"}


def _words(file: Path) -> set[str]:
    """The words of a file's name, numbers left out: {"medieval", "train"} of "medieval_train_000.npy"."""
    return set(re.findall(r"[a-z]+", file.stem.lower()))


def _named(files: list[Path]) -> str:
    """Return how many there are, and the name of the first."""
    return f"{len(files)} ({files[0].name}{', ...' if files[1:] else ''})" if files else "none"


@cache
def _say_split(folder: Path, neither: int, training: str, validation: str) -> None:
    left = f"; {neither} of neither left out" if neither else ""
    say(f"{folder}: by their names, shards for training {training}, for validation {validation}{left}.")


def _shards_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix in ENDINGS and f.is_file() and not f.name.startswith("."))


def _whole(files: Iterable[ShardFile]) -> list[Part]:
    return [Part(file, 0, file.n_tokens) for file in files]

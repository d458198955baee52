"""One stream of tokens over many files, memory-mapped, so that a corpus larger than the memory can be trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer

from interp.data.shard_file import ShardFile
from interp.errors import InterpError


@dataclass(frozen=True)
class Loaded:
    """Tokens in memory, in the place of a file."""

    name: str
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
    """Tokens of several files, one file after the other, as one stream.

    Attributes:
        parts: the files, in order.
        d_vocab: every id must be below it; None if nothing is known.
    """

    def __init__(self, parts: Iterable[Part], d_vocab: int | None = None) -> None:
        self.parts = tuple(parts)
        self.d_vocab = d_vocab
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
        names = [Path(part.source.name).name for part in self.parts]
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
                rows[here] = self._inside(number, starts[here], length)
        for row in np.flatnonzero(first != last):
            rows[row] = self._across(range(int(first[row]), int(last[row]) + 1), int(starts[row]), length)
        if rows.size and (rows.min() < 0 or (self.d_vocab is not None and rows.max() >= self.d_vocab)):
            raise InterpError(self._bad_token(starts, rows))
        return rows

    def _inside(
        self, number: int, starts: Int64[np.ndarray, " rows"], length: int
    ) -> Integer[np.ndarray, "rows length"]:
        """Windows that lie in one part."""
        tokens = self.parts[number].tokens
        return np.lib.stride_tricks.sliding_window_view(tokens, length)[starts - (self._ends[number] - len(tokens))]

    def _across(self, numbers: range, start: int, length: int) -> Int64[np.ndarray, " length"]:
        """One window over several parts: the end of the first, all of those between, the beginning of the last."""
        begin = start - (self._ends[numbers[0]] - len(self.parts[numbers[0]].tokens))
        pieces, missing = [], length
        for number in numbers:
            pieces.append(self.parts[number].tokens[begin : begin + missing])
            missing, begin = missing - len(pieces[-1]), 0
        return np.concatenate(pieces, dtype=np.int64)

    def _bad_token(self, starts: Int64[np.ndarray, " rows"], rows: Int64[np.ndarray, "rows length"]) -> str:
        bad = (rows < 0) | (rows >= (self.d_vocab if self.d_vocab is not None else np.inf))
        row, column = np.argwhere(bad)[0]
        (part,) = self.slice(int(starts[row] + column), int(starts[row] + column) + 1).parts
        allowed = f"ids 0 to {self.d_vocab - 1:,}" if self.d_vocab is not None else "ids from 0 on"
        return (
            f"{part.source.name} holds the token id {rows[row, column]} at position {part.first}, outside the vocabulary "
            f"({allowed}); use the tokenizer and vocabulary the shards were made with, or prepare them again."
        )

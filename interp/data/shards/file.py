"""One file of tokens: what its header says, where its tokens lie, and whether the file is whole.

Three formats are read. `.bin` with a header: 256 little-endian int32 (20240520, version 1, number of tokens, zeros),
then that many uint16; modded-nanogpt and llm.c write it. `.bin` without a header: uint16 from the first byte to the last,
as nanoGPT writes it. `.npy`: one dimension of uint16, int32, uint32 or int64, never pickled.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Integer, UInt
from numpy.lib import format as npy

from interp.errors import InterpError
from interp.files import writing
from interp.provenance import file_sha256

MAGIC, VERSION = 20240520, 1
HEADER_WORDS = 256
HEADER_BYTES = 4 * HEADER_WORDS
ENDINGS = (".bin", ".npy")
NPY_DTYPES = tuple(np.dtype(name) for name in ("uint16", "int32", "uint32", "int64"))
REMEDY = "copy the file again or prepare the shards again"


@dataclass(frozen=True)
class ShardFile:
    """Where the tokens of one file lie. They are mapped when first asked for, and read as they are used."""

    path: Path
    dtype: np.dtype
    offset: int  # bytes before the first token
    n_tokens: int

    @cached_property
    def tokens(self) -> Integer[np.ndarray, " tokens"]:
        """All tokens, memory-mapped."""
        try:
            return np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, (self.n_tokens,)))
        except (OSError, ValueError) as error:  # ValueError: shorter by now than when it was opened
            raise InterpError(f"Cannot map {self.path} ({error}); {REMEDY}.") from error


def open_shard(path: Path) -> ShardFile:
    """Read a file's header and compare it with the file's size; no token is read.

    Raises:
        InterpError: unreadable, of another format, empty, shorter or longer than its header says.
    """
    if path.suffix not in ENDINGS:
        raise InterpError(f"{path} is no token shard; expected a file that ends in {' or '.join(ENDINGS)}.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            shard = _open_npy(path, file) if path.suffix == ".npy" else _open_bin(path, file, size)
    except OSError as error:
        raise InterpError(f"Cannot read the token shard {path}: {error.strerror or error}.") from error
    expected = shard.offset + shard.n_tokens * shard.dtype.itemsize
    if shard.n_tokens < 1 and size <= shard.offset:
        raise InterpError(f"{path} holds no token; remove it or prepare the shards again.")
    if size != expected:
        held = (size - shard.offset) // shard.dtype.itemsize
        raise InterpError(
            f"{path} ends at byte {size}, but its header says {shard.n_tokens} tokens, which end at byte "
            f"{expected}: it holds {held}; {REMEDY}."
        )
    return shard


def write_shard(path: Path, tokens: UInt[np.ndarray, " tokens"]) -> str:
    """Write tokens as `.bin` with a header (uint16) or as `.npy`, all or nothing, and return the file's SHA-256.

    Raises:
        InterpError: the place cannot be written.
    """
    tokens = tokens.astype(tokens.dtype.newbyteorder("<"), copy=False)
    with writing(path) as beside:
        with beside.open("wb") as file:
            if path.suffix == ".npy":
                npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(tokens))
            else:
                file.write(np.array([MAGIC, VERSION, len(tokens), *[0] * (HEADER_WORDS - 3)], "<i4").tobytes())
            file.write(tokens.data)
        return file_sha256(beside)


def _open_bin(path: Path, file: BinaryIO, size: int) -> ShardFile:
    header = np.frombuffer(file.read(HEADER_BYTES)[: size // 4 * 4], "<i4")
    if len(header) and header[0] == MAGIC:
        if len(header) < HEADER_WORDS:
            raise InterpError(f"{path} ends at byte {size}, inside its header of {HEADER_BYTES} bytes; {REMEDY}.")
        if header[1] != VERSION:
            raise InterpError(
                f"{path} is of version {header[1]} (bytes 4 to 7); expected {VERSION} with uint16 tokens."
            )
        return ShardFile(path, np.dtype("<u2"), HEADER_BYTES, int(header[2]))
    if len(header) == HEADER_WORDS and not header[3:].any():  # no text holds 500 tokens of id 0 in a row
        raise InterpError(
            f"{path} begins like a shard with a header, but with the number {header[0]} in place of {MAGIC} "
            f"(bytes 0 to 3): another format, or damaged; {REMEDY}."
        )
    if size % 2:
        raise InterpError(
            f"{path} has an odd size, {size} bytes, but every token takes two: it is cut short; {REMEDY}."
        )
    return ShardFile(path, np.dtype("<u2"), 0, size // 2)


def _open_npy(path: Path, file: BinaryIO) -> ShardFile:
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except ValueError as error:
        raise InterpError(f"{path} is not a readable .npy file ({str(error).splitlines()[0]}); {REMEDY}.") from error
    if len(shape) != 1 or dtype.newbyteorder("=") not in NPY_DTYPES:
        kinds = ", ".join(kind.name for kind in NPY_DTYPES)
        raise InterpError(f"{path} holds {dtype} of shape {list(shape)}; expected one dimension of {kinds}.")
    return ShardFile(path, dtype, file.tell(), shape[0])

"""Collect documents of one split and write them as shards of a folder."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt

from interp.data.corpus import Place
from interp.data.manifest import Manifest, ShardRecord
from interp.data.shard_file import write_shard


class ShardWriter:
    """Writes a shard, and then the manifest, whenever the next document would make the shard too long.

    A process that is killed between the two leaves a shard that the manifest does not name; it counts for nothing.
    What waits to be written is in memory: two or four bytes a token.

    Args:
        manifest: of the folder; finished shards are added to it.
        split: "train" or "validation".
        most_tokens: a shard holds more only if its one document does.
    """

    def __init__(self, manifest: Manifest, split: str, most_tokens: int) -> None:
        self.manifest, self.split, self.most_tokens = manifest, split, most_tokens
        self.dtype = np.dtype(np.uint16 if (manifest.d_vocab or 0) <= 2**16 else np.uint32)
        self.ending = ".bin" if self.dtype == np.uint16 else ".npy"
        self._forget()

    def _forget(self) -> None:
        self.waiting = bytearray()
        self.documents = 0
        self.first_document = 0
        self.end = Place()

    def add(self, tokens: UInt[np.ndarray, " tokens"], end: Place) -> ShardRecord | None:
        """Add a document, given the place after it; return the shard that was finished before it, if one was."""
        n_waiting = len(self.waiting) // self.dtype.itemsize
        finished = self.finish() if n_waiting and n_waiting + len(tokens) > self.most_tokens else None
        self.first_document = self.first_document if self.documents else end.document - 1
        self.waiting += tokens.astype(self.dtype, copy=False).tobytes()
        self.documents += 1
        self.end = end
        return finished

    def finish(self) -> ShardRecord | None:
        """Write what waits as a shard, and return it; None if nothing waits.

        Raises:
            InterpError: the folder cannot be written; the finished shards stay.
        """
        if not self.documents:
            return None
        tokens = np.frombuffer(self.waiting, self.dtype)
        file = f"{self.split}-{len(self.manifest.of_split(self.split)):06d}{self.ending}"
        checksum = write_shard(self.manifest.folder / file, tokens)
        shard = ShardRecord(
            file,
            self.split,
            len(tokens),
            self.documents,
            self.first_document,
            self.end.document,
            self.end.row,
            checksum,
        )
        self.manifest.add(shard)
        self._forget()
        return shard

"""A folder that shards are written to: new, or to go on with, for one process at a time; and how they are written."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt

from interp.data.corpora.corpus import Place
from interp.data.shards.file import ENDINGS, write_shard
from interp.data.shards.manifest import MANIFEST, Manifest, ShardRecord, has_manifest
from interp.errors import InterpError
from interp.files import owning, sweep
from interp.vocabulary import CONFIG, TOKENIZER

SPLITS = ("train", "validation")
SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d{{6}}({'|'.join(map(re.escape, ENDINGS))})")


@contextmanager
def shard_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> Iterator[Manifest]:
    """Yield the manifest to go on with, or a new one, while no other process can have the folder.

    Of what an interrupted process left only the finished shards stay, those that the manifest names.

    Raises:
        InterpError: the folder holds other things or shards of other settings (unless `overwrite`), is in use by another
            process, or cannot be written.
    """
    if folder.is_file():
        raise InterpError(f"{folder} is a file; give a folder.")
    others = [f for f in folder.iterdir() if not f.name.startswith(".")] if folder.is_dir() else []
    if others and not has_manifest(folder) and not overwrite:
        raise InterpError(
            f"{folder} holds other things ({min(others).name}, ...) and no shards of this command; "
            "choose another folder, or --overwrite to put the shards beside them."
        )
    with owning(folder):
        manifest = _manifest(folder, settings, overwrite)
        for name in (MANIFEST, TOKENIZER, CONFIG, *(f"{split}-*" for split in SPLITS)):
            sweep(folder / name)
        named = {shard.file for shard in manifest.shards}
        for file in folder.iterdir():
            if SHARD_NAME.fullmatch(file.name) and file.name not in named:
                file.unlink()
        yield manifest


@dataclass
class ShardWriter:
    """Writes a shard, and then the manifest, whenever the next document would make the shard too long.

    A process that is killed between the two leaves a shard that the manifest does not name; it counts for nothing.
    What waits to be written is in memory: two or four bytes a token.
    """

    manifest: Manifest  # of the folder; finished shards are added to it
    split: str  # "train" or "validation"
    most_tokens: int  # a shard holds more only if its one document does

    def __post_init__(self) -> None:
        self.dtype = np.dtype(np.uint16 if (self.manifest.d_vocab or 0) <= 2**16 else np.uint32)
        self.ending = ".bin" if self.dtype == np.uint16 else ".npy"
        self._forget()

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
        documents = (self.documents, self.first_document, self.end.document)
        shard = ShardRecord(file, self.split, len(tokens), *documents, self.end.row, checksum)
        self.manifest.add(shard)
        self._forget()
        return shard

    def _forget(self) -> None:
        self.waiting = bytearray()
        self.documents, self.first_document, self.end = 0, 0, Place()


def _manifest(folder: Path, settings: dict[str, Any], overwrite: bool) -> Manifest:
    if not overwrite and has_manifest(folder):
        found = Manifest.read(folder)
        if found.tokenizer_sha256 is not None:  # else nothing was made yet, for example because of a bad setting
            old = {"corpus_sha256": settings.get("corpus_sha256"), **found.settings}  # of before there is no checksum
            names = [name for name in {**settings, **old} if old.get(name) != settings.get(name)]
            changed = [f"{name} was {old.get(name)}, is {settings.get(name)}" for name in names]
            if changed:
                raise InterpError(
                    f"The shards in {folder} were made with other settings ({'; '.join(changed)}); "
                    "use the same ones, choose another folder, or --overwrite them."
                )
            return found
    manifest = Manifest(folder, settings)
    manifest.write()
    return manifest

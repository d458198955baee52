"""The manifest of a folder of token shards: what is in it, from what it was made, whether it is complete and whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from interp.data.corpora.corpus import Place
from interp.data.shards.file import ShardFile, open_shard
from interp.errors import InterpError
from interp.files import parse_json, read_json, writing
from interp.provenance import file_sha256
from interp.vocabulary import TOKENIZER, tokenizer_files_sha256

MANIFEST = "manifest.json"
KIND, FORMAT = "interp token shards", 1


@dataclass(frozen=True)
class ShardRecord:
    """One shard of a manifest. A document is counted over both splits, a row over what the source yields, empty ones too."""

    file: str
    split: str
    tokens: int
    documents: int
    first_document: int
    end_document: int  # the index after the last document's
    end_row: int  # the row after the last document's, where reading goes on
    sha256: str


@dataclass
class Manifest:
    """What `manifest.json` says."""

    folder: Path  # where it lies
    settings: dict[str, Any]  # what the shards depend on: corpus, tokenizer, sizes
    tokenizer_sha256: str | None = None  # of the files beside it, see `tokenizer_files_sha256`; None until written
    d_vocab: int | None = None  # every token id is below it; None until the tokenizer is known
    shards: list[ShardRecord] = field(default_factory=list)  # the finished ones, in the order in which they were
    complete: bool = False  # whether all documents are in

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder.

        Raises:
            InterpError: missing, unreadable, not a manifest of token shards, or of a newer format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise InterpError(f"There is no {path}; give a folder that `python -m interp.data prepare` made.")
        values = read_json(path, "a manifest of token shards", "prepare the shards again with --overwrite")
        if values.pop("kind", None) != KIND:
            raise InterpError(f"{path} is not a manifest of token shards (no kind {KIND!r}); give another folder.")
        found = values.pop("format", 0)
        if found != FORMAT:
            raise InterpError(
                f"{path} has format {found}; this version reads {FORMAT}: install a newer version of interp."
            )
        try:
            shards = [ShardRecord(**record) for record in values.pop("shards")]
            return cls(folder=folder, shards=shards, **values)
        except (TypeError, KeyError) as error:
            raise InterpError(f"{path} is damaged ({error}); prepare the shards again with --overwrite.") from error

    def write(self) -> None:
        """Write it to its folder, all or nothing."""
        values = {"kind": KIND, "format": FORMAT, **asdict(self)}
        del values["folder"]
        with writing(self.folder / MANIFEST) as path:
            path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def add(self, shard: ShardRecord) -> None:
        """Name one more shard, on disk first: what cannot be written does not count."""
        replace(self, shards=[*self.shards, shard]).write()
        self.shards.append(shard)

    def of_split(self, split: str) -> list[ShardRecord]:
        """Return the shards of a split, in order."""
        return [shard for shard in self.shards if shard.split == split]

    def end_of(self, split: str) -> Place:
        """Return the place after the last document of a split that lies in a finished shard."""
        shards = self.of_split(split)
        return Place(shards[-1].end_row, shards[-1].end_document) if shards else Place()

    def open_files(self, split: str) -> list[ShardFile]:
        """Open the files of a split, and see that they are those of the manifest; no token is read.

        Raises:
            InterpError: the folder is not complete, or a file is missing or damaged, or another.
        """
        if not self.complete:
            raise InterpError(
                f"The shards in {self.folder} are not complete ({len(self.shards)} are finished); "
                "run the `interp.data prepare` that made them again, and it goes on from there."
            )
        if not self.of_split(split):
            raise InterpError(f"{self.folder / MANIFEST} names no shard of the split {split!r}; prepare it again.")
        return [self.open_file(shard) for shard in self.of_split(split)]

    def open_file(self, shard: ShardRecord) -> ShardFile:
        """Open the file of one shard.

        Raises:
            InterpError: it is missing, damaged, or has another number of tokens.
        """
        path = self.folder / shard.file
        if not path.is_file():
            raise InterpError(f"{path} is missing, but {MANIFEST} names it; copy the whole folder.")
        file = open_shard(path)
        if file.n_tokens != shard.tokens:
            raise InterpError(
                f"{path} holds {file.n_tokens} tokens, {MANIFEST} says {shard.tokens}: it is not the file that was "
                "prepared; copy the whole folder again."
            )
        return file


def has_manifest(folder: Path) -> bool:
    """Return whether a folder has a manifest of token shards, perhaps a damaged one; its file may also be another's."""
    path = folder / MANIFEST
    if not path.is_file():
        return False
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return True
    return isinstance(values, dict) and values.get("kind") == KIND


def verify(folder: Path) -> list[str]:
    """Return one sentence for everything that is wrong: no sentence, and the folder is complete and whole.

    Reads every byte: headers, numbers of tokens, checksums, token ids against the vocabulary.

    Raises:
        InterpError: there is no readable manifest.
    """
    manifest = Manifest.read(Path(folder).expanduser())
    unfinished = f"{manifest.folder} is not complete; run its prepare command again to go on."
    problems = [] if manifest.complete else [unfinished]
    tokenizer = manifest.folder / TOKENIZER
    if manifest.tokenizer_sha256 and tokenizer_files_sha256(tokenizer) != manifest.tokenizer_sha256:
        problems.append(f"{tokenizer} is missing or not the one that the shards were made with.")
    for shard in manifest.shards:
        try:
            file = manifest.open_file(shard)
            largest = int(file.tokens.max())
        except InterpError as error:
            problems.append(str(error))
            continue
        if manifest.d_vocab is None or largest >= manifest.d_vocab:
            problems.append(
                f"{file.path} holds the token id {largest} at position {int(file.tokens.argmax())}; "
                f"the vocabulary has {manifest.d_vocab} entries."
            )
        elif file_sha256(file.path) != shard.sha256:
            problems.append(f"{file.path} is damaged: its checksum is not the manifest's; copy it again.")
    return problems

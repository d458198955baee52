"""The settings of `python -m interp.data prepare`; each field's text is also the command's help."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import InterpError
from interp.options import BORDER, argument, check_border, option
from interp.provenance import file_sha256

TOKENIZER_DOCUMENTS = 20_000
"""A tokenizer is trained on at most so many training documents, the first ones, as a streamed corpus may be endless."""


@dataclass
class PrepareConfig:
    """What to turn into token shards, where, and how.

    Raises:
        InterpError: a number below what is possible.
    """

    corpus: str = argument(
        "Name of a corpus (wikipedia-sample), a text, JSONL, CSV or Parquet file, a folder of those, "
        "or hf:NAME[:CONFIG][:SPLIT] for a data set of the Hugging Face hub, streamed."
    )
    folder: Path = argument("Folder for the shards.")
    tokenizer: str | None = option(
        None, "A tokenizer.json, a folder that holds one, or an id on the hub such as gpt2 (default: train one)."
    )
    border: str | None = option(None, BORDER)
    vocabulary: int = option(
        4096, f"Entries of the tokenizer to train, on the first {TOKENIZER_DOCUMENTS:,} training documents."
    )
    workers: int | None = option(None, "Processes that tokenize; 0 for none beside this one (default: one a CPU core).")
    shard_tokens: int = option(100_000_000, "Most tokens in a shard; only a longer document makes a longer one.")
    documents: int | None = option(None, "Stop after so many documents, held-out ones included (default: all).")
    text_field: str = option("text", "Column that holds the text.")
    overwrite: bool = option(False, "Start anew in a folder that already holds shards, whatever they are.")

    def __post_init__(self) -> None:
        self.folder = Path(self.folder).expanduser()
        check_border(self)
        if self.workers is None:
            self.workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if self.workers < 0:
            raise InterpError(f"There cannot be {self.workers} tokenizing processes; give 0 or more.")
        if not 1 <= self.shard_tokens < 2**31:
            raise InterpError(f"A shard of {self.shard_tokens} tokens cannot be; give 1 to {2**31 - 1:,}.")
        if self.documents is not None and self.documents < 1:
            raise InterpError(f"{self.documents} documents make no shards; give 1 or more.")

    def settings(self) -> dict[str, Any]:
        """Return all that the shards' bytes depend on; local files stand for their names, sizes and bytes."""
        from interp.vocabulary import tokenizer_files_sha256  # late, so that --help is quick

        tokenizer = self.tokenizer
        if tokenizer is not None and (digest := tokenizer_files_sha256(tokenizer)):  # else the name of one on the hub
            tokenizer = f"sha256 {digest[:16]}"
        given = {"documents": self.documents, "border": self.border}
        return {
            **{name: value for name, value in given.items() if value is not None},
            "corpus": self.corpus,
            **_files(Path(self.corpus.removeprefix("hf:")).expanduser(), self.folder),
            "text_field": self.text_field,
            "tokenizer": tokenizer,
            "vocabulary": self.vocabulary if self.tokenizer is None else None,
            "shard_tokens": self.shard_tokens,
        }


def _files(corpus: Path, shards: Path) -> dict[str, str | None]:
    """Number, size and checksums of a local corpus' files, by which a changed one is noticed: of names and sizes, of bytes.

    Reading them takes far less time than it takes to tokenize them.
    """
    if not corpus.exists():
        return {"corpus_files": None, "corpus_sha256": None}
    files = [f for f in sorted(corpus.rglob("*")) if f.is_file() and shards not in f.parents] or [corpus]
    sizes = [file.stat().st_size for file in files]
    names = "\0".join(f"{file.relative_to(corpus).as_posix()} {size}" for file, size in zip(files, sizes, strict=True))
    content = "".join(file_sha256(file) for file in files if file.is_file())
    return {
        "corpus_files": f"{len(files)} files of {sum(sizes)} bytes ({hashlib.sha256(names.encode()).hexdigest()[:16]})",
        "corpus_sha256": hashlib.sha256(content.encode()).hexdigest()[:16],
    }

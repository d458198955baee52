"""Open token shards to train on: one file, a folder that `interp.data prepare` made, or a folder from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerFast

from interp.data.manifest import MANIFEST, TOKENIZER, Manifest, is_manifest, sha256
from interp.data.shard_file import ENDINGS, ShardFile, open_shard
from interp.data.token_shards import Part, TokenShards
from interp.errors import InterpError
from interp.vocabulary import load_tokenizer

VALIDATION_SHARE, MOST_VALIDATION = 0.05, 10_000_000
"""What is held out at the end of shards that come without a validation file: 5 %, at most ten million tokens."""


def is_shards(path: str | Path) -> bool:
    """Return whether a path is a token shard, or a folder that `interp.data prepare` made or that holds shards."""
    path = Path(path).expanduser()
    try:
        return is_manifest(path / MANIFEST) or (path.is_file() and path.suffix in ENDINGS) or bool(_shards_in(path))
    except (OSError, ValueError):  # a text, too long for a path
        return False


def open_shards(path: str | Path, split: Literal["train", "validation"], d_vocab: int | None = None) -> TokenShards:
    """Open a split of a shard file or of a folder of shards; only headers are read.

    A folder made by `interp.data prepare` says in its manifest which file is of which split. In any other folder files
    with "val" in their names are validation; files with "train" in their names, or all others if there is none, are
    training. Where there is no validation file, the last 5 % of the tokens (at most ten million) are validation.

    Args:
        path: the file or the folder.
        split: "train" or "validation".
        d_vocab: reading a token id from here on is an error; the default is the manifest's vocabulary, if there is one.

    Raises:
        InterpError: no shards, an unfinished folder, a damaged file, or a file that does not fit the manifest.
    """
    path = Path(path).expanduser()
    if is_manifest(path / MANIFEST):
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
    if is_manifest(folder / MANIFEST):
        expected = Manifest.read(folder).tokenizer_sha256
        if not file.is_file() or sha256(file) != expected:
            raise InterpError(
                f"{file} is missing or not the tokenizer the shards were made with; copy the whole folder."
            )
    return load_tokenizer(file) if file.is_file() else None


def _by_name(folder: Path) -> tuple[list[Path], list[Path]]:
    files = _shards_in(folder)
    if not files:
        raise InterpError(f"The folder {folder} holds no token shard; expected files that end in {', '.join(ENDINGS)}.")
    validation = [file for file in files if "val" in file.name]
    others = [file for file in files if file not in validation]
    return [file for file in others if "train" in file.name] or others, validation


def _shards_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix in ENDINGS and f.is_file() and not f.name.startswith("."))


def _whole(files: Iterable[ShardFile]) -> list[Part]:
    return [Part(file, 0, file.n_tokens) for file in files]

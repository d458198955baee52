"""Turn a corpus into a folder of token shards; what was interrupted goes on where it stopped."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from interp.data.corpora.corpus import open_corpus, split_of
from interp.data.shards.config import TOKENIZER_DOCUMENTS, PrepareConfig
from interp.data.shards.folder import SPLITS, ShardWriter, shard_folder
from interp.data.shards.manifest import Manifest, has_manifest, verify
from interp.data.tokenizer import Placed, tokenize, train_tokenizer
from interp.errors import InterpError
from interp.files import writing
from interp.options import console, say
from interp.vocabulary import (
    CONFIG,
    END_OF_TEXT,
    TOKENIZER,
    load_tokenizer,
    tokenizer_files_sha256,
    tokenizer_texts,
    vocabulary_size,
)


def prepare(config: PrepareConfig) -> Path:
    """Tokenize a corpus into shards, and return their folder.

    The folder gets `train-000000.bin` and so on, `validation-000000.bin` and so on (every eighth document), the
    `tokenizer.json`, and a `manifest.json` with checksums. The shards of a split, one after the other, are its documents'
    tokens, bos before each document, and no document lies in two shards. With more than 65,536 entries in the vocabulary
    shards are `.npy` of uint32.

    A process killed at any moment loses the unfinished shards; the same call goes on and gives the same bytes, whatever the
    number of workers. A finished folder is verified and left alone.

    Raises:
        InterpError: bad input, a folder of other settings or other things, a damaged one, or no place on the disk.
    """
    if config.overwrite or not has_manifest(config.folder):  # before anything is made
        open_corpus(config.corpus, "validation", config.text_field)
    with shard_folder(config.folder, config.settings(), config.overwrite) as manifest:
        if not manifest.complete:
            _go_on(config, manifest)
        elif problems := verify(config.folder):
            told = f"{config.folder} was complete and is damaged: {problems[0]} Use --overwrite to make it anew."
            raise InterpError(told)
        else:
            say(f"already complete: {_sum(manifest)} in {config.folder}")
    return config.folder


def _go_on(config: PrepareConfig, manifest: Manifest) -> None:
    for shard in manifest.shards:
        manifest.open_file(shard)
    if manifest.shards:
        say(f"going on after {_sum(manifest)}")
    try:
        _write_tokenizer(config, manifest)
        _write_shards(config, manifest)
    except InterpError as error:
        raise InterpError(f"{str(error).rstrip('.')}; {_how_to_go_on(config, manifest)}.") from error
    except KeyboardInterrupt:
        say(_how_to_go_on(config, manifest))
        raise


def _how_to_go_on(config: PrepareConfig, manifest: Manifest) -> str:
    again = "the same command" + (" without --overwrite" if config.overwrite else "")
    return f"{len(manifest.shards)} shards are finished, and {again} goes on after them"


def _write_tokenizer(config: PrepareConfig, manifest: Manifest) -> None:
    file = manifest.folder / TOKENIZER
    if manifest.tokenizer_sha256 is None:
        if config.tokenizer:
            tokenizer = load_tokenizer(config.tokenizer, config.border)
        else:
            say(f"training a tokenizer of {config.vocabulary:,} entries on {config.corpus}")
            documents = islice(open_corpus(config.corpus, "train", config.text_field), TOKENIZER_DOCUMENTS)
            tokenizer = train_tokenizer((document.text for document in documents), config.vocabulary)
        for name, text in tokenizer_texts(tokenizer, named=(manifest.folder / CONFIG).is_file()).items():
            with writing(manifest.folder / name) as path:
                path.write_text(text, encoding="utf-8")
        manifest.tokenizer_sha256, manifest.d_vocab = tokenizer_files_sha256(file), vocabulary_size(tokenizer)
        manifest.write()
        if (border := tokenizer.bos_token) != END_OF_TEXT:
            say(f"the token {border} stands before every document")
    elif tokenizer_files_sha256(file) != manifest.tokenizer_sha256:
        raise InterpError(f"{file} is missing or was changed; put it back, or start anew with --overwrite.")


def _write_shards(config: PrepareConfig, manifest: Manifest) -> None:
    writers = {split: ShardWriter(manifest, split, config.shard_tokens) for split in SPLITS}
    started, n_tokens = time.perf_counter(), 0
    texts = (TextColumn("{task.description}"), TextColumn("{task.fields[state]}"))
    with Progress(SpinnerColumn(), *texts, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("tokenizing", total=None, state="")
        for end, tokens in tokenize(manifest.folder / TOKENIZER, _missing(config, manifest), config.workers or 0):
            finished = writers[split_of(end.document - 1)].add(tokens, end)
            n_tokens += len(tokens)
            rate = f"{n_tokens / (time.perf_counter() - started):,.0f} tokens/s"
            progress.update(task, state=f"document {end.document:,}  {n_tokens:,} tokens  {rate}")
            if finished:
                say(f"{finished.file}: {finished.tokens:,} tokens, {finished.documents:,} documents  {rate}")
    for writer in writers.values():
        writer.finish()
    manifest.complete = True
    manifest.write()
    say(f"complete: {_sum(manifest)} in {manifest.folder}")


def _missing(config: PrepareConfig, manifest: Manifest) -> Iterator[Placed]:
    """The documents that are in no finished shard; the two splits may have come to different places."""
    ends = {split: manifest.end_of(split) for split in SPLITS}
    for place, document in open_corpus(config.corpus, "all", config.text_field).documents(min(ends.values())):
        if config.documents is not None and place.document > config.documents:
            return
        if place > ends[split_of(place.document - 1)]:
            yield place, document


def _sum(manifest: Manifest) -> str:
    shards = manifest.shards
    tokens, documents = sum(shard.tokens for shard in shards), sum(shard.documents for shard in shards)
    return f"{len(shards)} shards, {tokens:,} tokens, {documents:,} documents"

"""Tag texts in background processes, while the caller's process does something else; and keep the words that were found."""

import hashlib
import json
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interp.data.classes.scheme import ATTRIBUTES, SpanPatterns, Words
from interp.data.spacy_pipelines import Pipeline, Tagger, is_loaded
from interp.data.workers import WorkerPool
from interp.errors import InterpError
from interp.files import writing

FORMAT_VERSION = 1
SPANS = b"spans"
"""Where the metadata of the file holds spans, as JSON: there are as many as there are, not one a word."""


class TagCache:
    """Words by the sha256 of text, the pipeline's `fingerprint`, file format and the patterns that were searched for.

    What is kept are spaCy's words, not tags of byte-pair tokens: one cache serves every tokenizer and every scheme.
    A file that cannot be read counts as absent and is written again.
    """

    def __init__(self, folder: Path, fingerprint: str, patterns: str = "") -> None:
        self.folder = folder
        self.key = f"{FORMAT_VERSION}\0{fingerprint}\0{patterns}".encode()

    def path(self, text: str) -> Path:
        """Return where the words of a text are kept, or would be."""
        digest = hashlib.sha256(self.key + text.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / digest[:2] / f"{digest}.parquet"

    def read(self, text: str) -> Words | None:
        """Return the words of a text, or None."""
        try:
            with pq.ParquetFile(
                self.path(text), read_dictionary=list(ATTRIBUTES), page_checksum_verification=True
            ) as file:
                table = file.read()
            starts, ends = (table[name].to_numpy().astype(np.int64) for name in ("start", "end"))
            columns: dict[str, Any] = {name: table[name].combine_chunks() for name in ATTRIBUTES}
            codes = {name: column.indices.to_numpy().astype(np.int64) for name, column in columns.items()}
            names = {name: tuple(column.dictionary.to_pylist()) for name, column in columns.items()}
            found = json.loads((table.schema.metadata or {}).get(SPANS, b"{}"))
            spans = {key: np.array(pairs, dtype=np.int64).reshape(-1, 2) for key, pairs in found.items()}
            return Words(starts, ends, codes, names, spans)
        except (OSError, pa.ArrowException, KeyError, AttributeError, ValueError):
            return None

    def write(self, text: str, words: Words) -> None:
        """Keep the words of a text; where the folder cannot be written, they are made again next time."""
        columns: dict[str, pa.Array] = {
            "start": pa.array(words.starts.astype(np.int32)),
            "end": pa.array(words.ends.astype(np.int32)),
        }
        for name in ATTRIBUTES:
            codes = pa.array(words.codes[name].astype(np.int32))
            columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(words.names[name], pa.string()))
        with suppress(InterpError), writing(self.path(text)) as path:
            spans = json.dumps({key: found.tolist() for key, found in words.spans.items()})
            table = pa.table(columns, metadata={SPANS: spans})
            pq.write_table(table, path, compression="zstd", write_page_checksum=True)


class TagPool(AbstractContextManager["TagPool"]):
    """Hands out the words of texts, with the spans of `patterns`, as futures: from the cache, else from `workers` processes.

    A process starts with the first text that is not in the cache. With `workers=0` texts are tagged at once, in here,
    and so they are where functions give spans, and where the pipeline is an `nlp` object: neither goes to another process.
    """

    def __init__(
        self, pipeline: Pipeline, workers: int, cache: TagCache | None, patterns: SpanPatterns = SpanPatterns()
    ) -> None:
        workers = 0 if patterns.functions or is_loaded(pipeline) else workers
        self.tagger = Tagger(pipeline, patterns)
        self.cache = cache
        command = ("tagging", "interp.data.tagging.worker", str(pipeline))
        self.processes = WorkerPool(*command, workers) if workers else None

    def submit(self, text: str) -> "Future[Words]":
        """Ask for the words of a text; an `InterpError` comes out of the future."""
        if self.processes:
            return self.processes.threads.submit(self._words, text)
        done: Future[Words] = Future()
        done.set_result(self._words(text))
        return done

    def _words(self, text: str) -> Words:
        words = self.cache.read(text) if self.cache else None
        if words is None:
            words = self.processes.ask((text, self.tagger.patterns)) if self.processes else self.tagger.words(text)
            if self.cache:
                self.cache.write(text, words)
        return words

    def __exit__(self, *error: Any) -> None:
        """Stop the processes, also in the middle of a text."""
        if self.processes:
            self.processes.__exit__(*error)

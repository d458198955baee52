"""A corpus is a stream of documents that can be read again: from a name, a path or strings; split by documents."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd

from interp.data.corpora.formats import Texts, read_path, require_column
from interp.data.corpora.hugging_face import PREFIX, read_dataset
from interp.data.corpora.wikipedia import wikipedia_sample
from interp.errors import InterpError, nearest

Split = Literal["all", "train", "validation"]
NAMED: dict[str, Callable[[], Texts]] = {"wikipedia-sample": wikipedia_sample}
SIZES = {"wikipedia-sample": 2_600_000}
"""About how many characters they have, for the time left."""

VALIDATION_EVERY = 8
"""Every eighth document is held out; whole documents, so that no sentence is both trained on and measured."""

_UNENCODABLE = re.compile("[\0\ud800-\udfff]")


class Place(NamedTuple):
    """How far a corpus has been read: rows of its source, and documents in them (a row without text is none)."""

    row: int = 0
    document: int = 0


@dataclass(frozen=True)
class Document:
    """One text of a corpus: never empty, without NUL and lone surrogates (they become U+FFFD)."""

    name: str
    text: str


@dataclass(eq=False)
class Corpus:
    """Documents in a fixed order, read from their source each time the corpus is iterated."""

    name: str  # the corpus' name, the file or folder, or "strings"
    source: Callable[[int], Texts]  # gives (name, text) of every row from the row with the given index on
    split: Split = "all"
    _characters: int | None = None  # of the whole corpus

    @property
    def characters(self) -> int | None:
        """About how many characters the split has, where that is known without reading it."""
        share = {"all": 1.0, "validation": 1 / VALIDATION_EVERY, "train": 1 - 1 / VALIDATION_EVERY}[self.split]
        return None if self._characters is None else int(share * self._characters)

    def __iter__(self) -> Iterator[Document]:
        for _, document in self.documents():
            yield document

    def documents(self, start: Place = Place()) -> Iterator[tuple[Place, Document]]:
        """Yield the split's documents from a place on, each with the place after it, where reading can go on."""
        index = start.document
        for row, (name, text) in enumerate(self.source(start.row), start=start.row + 1):
            if not text or text.isspace():
                continue
            index += 1
            if self.split in ("all", split_of(index - 1)):
                yield Place(row, index), Document(name, encodable(text))


def encodable(text: str) -> str:
    """Return a text with U+FFFD in the place of NUL and lone surrogates, which tokenizers do not take."""
    return _UNENCODABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def other_split(split: Literal["train", "validation"]) -> Literal["train", "validation"]:
    """Return the split that has the other documents."""
    return "train" if split == "validation" else "validation"


CorpusLike = str | Path | Iterable[str] | Corpus
"""The name of a corpus, a path, texts, or a corpus that is open."""


def split_of(index: int) -> Literal["train", "validation"]:
    """Return the split of the document with this index."""
    return "validation" if index % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "train"


def open_corpus(corpus: CorpusLike, split: Split = "all", text_field: str = "text") -> Corpus:
    """Return a re-iterable corpus.

    Args:
        corpus: a name ("wikipedia-sample"); a .txt file (one document, or one every 10,000 characters), a .jsonl, .csv or
            .tsv, .json or .parquet file, packed ones (.gz, .bz2, .zst) too; a folder of those, read recursively in sorted
            order; a DataFrame or a Series; a data set of the Hugging Face hub,
            streamed, as "hf:NAME[:CONFIG][:SPLIT]", or "hf:FOLDER" for a local one; strings, one a document; or a
            `Corpus`, to take a split of it.
        split: "validation" is every eighth document, "train" the other seven, "all" both.
        text_field: the column of .jsonl, .csv, .parquet and data sets that holds the text.

    Raises:
        InterpError: no such corpus, unreadable files, or no document in the split.
    """
    if split not in get_args(Split):
        raise InterpError(f"There is no split {split!r}; choose one of {', '.join(get_args(Split))}.")
    opened = _open(corpus, split, text_field)
    if next(iter(opened), None) is not None:
        return opened
    if opened.split == "all":
        raise InterpError(f"The corpus {opened.name} holds no document with text in it; give one that does.")
    found = sum(1 for _ in Corpus(opened.name, opened.source))
    raise InterpError(
        f"The {opened.split} split of {opened.name} is empty: every {VALIDATION_EVERY}th document is for validation "
        f"and there are {found}; give at least {VALIDATION_EVERY} documents or use split='all'."
    )


def open_for_measuring(corpus: CorpusLike, split: Split | None = None, text_field: str = "text") -> Corpus:
    """Return `open_corpus` of the split; without one the held-out part of the Wikipedia sample, and all of anything else.

    Raises:
        InterpError: as `open_corpus`.
    """
    named = isinstance(corpus, str) and corpus == "wikipedia-sample"
    return open_corpus(corpus, split or ("validation" if named else "all"), text_field)


def _open(corpus: CorpusLike, split: Split, text_field: str) -> Corpus:
    if isinstance(corpus, Corpus):
        return corpus if split == "all" else Corpus(corpus.name, corpus.source, split, corpus._characters)
    if isinstance(corpus, str) and corpus in NAMED:
        return Corpus(corpus, _from(NAMED[corpus]), split, SIZES.get(corpus))
    if isinstance(corpus, str) and corpus.startswith(PREFIX):
        return Corpus(corpus, lambda row: read_dataset(corpus, text_field, row), split)
    if isinstance(corpus, str | Path):
        path = existing(corpus)
        return Corpus(str(path), _from(lambda: read_path(path, text_field)), split, _size(path))
    if isinstance(corpus, pd.DataFrame):
        require_column(text_field, list(map(str, corpus.columns)), "The DataFrame")
        corpus = corpus[text_field]
    if isinstance(corpus, pd.Series):
        corpus = ["" if missing else text for text, missing in zip(corpus, corpus.isna(), strict=True)]
    texts = list(corpus)  # an iterator can be read only once
    known = sum(len(text) for text in texts if isinstance(text, str))
    return Corpus("strings", _from(lambda: _strings(texts)), split, known)


def _size(path: Path) -> int | None:
    """Bytes of plain text files; compressed ones do not say how much text they hold."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    plain = all(file.suffix in (".txt", ".jsonl", ".csv") for file in files)
    return sum(file.stat().st_size for file in files) if plain and files else None


def _from(source: Callable[[], Texts]) -> Callable[[int], Texts]:
    """A source that can start at a row: what comes before it is read and passed over."""
    return lambda row: islice(source(), row, None)


def existing(corpus: str | Path) -> Path:
    """Return the path that a corpus is.

    Raises:
        InterpError: there is neither a file nor a folder.
    """
    path = Path(corpus).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError):  # longer than a path can be, or with a NUL: a text was given for a path
        exists = False
    if not exists:
        shown = str(corpus) if len(str(corpus)) <= 80 else f"{str(corpus)[:77]}..."
        known = ", ".join(NAMED)
        raise InterpError(
            f"{shown!r} is neither a file, a folder nor a corpus (known: {known}){nearest(str(corpus), NAMED)} "
            f"Write {PREFIX}NAME for a data set of the Hugging Face hub; to use a text itself, pass it in a list."
        )
    return path


def _strings(texts: list[Any]) -> Texts:
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise InterpError(f"Document {number} of the given texts is of type {type(text).__name__}; expected str.")
        yield f"text {number}", text

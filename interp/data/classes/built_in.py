"""Schemes by name: built in (tags, surface of the token, frequency), from a file, or one's own."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from interp.data.classes.scheme import Scheme, Words
from interp.data.classes.spans import Labeller
from interp.data.classes.yaml_file import SUFFIXES, read_schemes
from interp.data.corpora.corpus import Corpus
from interp.data.spacy_pipelines import DEFAULT_PIPELINE, Pipeline, own_parts, pipeline_label, pipeline_meta
from interp.data.tokenizer import encode_documents
from interp.errors import InterpError, nearest
from interp.spelling import PIECES, token_texts
from interp.vocabulary import vocabulary_size

SURFACES = (
    "word start",  # lower-case letters after a blank
    "continuation",  # lower-case letters without a blank before them
    "capitalized",  # the first letter is upper-case
    "digits",  # at least one
    "punctuation",  # and symbols, emoji among them: neither letters nor digits
    "whitespace",
    "non-ascii",  # letters or marks beyond ASCII
    "bytes",  # a piece of a multi-byte character
)

DECILES = ("freq 1 (most frequent)", *(f"freq {number}" for number in range(2, 10)), "freq 10 (rarest)")
UNIVERSAL = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""The universal parts of speech; X is what fits nowhere else."""

FUNCTION_OF = {
    **dict.fromkeys(["ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"], "function"),
    **dict.fromkeys(["ADJ", "ADV", "NOUN", "PROPN", "VERB"], "content"),
    "NUM": "number",
    "PUNCT": "punctuation",
}


def build_schemes(
    names: Sequence[str | Path | Scheme | Labeller],
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    pipeline: Pipeline = DEFAULT_PIPELINE,
) -> list[Scheme]:
    """Return the named schemes, in order. Classes are known before the first document is read.

    Args:
        names: of `pos`, `tag`, `dep`, `ent`, `function`, `surface`, `freq`; paths of YAML files (docs/classes.md);
            functions of spaCy documents (`interp.token_classes`); or schemes of one's own.
        tokenizer: whose vocabulary `surface` and `freq` classify.
        corpus: what `freq` counts, in one pass.
        pipeline: whose labels are the classes of `tag`, `dep` and `ent`.

    Raises:
        InterpError: an unknown or repeated name, none at all, a file that defines none, or a pipeline that is not installed.
    """
    if not names:
        raise InterpError(f"No scheme was named; choose from {', '.join(BUILT_IN)}.")
    schemes: dict[str, Scheme] = {}
    for scheme in (one for name in names for one in _named(name, tokenizer, corpus, pipeline)):
        if scheme.name in schemes:
            raise InterpError(f"The scheme {scheme.name!r} is named twice; name each once.")
        schemes[scheme.name] = scheme
    return list(schemes.values())


def _named(
    name: str | Path | Scheme | Labeller, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline: Pipeline
) -> list[Scheme]:
    if isinstance(name, Scheme):
        return [name]
    if isinstance(name, Labeller):
        return name.schemes()
    if callable(name):
        raise InterpError(
            f"The function {getattr(name, '__name__', name)!r} does not say which classes it gives; write "
            '@interp.token_classes("one", "another") above it.'
        )
    if Path(name).suffix in SUFFIXES:
        return read_schemes(name)
    if (built_in := str(name)) not in BUILT_IN:
        known = ", ".join(BUILT_IN)
        raise InterpError(f"There is no scheme {built_in!r}; choose from {known}{nearest(built_in, BUILT_IN)}")
    return [BUILT_IN[built_in](tokenizer, corpus, pipeline)]


TAGGED_BY = {
    "pos": ("tagger", "morphologizer", "attribute_ruler"), "function": ("tagger", "morphologizer", "attribute_ruler"),
    "tag": ("tagger", "attribute_ruler"), "dep": ("parser",), "ent": ("ner", "entity_ruler", "span_ruler"),
}  # fmt: skip
"""Components of a pipeline of which a scheme needs one."""


def refuse_untagged(names: Iterable[object], pipeline: Pipeline) -> None:
    """Refuse a pipeline that gives every word the same tag; one with parts that are not spaCy's may set any.

    Raises:
        InterpError: a scheme among the names needs a component that the pipeline lacks, or there is no such pipeline.
    """
    for name in names:
        needed = TAGGED_BY.get(str(name), ())
        has = pipeline_meta(pipeline).get("pipeline", needed) if needed else ()
        if needed and not set(needed) & set(has) and not own_parts(pipeline):
            raise InterpError(
                f"The scheme {name!r} needs a pipeline with one of {', '.join(needed)}, and "
                f"{pipeline_label(pipeline)!r} has {', '.join(has) or 'none'}; choose another "
                "pipeline, or a scheme that needs no tags, such as surface."
            )


def surfaces(tokenizer: PreTrainedTokenizerFast) -> Int64[np.ndarray, " d_vocab"]:
    """Return the index into `SURFACES` of every token of the vocabulary."""
    texts = token_texts(tokenizer, range(vocabulary_size(tokenizer)))
    found = ("bytes" if PIECES.search(text) else surface(text) for text in texts)
    return np.array([SURFACES.index(name) for name in found], dtype=np.int64)


def surface(string: str) -> str:
    """Return the surface of a token's string, the first that fits in the order of the questions below."""
    body = string.strip()
    if not body:
        return "whitespace"
    if any(character.isdecimal() for character in body):
        return "digits"
    if not any(unicodedata.category(character)[0] in "LMN" for character in body):  # letters, marks, numbers
        return "punctuation"
    if not body.isascii():
        return "non-ascii"
    if next(character for character in body if character.isalpha()).isupper():
        return "capitalized"
    return "word start" if string[0].isspace() else "continuation"


def deciles(tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> Int64[np.ndarray, " d_vocab"]:
    """Return the index into `DECILES` of every token of the vocabulary, after one pass over the corpus.

    Token types are ranked by count, ties by id, and the ranking is cut so that each decile holds about a tenth of all
    occurrences: the first a few very frequent types, the last thousands of rare ones. A type that straddles a cut goes
    where its middle occurrence falls. Types that do not occur are in the last.
    """
    counts = np.zeros(vocabulary_size(tokenizer), dtype=np.int64)
    for tokens, _ in encode_documents(tokenizer, corpus):
        counts += np.bincount(tokens[1:], minlength=len(counts))
    return cut_into_tenths(counts)


def cut_into_tenths(counts: Int64[np.ndarray, " d_vocab"]) -> Int64[np.ndarray, " d_vocab"]:
    """Return 0 to 9 for each count, so that the counts of each tenth add up to about a tenth of the whole."""
    order = np.argsort(-counts, kind="stable")
    middle = np.cumsum(counts[order]) - counts[order] / 2
    tenth = np.empty(len(counts), dtype=np.int64)
    tenth[order] = np.minimum(middle * 10 // max(1, counts.sum()), 9).astype(np.int64)
    tenth[counts == 0] = 9
    return tenth


def _labels(pipeline: Pipeline, *components: str) -> dict[str, str]:
    known = pipeline_meta(pipeline)["labels"]
    return {label: label for label in sorted({label for name in components for label in known.get(name, [])})}


def _from_tags(name: str, attribute: str, class_of: Mapping[str, str], other: str, space: str) -> Scheme:
    """A scheme that reads one attribute of words; labels not in `class_of` are `other`, white space is `space`."""
    classes = tuple(dict.fromkeys(["bos", *class_of.values(), other, space]))

    def assign(tokens: np.ndarray, words: Words | None, nearest_word: np.ndarray | None) -> np.ndarray:
        if words is None or nearest_word is None:
            raise InterpError(f"The scheme {name!r} needs tagged words and got none.")
        named = [classes.index(class_of.get(label, other)) for label in words.names[attribute]]
        table = np.array(named, dtype=np.int64)
        of_word = np.where(words.is_space(), classes.index(space), table[words.codes[attribute]])
        return np.append(of_word, classes.index(space))[nearest_word]  # -1 finds the last: white space

    return Scheme(name, classes, needs_tags=True, assign=assign)


def _from_table(name: str, classes: tuple[str, ...], class_of_token: np.ndarray) -> Scheme:
    """A scheme that looks at nothing but the token; `class_of_token` [d_vocab] counts classes without bos."""

    def assign(tokens: np.ndarray, words: Words | None, nearest_word: np.ndarray | None) -> np.ndarray:
        return 1 + class_of_token[tokens]

    return Scheme(name, ("bos", *classes), needs_tags=False, assign=assign)


BUILT_IN: dict[str, Callable[[PreTrainedTokenizerFast, Corpus, Pipeline], Scheme]] = {  # tokenizer, corpus, pipeline
    "pos": lambda *_: _from_tags("pos", "pos", {name: name for name in UNIVERSAL}, "X", "SPACE"),
    "tag": lambda *given: _from_tags("tag", "tag", _labels(given[2], "tagger"), "untagged", "_SP"),
    "dep": lambda *given: _from_tags("dep", "dep", _labels(given[2], "parser"), "unparsed", "SPACE"),
    "ent": lambda *given: _from_tags("ent", "ent", _labels(given[2], *TAGGED_BY["ent"]), "none", "SPACE"),
    "function": lambda *_: _from_tags("function", "pos", FUNCTION_OF, "other", "space"),
    "surface": lambda tokenizer, *_: _from_table("surface", SURFACES, surfaces(tokenizer)),
    "freq": lambda tokenizer, corpus, _: _from_table("freq", DECILES, deciles(tokenizer, corpus)),
}
"""A scheme is one line here, and what the line calls."""

"""Schemes by name: partitions of the tokens into classes, built in, from a file, or one's own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from interp.data.corpus import Corpus
from interp.data.frequency import DECILES, deciles
from interp.data.labelling import Labeller
from interp.data.partition import Scheme
from interp.data.pipelines import DEFAULT_PIPELINE, pipeline_meta
from interp.data.scheme_file import SUFFIXES, read_schemes
from interp.data.surface import SURFACES, surfaces
from interp.data.words import Words
from interp.errors import InterpError, nearest

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
    pipeline_name: str = DEFAULT_PIPELINE,
) -> list[Scheme]:
    """Return the named schemes, in order. Classes are known before the first document is read.

    Args:
        names: of `pos`, `tag`, `dep`, `ent`, `function`, `surface`, `freq`; paths of YAML files (docs/classes.md);
            functions of spaCy documents (`interp.data.labelling.token_classes`); or schemes of one's own.
        tokenizer: whose vocabulary `surface` and `freq` classify.
        corpus: what `freq` counts, in one pass.
        pipeline_name: whose labels are the classes of `tag`, `dep` and `ent`.

    Raises:
        InterpError: an unknown or repeated name, none at all, a file that defines none, or a pipeline that is not installed.
    """
    if not names:
        raise InterpError(f"No scheme was named; choose from {', '.join(BUILT_IN)}.")
    schemes: dict[str, Scheme] = {}
    for scheme in (one for name in names for one in _named(name, tokenizer, corpus, pipeline_name)):
        if scheme.name in schemes:
            raise InterpError(f"The scheme {scheme.name!r} is named twice; name each once.")
        schemes[scheme.name] = scheme
    return list(schemes.values())


def _named(
    name: str | Path | Scheme | Labeller, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str
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
    return [_built_in(str(name))(tokenizer, corpus, pipeline_name)]


Builder = Callable[[PreTrainedTokenizerFast, Corpus, str], Scheme]


def _built_in(name: str) -> Builder:
    if name not in BUILT_IN:
        raise InterpError(f"There is no scheme {name!r}; choose from {', '.join(BUILT_IN)}{nearest(name, BUILT_IN)}")
    return BUILT_IN[name]


def _pos(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_tags("pos", "pos", {name: name for name in UNIVERSAL}, other="X", space="SPACE")


def _function(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_tags("function", "pos", FUNCTION_OF, other="other", space="space")


def _tag(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_tags("tag", "tag", _labels(pipeline_name, "tagger"), other="untagged", space="_SP")


def _dep(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_tags("dep", "dep", _labels(pipeline_name, "parser"), other="unparsed", space="SPACE")


def _ent(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_tags("ent", "ent", _labels(pipeline_name, "ner"), other="none", space="SPACE")


def _surface(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_table("surface", SURFACES, surfaces(tokenizer))


def _freq(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, pipeline_name: str) -> Scheme:
    return _from_table("freq", DECILES, deciles(tokenizer, corpus))


BUILT_IN: dict[str, Builder] = {
    "pos": _pos,
    "tag": _tag,
    "dep": _dep,
    "ent": _ent,
    "function": _function,
    "surface": _surface,
    "freq": _freq,
}


def _labels(pipeline_name: str, component: str) -> dict[str, str]:
    return {label: label for label in sorted(pipeline_meta(pipeline_name)["labels"].get(component, []))}


def _from_tags(name: str, attribute: str, class_of: Mapping[str, str], other: str, space: str) -> Scheme:
    """A scheme that reads one attribute of words; labels not in `class_of` are `other`, white space is `space`."""
    classes = tuple(dict.fromkeys(["bos", *class_of.values(), other, space]))

    def assign(tokens: np.ndarray, words: Words | None, nearest_word: np.ndarray | None) -> np.ndarray:
        if words is None or nearest_word is None:
            raise InterpError(f"The scheme {name!r} needs tagged words and got none.")
        table = np.array(
            [classes.index(class_of.get(label, other)) for label in words.names[attribute]], dtype=np.int64
        )
        of_word = np.where(words.is_space(), classes.index(space), table[words.codes[attribute]])
        return np.append(of_word, classes.index(space))[nearest_word]  # -1 finds the last: white space

    return Scheme(name, classes, needs_tags=True, assign=assign)


def _from_table(name: str, classes: tuple[str, ...], class_of_token: np.ndarray) -> Scheme:
    """A scheme that looks at nothing but the token; `class_of_token` [d_vocab] counts classes without bos."""

    def assign(tokens: np.ndarray, words: Words | None, nearest_word: np.ndarray | None) -> np.ndarray:
        return 1 + class_of_token[tokens]

    return Scheme(name, ("bos", *classes), needs_tags=False, assign=assign)

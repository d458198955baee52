"""Documents with a class for every byte-pair token, tagged ahead of the consumer."""

import functools
import operator
from collections.abc import Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from interp.data.classes.scheme import BOS, Scheme, SpanPatterns, Words, align
from interp.data.contexts import Dealer, Encoded, TaggedDocument
from interp.data.corpora.corpus import Corpus
from interp.data.spacy_pipelines import DEFAULT_PIPELINE, Pipeline, fingerprint
from interp.data.tagging.pool import TagCache, TagPool
from interp.data.tokenizer import encode_documents
from interp.data.workers import in_order
from interp.errors import InterpError
from interp.files import cache_folder


def tag_documents(
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    schemes: Sequence[Scheme],
    pipeline: Pipeline = DEFAULT_PIPELINE,
    workers: int = 1,
    cache: Path | Literal["default"] | None = "default",
    dealer: Dealer | None = None,
) -> Iterator[TaggedDocument]:
    """Yield the corpus' documents in order, each token with its class in every scheme.

    spaCy works in `workers` processes of its own, a few documents ahead, so that the caller's work goes on meanwhile;
    their number changes nothing in the result. Closing the iterator stops them. If no scheme needs tags, spaCy is not
    loaded at all.

    Args:
        tokenizer: makes the tokens.
        corpus: the documents.
        schemes: from `build_schemes`.
        pipeline: the spaCy pipeline, as for `load_pipeline`, or an `nlp` object.
        workers: tagging processes; 0 tags in this one, and so do functions and `nlp` objects, which go to no other.
        cache: a folder for spaCy's words, "default" for one in the cache folder, None for no cache. It holds words, not
            byte-pair tokens, so it serves every tokenizer. Where a function gives labels, or it cannot be told what an
            `nlp` object consists of (`spacy_pipelines.fingerprint`), nothing is kept.
        dealer: says which documents this process tags; without, all of them.

    Raises:
        InterpError: no such pipeline, a negative number of workers, or a tagging process that fails.
    """
    if workers < 0:
        raise InterpError(f"There cannot be {workers} tagging processes; give 0 or more.")
    encoded = encode(tokenizer, corpus)
    encoded = dealer.shard_by_block(encoded) if dealer else encoded
    if not any(scheme.needs_tags for scheme in schemes):
        yield from (_classify(document, schemes, None) for document in encoded)
        return
    folder = cache_folder() / "tags" if cache == "default" else cache
    patterns = functools.reduce(operator.or_, (scheme.patterns for scheme in schemes), SpanPatterns())
    known = fingerprint(pipeline) if folder and not patterns.functions else None
    keeper = TagCache(folder, known, patterns.digest()) if folder and known else None
    with TagPool(pipeline, workers, keeper, patterns) as pool:
        for document, words in in_order(encoded, lambda one: pool.submit(one.document.text), 2 * workers + 1):
            yield _classify(document, schemes, words)


def encode(tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> Iterator[Encoded]:
    """Yield the corpus' documents with their tokens, numbered from 0."""
    documents, to_encode = tee(corpus)
    for index, (document, encoding) in enumerate(zip(documents, encode_documents(tokenizer, to_encode), strict=True)):
        yield Encoded(index, document, *encoding)


def _classify(encoded: Encoded, schemes: Sequence[Scheme], words: Words | None) -> TaggedDocument:
    index, document, tokens, offsets, block = encoded
    text = document.text
    nearest_word = _nearest(words, offsets, text)
    classes = {}
    for scheme in schemes:
        units = scheme.units(text, words) if scheme.units else words
        nearest_unit = _nearest(units, offsets, text) if scheme.units else nearest_word
        classes[scheme.name] = np.append(np.int64(BOS), scheme.assign(tokens[1:], units, nearest_unit))
    return TaggedDocument(index, document, tokens, offsets, classes, block)


def _nearest(units: Words | None, offsets: np.ndarray, text: str) -> np.ndarray | None:
    return None if units is None else align(offsets[1:], text, units.starts, units.ends)

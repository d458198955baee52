"""A text as tokens with a class each, for as many schemes as are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from interp.data.contexts import TaggedDocument
from interp.data.corpus import open_corpus
from interp.data.labelling import Labeller
from interp.data.partition import Scheme
from interp.data.pipelines import DEFAULT_PIPELINE
from interp.data.schemes import build_schemes
from interp.data.tagging import tag_documents
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer

Schemes = Sequence[str | Path | Scheme | Labeller]
FREQUENCIES = "wikipedia-sample"


def schemes_for_sentences(
    model: HookedSymmetryBrokenTransformer,
    schemes: Schemes,
    pipeline: str = DEFAULT_PIPELINE,
    corpus: str | Path | Iterable[str] = FREQUENCIES,
) -> list[Scheme]:
    """Build schemes; `corpus` is where `freq` counts, for one sentence has no frequencies to speak of.

    Raises:
        InterpError: as `interp.data.schemes.build_schemes`.
    """
    counted = open_corpus(corpus if "freq" in schemes else ["none of these schemes counts"])
    return build_schemes(schemes, model.need_tokenizer(), counted, pipeline)


def tag_sentence(
    model: HookedSymmetryBrokenTransformer,
    text: str,
    schemes: Sequence[Scheme],
    pipeline: str = DEFAULT_PIPELINE,
) -> pd.DataFrame:
    """Return one row per token, bos first: `place, token_index, token_string`, and a column per scheme with its class.

    Columns of schemes are categorical, with all classes of the scheme.

    Raises:
        InterpError: no text, or more tokens than the model has positions.
    """
    if not text.strip():
        raise InterpError("There is no text to read; type a sentence.")
    corpus = open_corpus([text])
    document = next(tag_documents(model.need_tokenizer(), corpus, schemes, pipeline, workers=0))
    _check_length(len(document.tokens), model.cfg.n_ctx)
    return _table(model, document, schemes)


def _check_length(length: int, n_ctx: int) -> None:
    if length > n_ctx:
        raise InterpError(
            f"The text has {length:,} tokens, one before its first included, and the model reads at most {n_ctx:,} at "
            "once; shorten it."
        )


def _table(model: HookedSymmetryBrokenTransformer, document: TaggedDocument, schemes: Sequence[Scheme]) -> pd.DataFrame:
    strings = [model.to_single_str_token(int(token)) for token in document.tokens]
    classes = {s.name: pd.Categorical.from_codes(document.classes[s.name], list(s.classes)) for s in schemes}
    return pd.DataFrame(
        {"place": range(len(strings)), "token_index": document.tokens, "token_string": strings, **classes}
    )

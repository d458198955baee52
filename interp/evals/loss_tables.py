"""Held-out loss in detail: overall, at every position of the context, and for every token class, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64

from interp.data.contexts import Contexts, TaggedDocument, pack
from interp.data.corpus import Corpus, Split
from interp.data.pipelines import DEFAULT_PIPELINE
from interp.data.schemes import Scheme, build_schemes
from interp.data.tagging import tag_documents
from interp.errors import InterpError
from interp.evals.held_out import open_held_out
from interp.evals.ratios import DocumentRatios
from interp.model.tokens import special_index
from interp.model.transformer import HookedSymmetryBrokenTransformer


@dataclass(frozen=True)
class HeldOutLoss:
    """Mean cross-entropy of the next token in nats, with 95% intervals over documents.

    Every table has loss, low, high, n_tokens, n_documents. `overall` is one row; `positions` has one per `pos`, the place
    in the context of the token that predicts; `classes` one per `scheme` and `token_class` of the token that is predicted.
    """

    overall: pd.DataFrame
    positions: pd.DataFrame
    classes: pd.DataFrame
    run: dict[str, Any]


def held_out_loss(
    model: HookedSymmetryBrokenTransformer,
    corpus: str | Path | Iterable[str] | Corpus = "wikipedia-sample",
    schemes: Sequence[str | Scheme] = ("function",),
    *,
    split: Split | None = None,
    max_tokens: int | None = None,
    batch_size: int = 32,
    pipeline: str = DEFAULT_PIPELINE,
    workers: int = 0,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> HeldOutLoss:
    """Measure the loss on held-out documents, which follow each other in contexts of n_ctx tokens as in training.

    The overall loss is `interp.evals.loss.validation_loss` of the same documents.

    Args:
        model: with a tokenizer; it runs in evaluation mode, with its mean biases unless a `model.bias` block says otherwise.
        corpus: as for `interp.amplification`, or token shards made with the model's tokenizer.
        schemes: partitions of the tokens, by name or one's own; none is allowed.
        split: of the documents (default: "validation" of the Wikipedia sample and of shards, all of anything else).
        max_tokens: stop before the document that would exceed it.
        batch_size: contexts per forward pass; changes results by float32 rounding only.
        pipeline, workers: of the tagging, where a scheme needs it.
        on_tokens: hears how many tokens each forward pass has read.

    Raises:
        InterpError: no such corpus or scheme, nothing to predict, or a model without tokenizer.
    """
    tokenizer = model.need_tokenizer()
    opened = open_held_out(tokenizer, corpus, split)
    built = build_schemes(schemes, tokenizer, opened, pipeline) if schemes else []
    documents = _up_to(tag_documents(tokenizer, opened, built, pipeline, workers), max_tokens)
    cells = _Cells(model.cfg.n_ctx, built)
    ratios, was_training = DocumentRatios(cells.size), model.training
    model.eval()
    try:
        for contexts in pack(documents, model.cfg.n_ctx, batch_size, special_index(tokenizer.pad_token_id)):
            _add(model, contexts, cells, ratios)
            on_tokens(int(contexts.mask.sum()))
    finally:
        model.train(was_training)
    return _result(ratios.table(), cells, {"corpus": opened.name, "split": opened.split, "max_tokens": max_tokens})


class _Cells:
    """The numbers of the cells: 0 for everything, then the positions, then the classes of every scheme."""

    def __init__(self, n_ctx: int, schemes: Sequence[Scheme]) -> None:
        self.schemes, self.after_positions = schemes, n_ctx  # the last position predicts nothing
        self.starts = n_ctx + np.cumsum([0, *(len(scheme.classes) for scheme in schemes)])
        self.size = int(self.starts[-1])

    def of(self, contexts: Contexts, real: np.ndarray) -> Int64[np.ndarray, "kind token"]:
        """Return the cells in which each predicted token counts."""
        positions = np.broadcast_to(np.arange(real.shape[1]), real.shape)[real]
        classes = [
            contexts.classes[scheme.name][:, 1:].numpy()[real] + start
            for scheme, start in zip(self.schemes, self.starts.tolist(), strict=False)
        ]
        return np.stack([np.zeros_like(positions), 1 + positions, *classes])


@torch.no_grad()
def _add(model: HookedSymmetryBrokenTransformer, contexts: Contexts, cells: _Cells, ratios: DocumentRatios) -> None:
    real = contexts.mask[:, 1:].numpy()  # padding stands on the right, where nothing real sees it
    tokens = contexts.tokens.to(model.embed.weight.device)
    losses = model(tokens, return_type="loss", loss_per_token=True).double().cpu().numpy()  # [batch, pos - 1]
    ratios.update(contexts.documents[:, 1:].numpy()[real], cells.of(contexts, real), losses[real])


def _up_to(documents: Iterator[TaggedDocument], max_tokens: int | None) -> Iterator[TaggedDocument]:
    """Yield documents until one would exceed `max_tokens`, but always the first."""
    seen = 0
    for document in documents:
        seen += len(document.tokens)
        if seen > len(document.tokens) and max_tokens is not None and seen > max_tokens:
            return
        yield document


def _result(table: pd.DataFrame, cells: _Cells, run: dict[str, Any]) -> HeldOutLoss:
    if not table.loc[0, "n_tokens"]:
        raise InterpError("The corpus has no token to predict; give a text of at least one token.")
    overall, positions, classes = np.split(np.arange(len(table)), [1, cells.after_positions])
    names = [(scheme.name, name) for scheme in cells.schemes for name in scheme.classes]
    named = pd.DataFrame(names, columns=["scheme", "token_class"]).join(table.iloc[classes].reset_index(drop=True))
    places = pd.DataFrame({"pos": positions - 1}).join(table.iloc[positions].reset_index(drop=True))
    return HeldOutLoss(table.iloc[overall], places, named, run)

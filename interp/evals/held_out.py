"""The loss on what is held out: of a stream of tokens or of examples, as training measures it; of documents, with intervals
overall, by position and by class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64, Integer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.analysis.significance import interval_over_documents
from interp.data.classes.built_in import Scheme, build_schemes, refuse_untagged
from interp.data.contexts import Contexts, pack, take_tokens, told_of_length
from interp.data.corpora.corpus import Corpus, CorpusLike, Split, open_corpus, open_for_measuring
from interp.data.examples import TokenizedExamples
from interp.data.shards.open import TokenShards, is_shards, open_shards
from interp.data.spacy_pipelines import DEFAULT_PIPELINE, Pipeline
from interp.data.tagging.documents import tag_documents
from interp.errors import InterpError
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.provenance import Summarized, interval, model_and_text
from interp.vocabulary import border_id, vocabulary_size

PIECE = 1 << 20  # tokens of shards read at a time


HeldOut = Integer[np.ndarray, " stream"] | TokenizedExamples


def validation_loss(model: HookedSymmetryBrokenTransformer, held_out: HeldOut, batch_size: int = 32) -> float:
    """Return the mean cross-entropy in nats of every next token within consecutive contexts of n_ctx tokens.

    Of examples, each of which is a context of its own, it is the mean over the tokens that are learned. The model runs in
    evaluation mode, with its mean biases; its former mode is restored.
    """
    total, count = summed_loss(model, held_out, batch_size).tolist()
    return total / count


@torch.no_grad()
def summed_loss(
    model: HookedSymmetryBrokenTransformer, held_out: HeldOut, batch_size: int = 32, rank: int = 0, size: int = 1
) -> Float64[Tensor, " 2"]:
    """Return the summed cross-entropy in nats and the number of predicted tokens, as in `validation_loss`.

    Of `size` processes each measures every `size`-th batch; the sums of all are those of one process. Every process runs
    the model equally often, as sharded models need it, so some run a batch without counting it.
    """
    device = next(model.parameters()).device
    examples = isinstance(held_out, TokenizedExamples)
    batches = _rows(held_out, batch_size) if examples else _contexts(held_out, model.cfg.n_ctx, batch_size)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with model.evaluating():
        for turn in range(0, len(batches), size):
            mine = turn + rank < len(batches)
            tokens, learned = (torch.from_numpy(values).to(device) for values in batches[turn + rank if mine else 0])
            losses = model(tokens, return_type="loss", loss_per_token=True).double()  # [batch, pos - 1]
            if mine:
                counted = learned[:, 1:]
                sums += torch.stack([(losses * counted).sum(), counted.sum().double()])
    return sums


Rows = tuple[Int64[np.ndarray, "batch pos"], Bool[np.ndarray, "batch pos"]]  # tokens, and which are predicted


def _contexts(tokens: Integer[np.ndarray, " stream"], n_ctx: int, batch_size: int) -> list[Rows]:
    whole = len(tokens) // n_ctx * n_ctx
    parts = np.array_split(tokens[:whole].reshape(-1, n_ctx), range(batch_size, whole // n_ctx, batch_size))
    batches = [batch for batch in parts if len(batch)]
    batches += [tokens[None, whole:]] if len(tokens) - whole > 1 else []
    return [(batch.astype(np.int64), np.ones(batch.shape, dtype=bool)) for batch in batches]


def _rows(examples: TokenizedExamples, batch_size: int) -> list[Rows]:
    order = np.argsort(examples.lengths, kind="stable")  # little padding
    return [examples.rows(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


@dataclass(frozen=True, repr=False)
class HeldOutLoss(Summarized):
    """Mean cross-entropy of the next token in nats, with 95% intervals over documents.

    Every table has loss, low, high, n_tokens, n_documents and effective_documents, the documents of equal length that would
    tell as much; `low, high` are missing where they are too few (`interp.analysis.significance.why_no_interval`).
    `overall` is one row; `positions` has one per `pos`, the place in the context of the token that predicts; `classes` one
    per `scheme` and `token_class` of the token that is predicted. `documents` has one per `document`, numbered in the order
    of the corpus, with its n_tokens and loss: what differences between models on the same documents are made of.
    """

    overall: pd.DataFrame
    positions: pd.DataFrame
    classes: pd.DataFrame
    documents: pd.DataFrame
    run: dict[str, Any]

    def _summary(self) -> dict[str, str]:
        row = self.overall.iloc[0]
        return {
            **model_and_text(self.run | {name: int(row[name]) for name in ("n_tokens", "n_documents")}),
            "answer": f"The loss is {row['loss']:.4f} nats per token{interval(row['low'], row['high'], '.4f')}.",
            "next": ".overall, .positions, .classes",
        }


def held_out_loss(
    model: HookedSymmetryBrokenTransformer,
    corpus: CorpusLike = "wikipedia-sample",
    schemes: Sequence[str | Scheme] = ("function",),
    *,
    split: Split | None = None,
    text_field: str = "text",
    max_tokens: int | None = None,
    batch_size: int = 32,
    pipeline: Pipeline = DEFAULT_PIPELINE,
    workers: int = 0,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> HeldOutLoss:
    """Measure the loss on held-out documents, which follow each other in contexts of n_ctx tokens as in training.

    The overall loss is `validation_loss` of the same documents.

    Args:
        model: with a tokenizer; it runs in evaluation mode, with its mean biases unless a `model.bias` block says otherwise.
        corpus: as for `interp.amplification`, or token shards made with the model's tokenizer.
        schemes: partitions of the tokens, by name or one's own; none is allowed.
        split: of the documents (default: "validation" of the Wikipedia sample and of shards, all of anything else).
        text_field: column that holds the text, of a corpus that has columns.
        max_tokens: stop before the document that would exceed it.
        batch_size: contexts per forward pass; changes results by float32 rounding only.
        pipeline, workers: of the tagging, where a scheme needs it; an `nlp` object tags in this process.
        on_tokens: hears how many tokens each forward pass has read.

    Raises:
        InterpError: no such corpus or scheme, nothing to predict, or a model without tokenizer.
    """
    tokenizer = model.need_tokenizer()
    refuse_untagged(schemes, pipeline)
    opened = open_held_out(tokenizer, corpus, split, text_field)
    built = build_schemes(schemes, tokenizer, opened, pipeline) if schemes else []
    documents = take_tokens(tag_documents(tokenizer, opened, built, pipeline, workers), max_tokens)
    cells = _Cells(model.cfg.n_ctx, built)
    ratios = DocumentRatios(cells.size)
    n_tokens = 0
    with model.evaluating():
        for contexts in pack(documents, model.cfg.n_ctx, batch_size, border_id(tokenizer)):
            _add(model, contexts, cells, ratios)
            read = int(contexts.mask.sum())
            n_tokens += read
            on_tokens(read)
    run = {"model": model.cfg.model_name, "corpus": opened.name, "split": opened.split, "max_tokens": max_tokens,
           "warnings": told_of_length(n_tokens, max_tokens)}  # fmt: skip
    return _result(ratios, cells, run)


def open_held_out(
    tokenizer: PreTrainedTokenizerFast, corpus: CorpusLike, split: Split | None = None, text_field: str = "text"
) -> Corpus:
    """Return the held-out documents of a corpus: the validation split of the Wikipedia sample and of shards, else all.

    Shards are decoded document by document, so that words can be tagged; their tokenizer must be the one given.

    Raises:
        InterpError: no such corpus, or nothing in the split.
    """
    if isinstance(corpus, str | Path) and is_shards(corpus):
        shards = open_shards(corpus, "train" if split == "train" else "validation", vocabulary_size(tokenizer))
        return open_corpus(Corpus(str(corpus), lambda row: islice(_decoded(tokenizer, shards), row, None)))
    return open_for_measuring(corpus, split, text_field)


class DocumentRatios:
    """The mean of token values in each of `n_cells` cells; a token may count in several cells.

    With y_d the sum of the values and x_d the number of tokens of document d in a cell, the mean is R = sum y / sum x, and
    document d moves it by e_d = (y_d - R x_d) / sum x (Cochran, "Sampling Techniques", 1977, section 6.3). The interval is
    that of `interp.analysis.significance.interval_over_documents`, over the effective number of documents of the cell.
    """

    def __init__(self, n_cells: int) -> None:
        self.sums = np.zeros((6, n_cells))  # documents, x, y, xx, xy, yy
        self.first = list[np.ndarray]()  # x, y of the first cell, [document, 2]
        # the last document, of which more may come, and its x, y [2, cell]
        self.open: tuple[int, np.ndarray] | None = None

    def update(
        self,
        documents: Int64[np.ndarray, " token"],
        cells: Int64[np.ndarray, "kind token"],
        values: Float64[np.ndarray, " token"],
    ) -> None:
        """Add tokens with their documents, which come in the order of the corpus, and the cells each counts in."""
        if not len(documents):
            return
        known, place = np.unique(documents, return_inverse=True)
        n_cells = self.sums.shape[1]
        index = (place * n_cells + cells).ravel()
        weights = (np.ones(index.size), np.tile(values, len(cells)))
        parts = np.stack([np.bincount(index, w, len(known) * n_cells).reshape(-1, n_cells) for w in weights], axis=1)
        if self.open and self.open[0] == known[0]:
            parts[0] += self.open[1]
        elif self.open:
            self.add_documents(self.open[1][None])
        self.add_documents(parts[:-1])
        self.open = int(known[-1]), parts[-1]

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return a row per cell: loss, low, high, n_tokens, n_documents, effective_documents; missing if unknown."""
        if self.open:
            self.add_documents(self.open[1][None])
            self.open = None
        documents, x, y, xx, xy, yy = self.sums
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = y / x
            error = np.sqrt(np.maximum(yy - 2 * ratio * xy + ratio**2 * xx, 0)) / x
        effective = x**2 / np.maximum(xx, 1)
        low, high = interval_over_documents(ratio, error, effective, level)
        counts = {"n_tokens": x.astype(np.int64), "n_documents": documents.astype(np.int64)}
        return pd.DataFrame({"loss": ratio, "low": low, "high": high, **counts, "effective_documents": effective})

    def documents(self) -> pd.DataFrame:
        """Return a row per document that has tokens in the first cell: document, n_tokens, loss; after `table`."""
        x, y = np.concatenate([np.empty((0, 2)), *self.first]).T
        found = pd.DataFrame({"document": np.arange(len(x)), "n_tokens": x.astype(np.int64)})
        return found.assign(loss=y / np.maximum(x, 1)).loc[x > 0].reset_index(drop=True)

    def add_documents(self, parts: Float64[np.ndarray, "document 2 cell"]) -> None:
        """Add whole documents: their number of tokens, and the sum of their values, in every cell."""
        x, y = parts[:, 0], parts[:, 1]
        self.first.append(parts[:, :, 0])
        self.sums += np.stack([(x > 0).sum(0), x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0), (y * y).sum(0)])


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


def _result(ratios: DocumentRatios, cells: _Cells, run: dict[str, Any]) -> HeldOutLoss:
    table = ratios.table()
    if not table.loc[0, "n_tokens"]:
        raise InterpError("The corpus has no token to predict; give a text of at least one token.")
    overall, positions, classes = np.split(np.arange(len(table)), [1, cells.after_positions])
    names = [(scheme.name, name) for scheme in cells.schemes for name in scheme.classes]
    named = pd.DataFrame(names, columns=["scheme", "token_class"]).join(table.iloc[classes].reset_index(drop=True))
    places = pd.DataFrame({"pos": positions - 1}).join(table.iloc[positions].reset_index(drop=True))
    return HeldOutLoss(table.iloc[overall], places, named, ratios.documents(), run)


def _decoded(tokenizer: PreTrainedTokenizerFast, shards: TokenShards) -> Iterator[tuple[str, str]]:
    for number, tokens in enumerate(_documents(shards, border_id(tokenizer)), start=1):
        yield f"document {number}", str(tokenizer.decode(tokens))


def _documents(shards: TokenShards, bos: int) -> Iterator[np.ndarray]:
    """Yield the tokens between one bos and the next, across pieces and files."""
    waiting = np.empty(0, dtype=np.int64)
    for start in range(0, len(shards), PIECE):
        piece = shards.windows(np.array([start]), min(PIECE, len(shards) - start))[0]
        *whole, waiting = np.split(stream := np.concatenate([waiting, piece]), np.flatnonzero(stream == bos))
        yield from (tokens[tokens != bos] for tokens in whole if len(tokens) > 1)
    yield waiting[waiting != bos]

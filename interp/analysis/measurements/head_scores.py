"""What kind of head each one is: the standard scores of its attention, with the direction, without it, and by chance.

With p_ij the attention of query i = 1, 2, ... of a context to key j (the first query, i = 0, has no choice and counts for
none), t_i the token at i, and n the number of queries, the mean over queries of

- previous_token: p_i,i-1. TransformerLens' demos and `head_detector` call heads that score high previous-token heads.
- same_token: sum over j < i with t_j = t_i of p_ij, over the queries whose token occurred before. High in duplicate-token
  heads (Wang et al., arXiv 2211.00593).
- first_token: p_i0, to whatever token the context begins with (Xiao et al., arXiv 2309.17453: the attention sink).
- entropy: -sum_j p_ij ln p_ij, nats. exp of it is to how many tokens the query attends as if to all of them evenly.
- distance: sum_j p_ij (i - j), tokens.

- induction: border token, then L random tokens twice; the mean over the queries of the second copy of the attention to the
  token after their token's first occurrence, key i - (L - 1): "prefix matching" of Olsson et al., arXiv 2209.11895.

`*_uniform` is the same of a head that attends evenly to all tokens up to the query: what a score is without any preference.
Where a sink takes part of the attention, entropy and distance are of the part that tokens receive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from interp.analysis.attention import BLOCK
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.analysis.readers.reader import SeenLayer
from interp.data.contexts import Contexts

IN_TEXT = ("previous_token", "same_token", "first_token", "entropy", "distance")
SCORES = ("previous_token", "same_token", "first_token", "induction", "entropy", "distance")
"""The columns of the table; each also stands there with `READINGS` behind it."""

READINGS = ("", "_unbiased", "_uniform")
"""With the direction, without it, and of even attention."""

SAMPLE = 1024
"""Tokens of the corpus, from its beginning, whose attention is scored: whole contexts, at least one."""

COPY, SEQUENCES = 50, 4
"""Random tokens of a copy, fewer where contexts are short, and how many sequences of two copies are run."""


class HeadScores(Measurement):
    """Sums over the queries of the first contexts of the corpus; random tokens are run when tables are made."""

    PARTS = ("queries", "total", "uniform")

    def __init__(self, context: Context) -> None:
        self.contexts = -(-SAMPLE // context.reader.n_ctx)
        self.rows = slice(0)
        sizes = {"dtype": torch.float64, "device": context.device}
        self.queries = torch.zeros(len(IN_TEXT), **sizes)
        self.total = torch.zeros(len(IN_TEXT), context.layers, 2, context.heads, **sizes)
        self.uniform = torch.zeros(len(IN_TEXT), **sizes)

    def start(self, batch: Batch) -> None:
        """Choose the contexts of the batch that are scored, by their number in the corpus, and count their queries."""
        self.rows = slice(max(0, self.contexts - batch.first_row))
        for queries, counted, same in self._blocks(batch):
            places = torch.arange(queries.stop, device=counted.device)
            even = (places <= places[queries, None]) / (places[queries, None] + 1.0)  # [query, key_pos]
            self.uniform += _sums(even.expand(len(counted), 1, *even.shape), queries, counted, same)[:, 0]
            again = same.any(-1)
            self.queries += torch.stack([(again if name == "same_token" else counted).sum() for name in IN_TEXT])

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add the scores of a layer's heads, a block of queries at a time."""
        for queries, counted, same in self._blocks(batch):
            for reading, pattern in enumerate(view.seen.pattern(self.rows, queries)):
                self.total[:, view.layer, reading] += _sums(pattern, queries, counted, same)

    def _blocks(
        self, batch: Batch
    ) -> Iterator[tuple[slice, Bool[Tensor, "row query"], Bool[Tensor, "row query key_pos"]]]:
        """Yield blocks of queries, which of them count, and which earlier keys hold the token of one that counts."""
        mask, tokens = batch.mask[self.rows], batch.contexts[self.rows]
        for first in range(1, mask.shape[1] if len(mask) else 1, BLOCK):
            queries = slice(first, min(first + BLOCK, mask.shape[1]))
            same = tokens[:, queries, None] == tokens[:, None, : queries.stop]
            yield queries, mask[:, queries], same.tril(first - 1) & mask[:, queries, None]

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the table `head_scores`: one row per (layer, head), `SCORES` in all `READINGS`, and what they are means of.

        `n_queries` are the queries in text, `n_same_token` those whose token occurred before, `n_induction` those of random
        tokens; a score without any is missing.
        """
        context = found.context
        layer, head = np.indices((context.layers, context.heads)).reshape(2, -1)
        n: dict[str, Any] = dict(zip(IN_TEXT, as_numpy(self.queries), strict=True))
        scores: dict[str, Any] = dict(
            zip(IN_TEXT, as_numpy(self.total / self.queries[:, None, None, None]), strict=True)
        )
        uniform: dict[str, Any] = dict(zip(IN_TEXT, as_numpy(self.uniform / self.queries), strict=True))
        scores["induction"], uniform["induction"], n["induction"] = _induction(context)
        columns = {
            name + reading: scores[name][:, which].ravel() if which < 2 else uniform[name]
            for which, reading in enumerate(READINGS)
            for name in SCORES
        }
        counts = {"n_queries": n["entropy"], "n_same_token": n["same_token"], "n_induction": n["induction"]}
        table = pd.DataFrame({"model": context.reader.name, "layer": layer, "head": head} | columns | counts)
        return {"head_scores": table.astype({name: int for name in counts})}


def _sums(
    pattern: Float[Tensor, "row head_index query key_pos"],
    queries: slice,
    counted: Bool[Tensor, "row query"],
    same: Bool[Tensor, "row query key_pos"],
) -> Float64[Tensor, "score head_index"]:
    """Return the sums of the scores `IN_TEXT` over the queries that count."""
    keys = torch.arange(queries.stop, device=pattern.device)
    received = pattern.sum(-1)
    tiny = torch.finfo(pattern.dtype).tiny  # 0 ln 0 = 0
    information = pattern.clamp(min=tiny).log_().mul_(pattern).sum(-1)
    scores = torch.stack([
        pattern.diagonal(queries.start - 1, -2, -1),
        received,  # a place for same_token
        pattern[..., 0],
        received.log() - information / received,
        keys[queries] - pattern @ keys.to(pattern) / received,
    ])  # fmt: skip
    found = torch.where(counted[:, None], scores, 0.0).double().sum((1, 3))
    found[1] = sum(own.flatten(1) @ alike.flatten().to(own) for own, alike in zip(pattern, same, strict=True))
    return found


def random_sequences(context: Context) -> Int64[np.ndarray, "sequence pos"]:
    """Return sequences of the border token and L different random tokens, twice; by (seed, number) and the vocabulary.

    L is 50, or half a context, or the number of tokens that are not special, whichever is least.
    """
    reader = context.reader
    special = {reader.border, *reader.tokenizer.all_special_ids}
    known = [i for i in sorted(reader.tokenizer.get_vocab().values()) if i < reader.d_vocab and i not in special]
    length = min(COPY, (reader.n_ctx - 1) // 2, len(known))
    rows = []
    for number in range(SEQUENCES):
        copy = np.random.default_rng([context.settings.seed, number]).choice(known, length, replace=False)
        rows.append([reader.border, *copy, *copy])
    return np.array(rows, dtype=np.int64)


def _induction(context: Context) -> tuple[Float64[np.ndarray, "layer 2 head_index"], float, int]:
    """Return the induction scores, that of even attention, and of how many queries they are."""
    tokens = torch.from_numpy(random_sequences(context))
    length = tokens.shape[1] // 2
    found = np.full((context.layers, 2, context.heads), np.nan)
    if not length:
        return found, np.nan, 0
    queries = slice(length + 1, 2 * length + 1)
    classes = {name: torch.zeros_like(tokens) for name in context.classes.names}
    batch = Batch(Contexts(tokens, classes, tokens, tokens >= 0), context.classes, context.device)

    def see(layer: int, seen: SeenLayer) -> None:
        patterns = seen.pattern(slice(len(tokens)), queries)
        found[layer] = [as_numpy(pattern.diagonal(2, -2, -1).double().mean((0, 2))) for pattern in patterns]

    context.reader.visit(batch, context.shifts, see)
    return found, float((1 / np.arange(length + 2, 2 * length + 2)).mean()), len(tokens) * length

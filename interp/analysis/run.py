"""The one pass over a corpus: every measurement is fed layer by layer, merged over processes, kept on disk, made tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from interp.analysis.accumulators import Sums
from interp.analysis.batch import Batch, DocumentCounts
from interp.analysis.direction import direction_name
from interp.analysis.findings import FEW_TOKENS, findings_of
from interp.analysis.fitted import HasTokens, beginnings, fit_means, frequent_types, sample_of
from interp.analysis.measurement import Context, Found, LayerView, Measurement
from interp.analysis.measurements.bias_draws import BiasDraws, Components
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.measurements.explained import Explained
from interp.analysis.measurements.head_scores import HeadScores
from interp.analysis.measurements.passages import Passages, TopPassages
from interp.analysis.measurements.patterns import Patterns
from interp.analysis.measurements.position import Positions
from interp.analysis.measurements.shares import Shares
from interp.analysis.measurements.tokens import Tokens
from interp.analysis.nulls.directions import DirectionNull
from interp.analysis.nulls.equal_spread import EqualSpread
from interp.analysis.nulls.labels import LabelShifts
from interp.analysis.nulls.table import nulls_table, with_q
from interp.analysis.readers.own import OwnReader
from interp.analysis.readers.reader import Reader, SeenLayer
from interp.analysis.result import HEAD_COLUMNS, Amplification
from interp.analysis.resume import ResumeFile, all_reduce_sums
from interp.analysis.settings import Settings
from interp.data.classes.scheme import Scheme
from interp.data.contexts import Block, TaggedDocument, pack, take_tokens
from interp.errors import InterpError
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import tokenizer_sha256

MEASUREMENTS: tuple[type[Measurement], ...] = (
    Shares, BiasScores, Tokens, Positions, Passages, TopPassages, Patterns, DirectionNull, LabelShifts, EqualSpread,
    Explained, HeadScores, BiasDraws, Components,
)  # fmt: skip
"""All that a pass may measure, in the order of the columns of `heads` and of the rows of `nulls`."""


class Pass(Sums):
    """All that is summed over a corpus, block by block: the counts, and every measurement that the settings want."""

    PARTS = ("counts", "measurements")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.counts = DocumentCounts(context.classes)
        self.measurements = [found for kind in MEASUREMENTS if (found := kind.wanted(context)) is not None]
        self.rows = 0  # contexts seen, where documents come without blocks

    def add(
        self, documents: Iterable[TaggedDocument], block: Block | None, on_tokens: Callable[[int], None] | None = None
    ) -> None:
        """Run the model over the documents of a block and add them; `on_tokens` is told of every batch."""
        reader = self.context.reader
        passing = self.counts.passing(documents)
        if block:
            self.rows = block.first_row
        for contexts in pack(passing, reader.n_ctx, self.context.contexts_per_batch, reader.border):
            batch = Batch(contexts, self.context.classes, self.context.device, self.rows)
            self._update(batch)
            self.rows += len(contexts.tokens)
            if on_tokens:
                on_tokens(int(contexts.mask.sum()))
        for measurement in self.measurements:
            measurement.close()

    @property
    def tokens(self) -> int:
        """Tokens seen."""
        return self.counts.tokens

    @property
    def reported(self) -> Pass:
        """The pass whose tables these are: this one."""
        return self

    def _update(self, batch: Batch) -> None:
        for measurement in self.measurements:
            measurement.start(batch)

        def visit(layer: int, seen: SeenLayer) -> None:
            view = LayerView(self.context, batch, layer, seen)
            for measurement in self.measurements:
                measurement.layer(view, batch)

        self.context.reader.visit(batch, self.context.shifts, visit)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return all tables: first the columns of `heads`, then what they are held against, then each measurement's own."""
        found = Found(self.context, self.counts, self.measurements)
        tables: dict[str, pd.DataFrame] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = {name: of for each in self.measurements for name, of in each.columns(found).items()}
            heads = found.per_class(columns)
            found.heads = heads.loc[:, [*HEAD_COLUMNS, *heads.columns.difference(HEAD_COLUMNS, sort=False)]]
            nulls = [null for each in self.measurements for null in each.nulls(found)]
            found.nulls = nulls_table(found.index, found.heads, nulls)
            found.heads = with_q(found.heads, found.nulls, nulls)
            for measurement in self.measurements:
                tables |= measurement.tables(found)
        return {"heads": found.heads, **tables, "nulls": found.nulls}


class Halves(Sums):
    """Two passes over two halves of the documents: what one shows is held against what the other chose to look at.

    Half 0 has the documents numbered 0, 1, 4, 5, ... and half 1 the others, so that means by position are cross-fitted
    inside each half too.
    """

    PARTS = ("passes",)

    def __init__(self, context: Context) -> None:
        self.passes = [Pass(context), Pass(context)]

    def add(
        self, documents: Iterable[TaggedDocument], block: Block | None, on_tokens: Callable[[int], None] | None = None
    ) -> None:
        """Add the documents of a block, each to the pass of its half; they are held in memory until the block is done."""
        documents = list(documents)
        for half, of_half in enumerate(self.passes):
            of_half.add((each for each in documents if each.index // 2 % 2 == half), block, on_tokens)

    @property
    def tokens(self) -> int:
        """Tokens seen in both halves."""
        return sum(of_half.tokens for of_half in self.passes)

    @property
    def reported(self) -> Pass:
        """The pass whose tables these are: that of half 1."""
        return self.passes[1]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of half 1, and as `chosen` the rows of `heads` that are findings in half 0."""
        choosing, reporting = self.passes
        if not (choosing.counts.documents and reporting.counts.documents):
            raise InterpError("The corpus has no documents in one of the halves; held_out needs at least 3 documents.")
        tables = choosing.tables()
        chosen = findings_of(tables["heads"])
        return {**reporting.tables(), "chosen": chosen}


def by_block(documents: Iterable[TaggedDocument]) -> Iterator[tuple[Block | None, Iterator[TaggedDocument]]]:
    """Yield each block with its documents, which must be used before the next block is asked for."""
    for _, group in groupby(documents, lambda document: document.block and document.block.number):
        for first in group:
            yield first.block, chain([first], group)  # noqa: B031 - the loop ends with it


def measure(
    model: HookedSymmetryBrokenTransformer | Reader,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    settings: Settings = Settings(),
    *,
    sample: Iterable[HasTokens] | None = None,
    deciles: Int64[np.ndarray, " token"] | None = None,
    on_tokens: Callable[[int], None] | None = None,
    resume: ResumeFile | None = None,
    world: World | None = None,
) -> Amplification:
    """Measure every head and every class of every scheme in one pass.

    Args:
        model: run in evaluation mode, up to the last layer's attention; or what reads it.
        documents: tagged with exactly these schemes; whole documents are used until `max_tokens`.
        schemes: partitions of the tokens.
        settings: what is measured.
        sample: the documents, from the first on, that `fitted.fit_means` reads the beginnings of; by default the first of
            `documents`. A run with `resume`, and each of several processes, must be given all of them.
        deciles: frequency decile of every token (`interp.data.classes.built_in.deciles`): contrasts are adjusted for it too.
        on_tokens: called with the number of tokens of each batch when it is done.
        resume: where sums are kept, and what an earlier run kept: `documents` must be dealt in blocks
            (`interp.data.contexts`) that go on after `resume.done`. A run that goes on gives the very bits of one that was
            not interrupted.
        world: of processes that share the blocks. All of them return the result of the whole corpus; it differs from that
            of one process by the order of float64 additions, relatively about 1e-12.

    Raises:
        InterpError: no document, a model without tokenizer, a direction that does not fit, or deciles of another
            vocabulary, or no `sample` where it is needed.
    """
    reader = model if isinstance(model, Reader) else OwnReader(model)
    with reader.reading(settings.bias):
        if sample is None:
            if settings.fit_tokens and (resume or (world and world.size > 1)):
                raise InterpError(
                    "A run that may go on, or that shares the documents, needs all of them as sample= too: means are fitted "
                    "on the first."
                )
            sample, documents = sample_of(documents, settings.fit_tokens)
        context = Context.of(reader, schemes, settings, deciles)
        read = beginnings(sample, settings.fit_tokens)
        means = fit_means(reader, context.shifts, settings, read)
        context = replace(context, means=means, frequent=frequent_types(read, reader.d_vocab))
        kind = Halves if settings.held_out else Pass
        total = kind(context)
        if resume:
            resume.restore(total)
            if on_tokens:
                on_tokens(total.tokens)
        for block, of_block in by_block(take_tokens(documents, settings.max_tokens)):
            total.add(of_block, block, on_tokens)
            if resume and block:
                resume.save(block, total)
        total = all_reduce_sums(total, lambda: kind(context), world) if world else total
        if not total.tokens:
            raise InterpError("The corpus has no document to measure; give one that is not empty.")
        tables, counts = total.tables(), total.reported.counts
    plain = replace(settings, schemes=schemes, direction=direction_name(settings.direction)).plain()
    return Amplification.of(tables, {
        "model": reader.name, "n_tokens": counts.tokens, "n_documents": counts.documents,
        "n_layers": context.layers, "n_heads": context.heads, "n_ctx": reader.n_ctx,
        "tokenizer_sha256": tokenizer_sha256(reader.tokenizer), "settings": plain,
        **{name: plain[name] for name in READ_FROM_RUN}, "bias": reader.bias_name(plain["bias"]),
    })  # fmt: skip


def rounding_error(
    reader: Reader, exact: Reader, documents: Iterable[TaggedDocument], schemes: Sequence[Scheme], settings: Settings
) -> dict[str, Any]:
    """Measure on the beginnings of documents, in all `ROUNDING_TOKENS`, how far A is from that of the model in float32.

    Returns:
        `max_error`, `rms_error` of log2 amplification over `pairs` of a head and a class of at least `FEW_TOKENS` tokens,
        and the `tokens` they are measured on; errors are missing (None) without such a pair.
    """
    little = replace(
        settings, passages=0, nulls=0, amplified_nulls=0, shifts=0, fit_tokens=0, by_type=False, bias_samples=0,
        components=False, held_out=False, adjust_frequency=False, replicates=0,
    )  # fmt: skip
    read = list(take_tokens((each.beginning(ROUNDING_TOKENS // 4) for each in documents), ROUNDING_TOKENS))
    rough, true = (measure(each, read, schemes, little).heads for each in (reader, exact))
    errors = (rough["log2_amplification"] - true["log2_amplification"]).to_numpy(np.float64)
    errors = errors[(true["n_tokens"] >= FEW_TOKENS).to_numpy() & np.isfinite(errors)]
    largest, rms = (
        (float(np.abs(errors).max()), float(np.square(errors).mean() ** 0.5)) if len(errors) else (None, None)
    )
    return {
        "max_error": largest, "rms_error": rms, "pairs": len(errors), "tokens": sum(len(each.tokens) for each in read)
    }  # fmt: skip


ROUNDING_TOKENS = 4096
"""Tokens on which a model in half precision is held against itself in float32."""


READ_FROM_RUN = (
    "schemes", "bias", "direction", "seed", "replicates", "nulls", "amplified_nulls", "bias_samples", "adjust_frequency",
    "held_out",
)  # fmt: skip
"""Settings that also stand in the run record itself, where they always stood."""

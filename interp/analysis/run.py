"""Direct amplification of token classes by attention heads, in one pass over a stream of tagged documents.

Definitions, for head (l, h), with s_ij = q_i . k_j / sqrt(d_head) and bias score beta_j = b_Q . k_j / sqrt(d_head) (nats):

- share of class c: M_c = mean_i sum_{j in c} softmax(s + beta)_ij over the causal context; M0_c the same with s alone;
- direct amplification: A_c = log2(M_c / M0_c). What reaches the layer is held fixed, so this is exact;
- contrast: E[beta | c] - E[beta]; Hedges' g against the other classes; AUROC_c = P(beta of a c token > beta of another);
- alignment: mean cosine of k_j and b_Q over the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments, GroupedSums
from interp.analysis.batch import (
    Batch,
    DocumentCounts,
    Ranges,
    class_ranges,
    visit_queries_and_keys,
    with_permuted_labels,
)
from interp.analysis.direction import Direction, QueryShifts, direction_name, query_shifts
from interp.analysis.measurements.bias_draws import BiasSamples, draws_table, samples_table
from interp.analysis.measurements.bias_scores import HeadSums, heads_table
from interp.analysis.measurements.passages import PassageSample, measure_passages
from interp.analysis.measurements.position import (
    StratifiedSums,
    adjusted_table,
    position_profile,
    positions_table,
    strata_of,
)
from interp.analysis.measurements.selectivity import selectivity_table
from interp.analysis.measurements.shares import replicates_table
from interp.analysis.measurements.tokens import tokens_table
from interp.analysis.nulls.table import NullSums, no_nulls, nulls_table, with_q
from interp.analysis.result import Amplification
from interp.analysis.resume import ResumeFile, all_reduce_sums, restore, state_of
from interp.data.classes.built_in import Scheme
from interp.data.contexts import Block, Contexts, TaggedDocument, pack, take_tokens
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import END_OF_TEXT, tokenizer_sha256

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


class AmplificationSums(HeadSums):
    """Everything that is summed over the corpus; `update` with contexts, `merge` with another's, then read the parts.

    Memory does not grow with the corpus. Sums are float64, so batches and workers change a result only by the float32
    rounding of the model's own activations.
    """

    PARTS = (*HeadSums.PARTS, "tokens", "token_cosines", "positions", "strata", "nulls", "samples")

    def __init__(
        self,
        model: HookedSymmetryBrokenTransformer,
        shifts: QueryShifts,
        ranges: Ranges,
        replicates: int,
        seed: int,
        nulls: NullSums | None = None,
        deciles: Int64[np.ndarray, " token"] | None = None,
        samples: BiasSamples | None = None,
    ) -> None:
        super().__init__(model, shifts, ranges, replicates, seed)
        cfg, device = model.cfg, model.W_E.device
        n_classes = max(last for _, last in ranges.values())
        self.nulls, self.samples = nulls, samples
        self.tokens = GroupedMoments(cfg.n_layers, cfg.n_heads, cfg.d_vocab, device)
        self.token_cosines = GroupedSums(cfg.n_layers, cfg.n_heads, cfg.d_vocab, device)
        self.positions = GroupedMoments(cfg.n_layers, cfg.n_heads, cfg.n_ctx, device)
        strata = strata_of(cfg.n_ctx, cfg.d_vocab, deciles, device)
        self.strata = [StratifiedSums(each, cfg.n_layers, cfg.n_heads, n_classes, device) for each in strata]

    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts and add it."""
        permutations = len(self.nulls.shares.labels) if self.nulls else 0
        batch = Batch(contexts, self.ranges, self.model.W_E.device, permutations)
        self.start(batch)
        visit_queries_and_keys(self.model, batch.contexts, lambda layer, q, k: self._visit(layer, q, k, batch))
        if self.samples:
            self.samples.update(batch)

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers."""
        super().start(batch)
        for sums in (self.tokens, self.token_cosines):
            sums.count_groups(batch.tokens)
        self.positions.count_groups(batch.places)
        for part in (*self.strata, *([self.nulls] if self.nulls else [])):
            part.start(batch)

    def _visit(self, layer: int, q: HeadVectors, k: HeadVectors, batch: Batch) -> None:
        scores, cosines = self.add(layer, q, k, batch)
        self.tokens.update(layer, scores, batch.tokens)
        self.token_cosines.update(layer, cosines, batch.tokens)
        self.positions.update(layer, scores, batch.places)
        for strata in self.strata:
            strata.update(layer, scores)
        if self.nulls:
            self.nulls.update(layer, q + self.shifts.without_bias[layer], k, scores, batch)


SAMPLE = "sample."


class CorpusSums:
    """`add` blocks, `merge` with another's, `state` and `restore` for disk and network; then read the parts."""

    PARTS = ("sums", "counts")

    def __init__(self, sums: AmplificationSums, counts: DocumentCounts, sample: PassageSample) -> None:
        self.sums, self.counts, self.sample = sums, counts, sample

    def add(
        self,
        documents: Iterable[TaggedDocument],
        block: Block | None,
        batch_size: int,
        permutation_seed: int,
        on_tokens: Callable[[int], None],
    ) -> None:
        """Run the model over the documents of a block and add them."""
        model, nulls = self.sums.model, self.sums.nulls
        permutations = len(nulls.shares.labels) if nulls else 0
        labelled = with_permuted_labels(self.counts.passing(documents), permutations, permutation_seed)
        if block:
            self.sample.seen = block.first_row
        for contexts in pack(labelled, model.cfg.n_ctx, batch_size, model.to_single_token(END_OF_TEXT)):
            self.sums.update(contexts)
            self.sample.update(contexts)
            on_tokens(int(contexts.mask.sum()))
        if nulls:
            nulls.labels.close()  # a document ends with its block

    def merge(self, other: CorpusSums) -> None:
        """Add what another saw of other blocks."""
        for mine, others in ((self.sums, other.sums), (self.counts, other.counts), (self.sample, other.sample)):
            mine.merge(others)  # pyright: ignore[reportArgumentType] # each with its own kind

    def state(self) -> dict[str, Tensor]:
        """Return everything as tensors by name; at the end of a block nothing else is kept."""
        return {**state_of(self), **{SAMPLE + name: tensor for name, tensor in self.sample.state().items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what gave the state, under the same settings.

        Raises:
            InterpError: the state is of other settings.
        """
        restore(self, {name: tensor for name, tensor in state.items() if not name.startswith(SAMPLE)})
        sample = {name.removeprefix(SAMPLE): tensor for name, tensor in state.items() if name.startswith(SAMPLE)}
        self.sample.restore(sample)


def by_block(documents: Iterable[TaggedDocument]) -> Iterator[tuple[Block | None, Iterator[TaggedDocument]]]:
    """Yield each block with its documents, which must be used before the next block is asked for."""
    for _, group in groupby(documents, lambda document: document.block and document.block.number):
        for first in group:
            yield first.block, chain([first], group)  # noqa: B031 - the loop ends with it


def measure(
    model: HookedSymmetryBrokenTransformer,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    *,
    bias: BiasSource = "mean",
    direction: Direction = "bias",
    max_tokens: int | None = None,
    batch_size: int = 8,
    replicates: int = 200,
    passages: int = 20,
    passage_length: int = 40,
    seed: int = 0,
    nulls: int = 64,
    amplified_nulls: int = 0,
    null_seed: int = 0,
    bias_samples: int = 0,
    deciles: Int64[np.ndarray, " token"] | None = None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
    partial: ResumeFile | None = None,
    place: World | None = None,
) -> Amplification:
    """Measure every head and every class of every scheme.

    Args:
        model: run in evaluation mode up to the unembedding.
        documents: tagged with exactly these schemes; whole documents are used until `max_tokens`.
        schemes: partitions of the tokens.
        bias: which biases are in force.
        direction: along which vector (`interp.analysis.direction.query_shifts`).
        max_tokens: stop before the document that would exceed it.
        batch_size: contexts per forward pass; changes results only by float32 rounding.
        replicates: of the Poisson bootstrap over documents.
        passages, passage_length: sample of real text kept for the page.
        seed: of the bootstrap and of the sample.
        nulls: random directions of each head behind the table `nulls`; 0 leaves both nulls out.
        amplified_nulls: exact amplification too, along so many of them and under so many permutations of the labels; each
            pair costs about twice what the amplification itself costs.
        null_seed: of directions and permutations.
        bias_samples: draws of b under each of which everything in `heads` is measured again
            (`interp.analysis.measurements.bias_draws`); each costs a run without nulls. 0 leaves them out.
        deciles: frequency decile of every token (`interp.data.frequency.deciles`): contrasts are adjusted for it too.
        on_tokens: called with the number of tokens of each batch when it is done.
        partial: where sums are kept, and what an earlier run kept: `documents` must be dealt in blocks
            (`interp.data.contexts`) that go on after `partial.done`. A run that goes on gives the very bits of one that was
            not interrupted.
        place: of this process among those that share the blocks. All of them return the result of the whole corpus; it
            differs from that of one process by the order of float64 additions, relatively about 1e-12.

    Raises:
        InterpError: no document, a model without tokenizer, numbers of nulls that do not fit together, or deciles of
            another vocabulary.
    """
    if bias_samples and bias == "none":
        raise InterpError("bias_samples draws b, and bias='none' leaves b out; choose one of the two.")
    was_training = model.training
    names = {scheme.name: list(scheme.classes) for scheme in schemes}
    ranges = class_ranges(names)
    n_classes = sum(len(s.classes) for s in schemes)
    try:
        with model.eval().bias(bias=bias):
            shifts = query_shifts(model, direction)

            def samples() -> BiasSamples | None:
                return BiasSamples(model, direction, ranges, bias_samples, seed) if bias_samples else None

            def fresh() -> CorpusSums:
                null_sums = NullSums(shifts, n_classes, nulls, amplified_nulls, null_seed) if nulls else None
                starts = [first for first, _ in ranges.values()]
                return CorpusSums(
                    AmplificationSums(model, shifts, ranges, replicates, seed, null_sums, deciles, samples()),
                    DocumentCounts(list(names), starts, n_classes, model.cfg.d_vocab),
                    PassageSample(passages, seed),
                )

            total = fresh()
            if partial:
                partial.restore(total)
                on_tokens(total.counts.tokens)
            for block, documents_of in by_block(take_tokens(documents, max_tokens)):
                total.add(documents_of, block, batch_size, null_seed, on_tokens)
                if partial and block:
                    partial.save(block, total)
            total = all_reduce_sums(total, fresh, place) if place else total
            sums, counts, sample, null_sums = total.sums, total.counts, total.sample, total.sums.nulls
            if not counts.documents:
                raise InterpError("The corpus has no document to measure; give one that is not empty.")
            shown = measure_passages(model, shifts, sample.contexts(), names, passage_length)
    finally:
        model.train(was_training)
    name = model.cfg.model_name
    heads = heads_table(name, sums, counts, names)
    draws = [heads_table(name, each, counts, names) for each in sums.samples.sums] if sums.samples else []
    null_table = nulls_table(heads, null_sums, sums.scores, ranges) if null_sums else no_nulls()
    return Amplification(
        heads=with_q(heads, null_table),
        tokens=tokens_table(model, sums, counts, names),
        positions=positions_table(name, sums, position_profile(sums.strata[0], ranges)),
        passages=shown[0],
        passage_scores=shown[1],
        nulls=null_table,
        adjusted=adjusted_table(heads, sums.strata, ranges),
        selectivity=selectivity_table(heads),
        replicates=replicates_table(heads, sums.shares, counts),
        bias_samples=samples_table(heads, draws_table(draws)) if draws else pd.DataFrame(),
        bias_draws=draws_table(draws) if draws else pd.DataFrame(),
        run={
            "model": name, "n_tokens": counts.tokens, "n_documents": counts.documents, "n_layers": model.cfg.n_layers,
            "n_heads": model.cfg.n_heads, "n_ctx": model.cfg.n_ctx, "schemes": list(names), "bias": bias,
            "seed": seed, "replicates": replicates,
            "direction": direction_name(direction), "tokenizer_sha256": tokenizer_sha256(model.need_tokenizer()),
            "nulls": nulls, "amplified_nulls": amplified_nulls, "null_seed": null_seed,
            "bias_samples": bias_samples,
        },
    )  # fmt: skip

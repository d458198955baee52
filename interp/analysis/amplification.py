"""Direct amplification of token classes by attention heads, in one pass over a stream of tagged documents.

Definitions, for head (l, h), with s_ij = q_i . k_j / sqrt(d_head) and bias score beta_j = b_Q . k_j / sqrt(d_head) (nats):

- share of class c: M_c = mean_i sum_{j in c} softmax(s + beta)_ij over the causal context; M0_c the same with s alone;
- direct amplification: A_c = log2(M_c / M0_c). What reaches the layer is held fixed, so this is exact;
- contrast: E[beta | c] - E[beta]; Hedges' g against the other classes; AUROC_c = P(beta of a c token > beta of another);
- alignment: mean cosine of k_j and b_Q over the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

from interp.analysis.accumulate import AmplificationSums
from interp.analysis.adjusted_table import adjusted_table, position_profile
from interp.analysis.batch import class_ranges
from interp.analysis.bias_samples import BiasSamples, draws_table, samples_table
from interp.analysis.corpus_sums import CorpusSums, by_block
from interp.analysis.direction import Direction, direction_name, query_shifts
from interp.analysis.documents import DocumentCounts
from interp.analysis.gathering import gathered
from interp.analysis.null_table import no_nulls, nulls_table, with_q
from interp.analysis.nulls import NullSums
from interp.analysis.partial import PartialSums
from interp.analysis.passages import PassageSample, measure_passages
from interp.analysis.replicates import replicates_table
from interp.analysis.result import Amplification
from interp.analysis.selectivity import selectivity_table
from interp.analysis.tables import heads_table, positions_table, tokens_table
from interp.data.blocks import within
from interp.data.contexts import TaggedDocument
from interp.data.schemes import Scheme
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.ranks import Processes
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import tokenizer_sha256


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
    partial: PartialSums | None = None,
    place: Processes | None = None,
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
            (`interp.analysis.bias_samples`); each costs a run without nulls. 0 leaves them out.
        deciles: frequency decile of every token (`interp.data.frequency.deciles`): contrasts are adjusted for it too.
        on_tokens: called with the number of tokens of each batch when it is done.
        partial: where sums are kept, and what an earlier run kept: `documents` must be dealt in blocks
            (`interp.data.blocks`) that go on after `partial.done`. A run that goes on gives the very bits of one that was
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
            for block, documents_of in by_block(within(documents, max_tokens)):
                total.add(documents_of, block, batch_size, null_seed, on_tokens)
                if partial and block:
                    partial.save(block, total)
            total = gathered(total, fresh, place) if place else total
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

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
from jaxtyping import Int64

from interp.analysis.accumulate import AmplificationSums
from interp.analysis.adjusted_table import adjusted_table, position_profile
from interp.analysis.batch import class_ranges
from interp.analysis.direction import Direction, direction_name, query_shifts
from interp.analysis.documents import DocumentCounts
from interp.analysis.null_table import no_nulls, nulls_table, with_q
from interp.analysis.nulls import NullSums
from interp.analysis.passages import PassageSample, measure_passages
from interp.analysis.permutations import with_permuted_labels
from interp.analysis.replicates import replicates_table
from interp.analysis.result import Amplification
from interp.analysis.selectivity import selectivity_table
from interp.analysis.tables import heads_table, positions_table, tokens_table
from interp.data.contexts import TaggedDocument, pack
from interp.data.schemes import Scheme
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import END_OF_TEXT, tokenizer_sha256


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
    deciles: Int64[np.ndarray, " token"] | None = None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
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
        deciles: frequency decile of every token (`interp.data.frequency.deciles`): contrasts are adjusted for it too.
        on_tokens: called with the number of tokens of each batch when it is done.

    Raises:
        InterpError: no document, a model without tokenizer, numbers of nulls that do not fit together, or deciles of
            another vocabulary.
    """
    was_training = model.training
    names = {scheme.name: list(scheme.classes) for scheme in schemes}
    ranges = class_ranges(names)
    n_classes = sum(len(s.classes) for s in schemes)
    counts = DocumentCounts(list(names), [first for first, _ in ranges.values()], n_classes, model.cfg.d_vocab)
    sample = PassageSample(passages, seed)
    pad_token = model.to_single_token(END_OF_TEXT)
    try:
        with model.eval().bias(bias=bias):
            shifts = query_shifts(model, direction)
            null_sums = NullSums(shifts, n_classes, nulls, amplified_nulls, null_seed) if nulls else None
            sums = AmplificationSums(model, shifts, ranges, replicates, seed, null_sums, deciles)
            counted = counts.passing(documents, max_tokens)
            labelled = with_permuted_labels(counted, amplified_nulls if nulls else 0, null_seed)
            for contexts in pack(labelled, model.cfg.n_ctx, batch_size, pad_token):
                sums.update(contexts)
                sample.update(contexts)
                on_tokens(int(contexts.mask.sum()))
            if not counts.documents:
                raise InterpError("The corpus has no document to measure; give one that is not empty.")
            shown = measure_passages(model, shifts, sample.contexts(), names, passage_length)
    finally:
        model.train(was_training)
    name = model.cfg.model_name
    heads = heads_table(name, sums, counts, names)
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
        run={
            "model": name, "n_tokens": counts.tokens, "n_documents": counts.documents, "n_layers": model.cfg.n_layers,
            "n_heads": model.cfg.n_heads, "n_ctx": model.cfg.n_ctx, "schemes": list(names), "bias": bias,
            "seed": seed, "replicates": replicates,
            "direction": direction_name(direction), "tokenizer_sha256": tokenizer_sha256(model.need_tokenizer()),
            "nulls": nulls, "amplified_nulls": amplified_nulls, "null_seed": null_seed,
        },
    )  # fmt: skip

"""Total effect of the biases: scale them, run the model again, compare; in one pass over a stream of tagged documents.

- log2 change of attention: log2(M_c / M_c unchanged), M_c the share of attention that the keys of class c receive in a
  head, mean over all queries. Unlike in direct amplification (`interp.analysis.amplification`) everything downstream of
  the change counts: later layers read another residual stream.
- difference of loss: mean cross-entropy of the intervened model less that of the unchanged one, nats.
- KL(unchanged || intervened) of the predicted distributions, mean, nats; share of top predictions that change.
- Each beside a control of the same size in a random direction (`interp.analysis.interventions.plan`).

Intervals: Poisson bootstrap over documents, paired: the unchanged and the intervened model read the same resampled text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from interp.analysis.batch import class_ranges
from interp.analysis.documents import DocumentCounts
from interp.analysis.interventions.paths import without_layers_from
from interp.analysis.interventions.places import places
from interp.analysis.interventions.plan import Part, changes, only, planned
from interp.analysis.interventions.result import OVERALL, PATH_COLUMNS, Interventions
from interp.analysis.interventions.runs import runs_of
from interp.analysis.interventions.sums import InterventionSums
from interp.analysis.interventions.tables import TableMaker
from interp.data.contexts import TaggedDocument, pack
from interp.data.schemes import Scheme
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import END_OF_TEXT

LEAST_DOCUMENTS = 20


def intervene(
    model: HookedSymmetryBrokenTransformer,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    *,
    where: str | Sequence[str] = "all,layers,heads",
    scales: Sequence[float] = (0, 0.5, 1, 2),
    part: Part = "q",
    bias: BiasSource = "mean",
    random_directions: int = 1,
    paths: bool = True,
    max_tokens: int | None = None,
    batch_size: int = 8,
    stack: int = 8,
    replicates: int = 200,
    seed: int = 0,
    on_tokens: Callable[[int], None] = lambda tokens: None,
) -> Interventions:
    """Run the model with its biases scaled, at every place and scale, and with controls, and compare.

    Args:
        model: run in evaluation mode.
        documents: tagged with exactly these schemes.
        schemes: partitions of the tokens.
        where: "all", "layers" (each alone), "heads" (each alone), "L3", "L3H7"; several as a list or with commas.
        scales: alpha; 0 removes the biases, 1 leaves them, 2 doubles them.
        part: which biases are scaled: "q" (b_Q), "v" (b_V) or "qv" (both).
        bias: which biases are in force in the unchanged model.
        random_directions: controls of each intervention, along so many random directions.
        paths: also the table `paths`, which takes up to n_layers further runs.
        max_tokens: stop before the document that would exceed it, and take no more than the first twentieth of it from
            any document, so that the intervals stand on at least 20 documents where there are as many.
        batch_size: contexts per forward pass; changes results only by float32 rounding.
        stack: runs that go side by side along the batch axis; likewise.
        replicates: of the Poisson bootstrap over documents.
        seed: of the bootstrap and of the random directions.
        on_tokens: called with the number of tokens of each batch when it is done.

    Raises:
        InterpError: no document, a model without tokenizer, a place that is not there, or numbers that make no sense.
    """
    plan = planned(places(where, model.cfg.n_layers, model.cfg.n_heads), scales, random_directions)
    names = _names(schemes)
    ranges = class_ranges(names)
    n_classes = sum(map(len, names.values()))
    counts = DocumentCounts(list(names), [first for first, _ in ranges.values()], n_classes, model.cfg.d_vocab)
    was_training, pad_token = model.training, model.to_single_token(END_OF_TEXT)
    try:
        with model.eval().bias(bias=bias):
            biases = torch.stack(model.biases_in_force()).detach()
            listed = [*changes(biases, plan, part, seed), *(without_layers_from(only(biases, part)) if paths else [])]
            runs = runs_of(listed)
            of, of_paths = runs.of[: len(plan)], runs.of[len(plan) :]
            sums = InterventionSums(model, runs, [*of, runs.unchanged], ranges, replicates, seed, stack)
            counted = counts.passing(_prepared(documents, max_tokens), max_tokens)
            for contexts in pack(counted, model.cfg.n_ctx, batch_size, pad_token):
                sums.update(contexts)
                on_tokens(int(contexts.mask.sum()))
    finally:
        model.train(was_training)
    if not counts.documents:
        raise InterpError("The corpus has no document to measure; give one that is not empty.")
    with np.errstate(divide="ignore", invalid="ignore"):
        maker = TableMaker(sums, counts, names)
        return Interventions(
            attention=maker.attention(plan, of, part),
            loss=maker.loss(plan, of, part),
            predictions=maker.predictions(plan, of, part),
            paths=maker.paths(of_paths) if paths else pd.DataFrame(columns=list(PATH_COLUMNS)),
            run={
                "model": model.cfg.model_name, "n_tokens": counts.tokens, "n_documents": counts.documents,
                "schemes": list(names)[1:], "interventions": list(dict.fromkeys(each.place.name for each in plan)),
                "scales": list(scales), "part": part, "bias": bias, "random_directions": random_directions,
                "max_tokens": max_tokens, "replicates": replicates, "seed": seed, "runs": len(runs.first),
            },
        )  # fmt: skip


def _names(schemes: Sequence[Scheme]) -> dict[str, list[str]]:
    if any(scheme.name == OVERALL for scheme in schemes):
        raise InterpError(
            f"A scheme is called {OVERALL!r}, which stands for all tokens in these tables; give it another name."
        )
    return {OVERALL: [OVERALL], **{scheme.name: list(scheme.classes) for scheme in schemes}}


def _prepared(documents: Iterable[TaggedDocument], max_tokens: int | None) -> Iterator[TaggedDocument]:
    """Give every token the class `OVERALL`, and cut documents to a twentieth of `max_tokens`."""
    length = None if max_tokens is None else math.ceil(max_tokens / LEAST_DOCUMENTS)
    for document in documents:
        classes = {OVERALL: np.zeros_like(document.tokens), **document.classes}
        yield replace(document, classes=classes).beginning(length)

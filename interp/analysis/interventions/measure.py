"""Total effect of the biases: scale them, run the model again, compare; in one pass over a stream of tagged documents.

- log2 change of attention: log2(M_c / M_c unchanged), M_c the share of attention that the keys of class c receive in a
  head, mean over all queries. Unlike in direct amplification (`interp.analysis.run`) everything downstream of
  the change counts: later layers read another residual stream.
- difference of loss: mean cross-entropy of the intervened model less that of the unchanged one, nats.
- KL(unchanged || intervened) of the predicted distributions, mean, nats; share of top predictions that change.
- Each beside a control of the same size in a random direction (`interp.analysis.interventions.plan`).

Intervals: Poisson bootstrap over documents, paired: the unchanged and the intervened model read the same resampled text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64

from interp.analysis.batch import DocumentCounts, class_ranges
from interp.analysis.interventions.plan import (
    Intervention,
    Part,
    changes,
    only,
    paths_to,
    places,
    planned,
    without_layers_from,
)
from interp.analysis.interventions.result import (
    ATTENTION_COLUMNS,
    LOSS_COLUMNS,
    OVERALL,
    PATH_COLUMNS,
    PREDICTION_COLUMNS,
    Interventions,
)
from interp.analysis.interventions.run import InterventionSums, runs_of
from interp.analysis.significance import interval_over_documents, replicate_deviation
from interp.data.classes.built_in import Scheme
from interp.data.contexts import TaggedDocument, pack
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import END_OF_TEXT

Values = Float64[np.ndarray, "*shape"]

Replicates = Float64[np.ndarray, "replicate *shape"]


class TableMaker:
    """Makes the tables of `Interventions`; `names` gives the classes of each scheme, `OVERALL` first."""

    def __init__(self, sums: InterventionSums, counts: DocumentCounts, names: Mapping[str, Sequence[str]]) -> None:
        self.sums, self.counts = sums, counts
        classes = pd.DataFrame([(s, c) for s, known in names.items() for c in known], columns=["scheme", "token_class"])
        self.classes = classes.assign(n_tokens=counts.n_tokens, n_documents=counts.n_documents)
        self.effective = counts.effective()

    def attention(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `attention`: log2 of each class's share in every layer that an intervention reaches."""
        queries = self.counts.tokens
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            for layer in range(self.sums.runs.first[run], self.sums.model.cfg.n_layers):
                total, resampled = self._log_share(run, layer)
                before, resampled_before = self._log_share(self.sums.runs.unchanged, layer)
                change = _estimate("log2_change", total - before, resampled - resampled_before, self.effective)
                shares = {"share": np.exp2(total) / queries, "share_unchanged": np.exp2(before) / queries}
                frame = self._of_heads({**shares, **change}).assign(layer=layer)
                frames.append(_labelled(frame, intervention, part))
        return _joined(frames, ATTENTION_COLUMNS)

    def paths(self, of: Sequence[int]) -> pd.DataFrame:
        """Return the table `paths`; `of` gives the run without the biases of layer k and after it, for every k."""
        with_below = [*of, self.sums.runs.unchanged]  # with the biases of the layers below k only
        frames = []
        for layer in range(self.sums.model.cfg.n_layers):
            found = [self._log_share(run, layer) for run in with_below]
            for path in paths_to(layer):
                (upper, resampled_upper), (lower, resampled_lower) = found[path.upper], found[path.lower]
                value = _estimate(
                    "log2_amplification", upper - lower, resampled_upper - resampled_lower, self.effective
                )
                frames.append(self._of_heads(value).assign(layer=layer, path=path.name, source_layer=path.source))
        return _joined(frames, PATH_COLUMNS)

    def loss(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `loss`."""
        before, resampled_before = self._mean(self.sums.runs.unchanged, 0)
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            loss, resampled = self._mean(run, 0)
            change = _estimate("difference", loss - before, resampled - resampled_before, self.effective)
            frame = self._of_predicted({"loss": loss, "loss_unchanged": before, **change})
            frames.append(_labelled(frame, intervention, part))
        return _joined(frames, LOSS_COLUMNS)

    def predictions(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `predictions`."""
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            kl = _estimate("kl", *self._mean(run, 1), self.effective, "kl_")
            top1 = _estimate("top1_changed", *self._mean(run, 2), self.effective, "top1_")
            frames.append(_labelled(self._of_predicted({**kl, **top1}), intervention, part))
        return _joined(frames, PREDICTION_COLUMNS)

    def _log_share(self, run: int, layer: int) -> tuple[Values, Replicates]:
        """Return log2 of a layer's sums of attention in a run, [head_index, token_class], and of their replicates."""
        runs = self.sums.runs
        first = 0 if run == runs.unchanged else runs.first[run]
        values_alone = layer == first and run != runs.unchanged and not bool(runs.changes[run, 0, layer].any())
        if layer < first or values_alone:  # a layer's own b_V comes after its attention
            return self._log_share(self.sums.runs.unchanged, layer)
        sums = self.sums.attention[run]
        with np.errstate(divide="ignore"):
            total, resampled = (x.cpu().numpy() for x in (sums.total[layer - first], sums.resampled[:, layer - first]))
            return np.log2(total), np.log2(resampled)

    def _mean(self, run: int, quantity: int) -> tuple[Values, Replicates]:
        """Return a quantity's mean per class of predicted tokens, [token_class], and its replicates."""
        sums, count = self.sums.predictions, self.sums.predicted
        total, resampled = (
            sums.total[run, quantity] / count.total[0],
            sums.resampled[:, run, quantity] / count.resampled[:, 0],
        )
        return total.cpu().numpy(), resampled.cpu().numpy()

    def _of_heads(self, columns: Mapping[str, Values]) -> pd.DataFrame:
        """Return rows per head and class from columns [head_index, token_class], without the rows of all tokens."""
        heads = pd.DataFrame({"head": range(self.sums.model.cfg.n_heads)}).merge(self.classes, how="cross")
        frame = heads.assign(**{name: value.ravel() for name, value in columns.items()})
        return frame.loc[frame["scheme"] != OVERALL, :]

    def _of_predicted(self, columns: Mapping[str, Values]) -> pd.DataFrame:
        predicted = self.sums.predicted.total[0].cpu().numpy().astype(np.int64)
        return self.classes.assign(n_tokens=predicted, **columns)


def _estimate(
    name: str, value: Values, replicates: Replicates, effective: Float64[np.ndarray, " token_class"], prefix: str = ""
) -> dict[str, Values]:
    """Return a column and the ends of its interval; missing where the value is."""
    value = np.where(np.isfinite(value), value, np.nan)
    spread = replicate_deviation(np.moveaxis(np.where(np.isfinite(replicates), replicates, np.nan), 0, -1))
    low, high = interval_over_documents(value, spread, effective)
    return {name: value, f"{prefix}ci_low": low, f"{prefix}ci_high": high}


def _labelled(frame: pd.DataFrame, intervention: Intervention, part: Part) -> pd.DataFrame:
    name, layer, head = intervention.place
    return frame.assign(
        intervention=name, changed_layer=layer, changed_head=head, part=part, scale=intervention.scale,
        direction=intervention.direction, draw=intervention.draw,
    )  # fmt: skip


def _joined(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Put tables below each other; numbers of layers and heads that may be missing are floats, so that nan says it."""
    if not frames:
        return pd.DataFrame({column: [] for column in columns})
    nullable = {name: "float64" for name in ("changed_layer", "changed_head", "source_layer") if name in columns}
    return pd.concat([frame.astype(nullable) for frame in frames], ignore_index=True).loc[:, list(columns)]


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

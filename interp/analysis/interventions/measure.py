"""Total effect of the biases: scale them, run the model again, compare; in one pass over a stream of tagged documents.

- log2 change of attention: log2(M_c / M_c unchanged), M_c the share of attention that the keys of class c receive in a
  head, mean over all queries. Unlike in direct amplification (`interp.analysis.attention`) everything downstream of
  the change counts: later layers read another residual stream.
- difference of loss: mean cross-entropy of the intervened model less that of the unchanged one, nats.
- KL(unchanged || intervened) of the predicted distributions, mean, nats; share of top predictions that change.
- Each beside a control of the same size in a random direction (`interp.analysis.interventions.plan`).

Intervals: Poisson bootstrap over documents, paired: the unchanged and the intervened model read the same resampled text
(`interp.analysis.significance.interval_over_documents`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64

from interp.analysis.batch import Classes, DocumentCounts
from interp.analysis.direction import direction_name
from interp.analysis.fitted import FIT_TOKENS, LEAST_DOCUMENTS, beginnings, fit_means, sample_of
from interp.analysis.interventions.plan import (
    Intervention,
    Part,
    biases_of,
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
from interp.analysis.readers.own import OwnReader
from interp.analysis.readers.reader import SIDE_BY_SIDE, Reader
from interp.analysis.resume import all_reduce_sums
from interp.analysis.settings import InterventionSettings, Settings
from interp.analysis.significance import interval_over_documents, replicate_deviation
from interp.data.classes.scheme import Scheme
from interp.data.contexts import TaggedDocument, pack
from interp.errors import InterpError
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer

Values = Float64[np.ndarray, "*shape"]
Replicates = Float64[np.ndarray, "replicate *shape"]


class TableMaker:
    """Makes the tables of `Interventions`; the first scheme is `OVERALL`."""

    def __init__(self, sums: InterventionSums, counts: DocumentCounts) -> None:
        self.sums, self.counts = sums, counts
        schemes, labels = counts.numbering.labels()
        self.classes = pd.DataFrame({
            "scheme": schemes, "token_class": labels, "n_tokens": counts.n_tokens, "n_documents": counts.n_documents
        })  # fmt: skip
        self.effective = counts.effective()

    def attention(
        self, interventions: Sequence[Intervention], of: Sequence[int], part: Part, seen: Sequence[Sequence[int]]
    ) -> pd.DataFrame:
        """Return the table `attention`: log2 of each class's share in the layers `seen` of every run."""
        queries = self.counts.tokens
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            for layer in seen[run]:
                total, resampled = self._log_share(run, layer)
                before, resampled_before = self._log_share(self.sums.runs.unchanged, layer)
                change = estimate("log2_change", total - before, resampled - resampled_before, self.effective)
                shares = {"share": np.exp2(total) / queries, "share_unchanged": np.exp2(before) / queries}
                frame = self._of_heads({**shares, **change}).assign(layer=layer)
                frames.append(_labelled(frame, intervention, part))
        return _joined(frames, ATTENTION_COLUMNS)

    def paths(self, of: Sequence[int]) -> pd.DataFrame:
        """Return the table `paths`; `of` gives the run without the biases of layer k and after it, for every k."""
        with_below = [*of, self.sums.runs.unchanged]  # with the biases of the layers below k only
        frames = []
        for layer in range(self.sums.reader.n_layers):
            found = [self._log_share(run, layer) for run in with_below]
            found.append(self._log_share_at_positions(layer))  # the place AT_POSITIONS
            for path in paths_to(layer):
                (upper, resampled_upper), (lower, resampled_lower) = found[path.upper], found[path.lower]
                value = estimate("log2_amplification", upper - lower, resampled_upper - resampled_lower, self.effective)
                frames.append(self._of_heads(value).assign(layer=layer, path=path.name, source_layer=path.source))
        return _joined(frames, PATH_COLUMNS)

    def loss(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `loss`."""
        before, resampled_before = self._mean(self.sums.runs.unchanged, 0)
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            loss, resampled = self._mean(run, 0)
            change = estimate("difference", loss - before, resampled - resampled_before, self.effective)
            frame = self._of_predicted({"loss": loss, "loss_unchanged": before, **change})
            frames.append(_labelled(frame, intervention, part))
        return _joined(frames, LOSS_COLUMNS)

    def predictions(self, interventions: Sequence[Intervention], of: Sequence[int], part: Part) -> pd.DataFrame:
        """Return the table `predictions`."""
        frames = []
        for intervention, run in zip(interventions, of, strict=True):
            kl = estimate("kl", *self._mean(run, 1), self.effective, "kl_")
            top1 = estimate("top1_changed", *self._mean(run, 2), self.effective, "top1_")
            frames.append(_labelled(self._of_predicted({**kl, **top1}), intervention, part))
        return _joined(frames, PREDICTION_COLUMNS)

    def _log_share(self, run: int, layer: int) -> tuple[Values, Replicates]:
        """Return log2 of a layer's sums of attention in a run, [head_index, token_class], and of their replicates."""
        runs = self.sums.runs
        first = 0 if run == runs.unchanged else runs.first[run]
        values_alone = layer == first and run != runs.unchanged and not bool(runs.changes[run, 0, layer].any())
        if layer < first or values_alone:  # a layer's own b_V comes after its attention
            return self._log_share(self.sums.runs.unchanged, layer)
        sums, place = self.sums.attention[run], self.sums.seen[run].index(layer)
        with np.errstate(divide="ignore"):
            return np.log2(sums.total[place].cpu().numpy()), sums.log2_replicates(place).cpu().numpy()

    def _log_share_at_positions(self, layer: int) -> tuple[Values, Replicates]:
        """Return the same where a layer's bias scores are their means by position; missing where these were not fitted."""
        sums = self.sums.at_positions
        if not self.sums.means:
            unchanged, resampled = self._log_share(self.sums.runs.unchanged, layer)
            return np.full_like(unchanged, np.nan), np.full_like(resampled, np.nan)
        return torch.log2(sums.total[layer]).cpu().numpy(), sums.log2_replicates(layer).cpu().numpy()

    def _mean(self, run: int, quantity: int) -> tuple[Values, Replicates]:
        """Return a quantity's mean per class of predicted tokens, [token_class], and its replicates to first order."""
        mean, resampled = self.sums.predictions.mean_over(self.sums.predicted, (run, quantity))
        return mean.cpu().numpy(), resampled.cpu().numpy()

    def _of_heads(self, columns: Mapping[str, Values]) -> pd.DataFrame:
        """Return rows per head and class from columns [head_index, token_class], without the rows of all tokens."""
        heads = pd.DataFrame({"head": range(self.sums.reader.n_heads)}).merge(self.classes, how="cross")
        frame = heads.assign(**{name: value.ravel() for name, value in columns.items()})
        return frame.loc[frame["scheme"] != OVERALL, :]

    def _of_predicted(self, columns: Mapping[str, Values]) -> pd.DataFrame:
        predicted = self.sums.predicted.total[0].cpu().numpy().astype(np.int64)
        return self.classes.assign(n_tokens=predicted, **columns)


def estimate(
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


def intervene(
    model: HookedSymmetryBrokenTransformer | Reader,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    settings: InterventionSettings = InterventionSettings(),
    *,
    stack: int = SIDE_BY_SIDE,
    on_tokens: Callable[[int], None] | None = None,
    world: World | None = None,
) -> Interventions:
    """Run the model with its biases scaled, at every place and scale, and with controls, and compare.

    Args:
        model: run in evaluation mode; or what reads it.
        documents: tagged with exactly these schemes.
        schemes: partitions of the tokens.
        settings: what is changed, and on which text.
        stack: runs that go side by side along the batch axis at most; changes results only by float32 rounding.
        on_tokens: called with the number of tokens of each batch when it is done.
        world: of processes that read the same text and share the runs; all of them return the whole result.

    Raises:
        InterpError: no document, a model without tokenizer, without such a direction or value bias, a place that is not
            there, or numbers that make no sense.
    """
    reader = model if isinstance(model, Reader) else OwnReader(model)
    plan = planned(places(settings.where, reader.n_layers, reader.n_heads), settings)
    classes = classes_with_overall(schemes)
    counts = DocumentCounts(classes)
    size, max_tokens = reader.contexts_per_rerun(settings), settings.max_tokens
    stack = min(stack, reader.side_by_side(size * reader.n_ctx))
    with reader.reading(settings.bias):
        biases = biases_of(reader, settings.direction, settings.part)
        planned_changes = changes(biases, plan, settings.part, settings.seed)
        removed = without_layers_from(only(biases, settings.part)) if settings.paths else []
        runs = runs_of([*planned_changes, *removed])
        of, of_paths = runs.of[: len(plan)], runs.of[len(plan) :]
        listed, seen = runs.layers_seen(settings.attention), runs.layers_seen("all")
        for run in set(range(len(seen))) - {*of_paths, runs.unchanged}:
            seen[run] = listed[run]
        seen[runs.unchanged] = list(range(reader.n_layers)) if any(seen) or settings.paths else []

        read, documents = sample_of(documents, FIT_TOKENS)
        along = reader.held(settings.direction)
        fitted = Settings(batch_size=settings.batch_size, fit_tokens=FIT_TOKENS)
        fits = settings.paths and "q" in settings.part and bool(along.vector.any())
        means = fit_means(reader, along, fitted, beginnings(read, FIT_TOKENS) if fits else [])

        def fresh() -> InterventionSums:
            predicting = [*of, runs.unchanged]
            return InterventionSums(reader, runs, predicting, classes, settings, stack, world, seen, along, means)

        sums = fresh()
        counted = counts.passing(with_overall(documents, max_tokens), max_tokens)
        for contexts in pack(counted, reader.n_ctx, size, reader.border):
            sums.update(contexts)
            if on_tokens:
                on_tokens(int(contexts.mask.sum()))
        sums = all_reduce_sums(sums, fresh, world) if world else sums
    if not counts.documents:
        raise InterpError("The corpus has no document to measure; give one that is not empty.")
    plain = replace(settings, schemes=schemes, direction=direction_name(settings.direction)).plain()
    with np.errstate(divide="ignore", invalid="ignore"):
        maker = TableMaker(sums, counts)
        return Interventions(
            attention=maker.attention(plan, of, settings.part, listed),
            loss=maker.loss(plan, of, settings.part),
            predictions=maker.predictions(plan, of, settings.part),
            paths=maker.paths(of_paths) if settings.paths else pd.DataFrame(columns=list(PATH_COLUMNS)),
            run={
                "model": reader.name, "n_tokens": counts.tokens, "n_documents": counts.documents,
                "schemes": list(classes.names)[1:], "interventions": list(dict.fromkeys(each.place.name for each in plan)),
                **{name: plain[name] for name in READ_FROM_RUN}, "bias": reader.bias_name(plain["bias"]),
                "runs": len(runs.first),
            },
        )  # fmt: skip


READ_FROM_RUN = ("scales", "part", "bias", "direction", "random_directions", "max_tokens", "replicates", "seed")


def classes_with_overall(schemes: Sequence[Scheme]) -> Classes:
    """Return the classes of these schemes, and first `OVERALL`, which every token has."""
    if any(scheme.name == OVERALL for scheme in schemes):
        raise InterpError(
            f"A scheme is called {OVERALL!r}, which stands for all tokens in these tables; give it another name."
        )
    return Classes({OVERALL: [OVERALL], **Classes.of(schemes).names})


def with_overall(documents: Iterable[TaggedDocument], max_tokens: int | None) -> Iterator[TaggedDocument]:
    """Give every token the class `OVERALL`, and cut documents to a twentieth of `max_tokens`."""
    length = None if max_tokens is None else math.ceil(max_tokens / LEAST_DOCUMENTS)
    for document in documents:
        classes = {OVERALL: np.zeros_like(document.tokens), **document.classes}
        yield replace(document, classes=classes).beginning(length)

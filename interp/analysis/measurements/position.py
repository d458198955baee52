"""Class or position? Contrasts of bias scores between tokens of the same position, by regression in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int, Int64
from scipy import sparse
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments, Sums
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy, per_head
from interp.analysis.significance import (
    corrected_within,
    effective_documents,
    interval_over_documents,
    jackknife_error,
    p_over_documents,
)
from interp.data.classes.built_in import DECILES
from interp.errors import InterpError


def adjusted_contrasts(
    count: Int64[np.ndarray, "token_class stratum"],
    by_class: Float64[np.ndarray, "head token_class"],
    by_stratum: Float64[np.ndarray, "head stratum"],
) -> Float64[np.ndarray, "head token_class"]:
    """Return each class's effect a_c in the least-squares fit of beta_j = a_class(j) + g_stratum(j), for many heads at once.

    Effects are relative to the average token: sum_c n_c a_c = 0. So a_c is the contrast Delta_c if there is one stratum, or
    if classes are spread over the strata alike; and 0 for a class that differs by its strata alone. With N the counts, n_c
    and n_s its margins, and the strata swept out (Frisch and Waugh, 1933; Lovell, 1963),

        (diag(n_c) - N diag(1 / n_s) N^T) a = sum_{j in c} beta_j - N diag(1 / n_s) sum_{j in s} beta_j.

    Classes that share no stratum, not even through other classes, with the largest group of tokens that do, cannot be
    compared with it: missing (nan), like empty ones.

    Args:
        count: tokens of each class in each stratum.
        by_class, by_stratum: sums of the bias scores, one row per head.
    """
    kept = _comparable(count)
    effects = np.full(by_class.shape, np.nan)
    effects[:, kept] = 0.0
    if kept.sum() < 2:  # nothing to compare with
        return effects
    within = count[kept].sum(0) > 0
    counts = count[np.ix_(kept, within)].astype(np.float64)
    n_class = counts.sum(1)
    laplacian, swept = _swept(counts, by_class[:, kept], by_stratum[:, within])
    # it is singular along (1, ..., 1); what is added fixes sum_c n_c a_c = 0 and changes no difference
    system = laplacian + np.outer(n_class, n_class) / n_class.sum()
    effects[:, kept] = np.linalg.solve(system, swept.T).T
    return effects


def explained_beyond(
    count: Int[np.ndarray, "token_class stratum"],
    by_class: Float64[np.ndarray, "head token_class"],
    by_stratum: Float64[np.ndarray, "head stratum"],
) -> Float64[np.ndarray, " head"]:
    """Return by how much the fit of `adjusted_contrasts` lowers the squared residuals, against strata alone.

    It is a . swept, swept the right side and a the solution of the system there. All tokens count: classes that cannot be
    compared with some others still explain how their own tokens differ.
    """
    known, within = count.sum(1) > 0, count.sum(0) > 0
    counts = count[np.ix_(known, within)].astype(np.float64)
    root = np.sqrt(counts.sum(1))
    laplacian, swept = _swept(counts, by_class[:, known], by_stratum[:, within])
    values, vectors = np.linalg.eigh(laplacian / root[:, None] / root)  # between 0 and 1; 0 once per connected part
    along = np.square(swept / root @ vectors)
    return np.divide(along, values, out=np.zeros_like(along), where=values > 1e-9).sum(1)


def _swept(
    counts: Float64[np.ndarray, "token_class stratum"],
    by_class: Float64[np.ndarray, "head token_class"],
    by_stratum: Float64[np.ndarray, "head stratum"],
) -> tuple[np.ndarray, np.ndarray]:
    """What the strata leave of the classes: diag(n_c) - N diag(1 / n_s) N^T, and the classes' sums of residuals."""
    rates = counts / counts.sum(0)  # [token_class, stratum]
    return np.diag(counts.sum(1)) - rates @ counts.T, by_class - by_stratum @ rates.T


def _comparable(count: Int64[np.ndarray, "token_class stratum"]) -> np.ndarray:
    """Which classes belong to the connected part of the graph of classes and strata that holds the most tokens."""
    edges = sparse.csr_array(count > 0)
    graph = sparse.block_array([[None, edges], [edges.T, None]])
    _, part = sparse.csgraph.connected_components(graph, directed=False)
    tokens = np.bincount(part[: len(count)], weights=count.sum(1))
    return (part[: len(count)] == tokens.argmax()) & (count.sum(1) > 0)


class Estimate(NamedTuple):
    """Values with their error over documents and the effective documents behind them (`interp.analysis.significance`)."""

    value: Float64[np.ndarray, "head column"]
    error: Float64[np.ndarray, "head column"]
    effective: Float64[np.ndarray, " column"]
    folds: int


def jackknife(
    value: Float64[np.ndarray, "head column"],
    without: Float64[np.ndarray, "fold head column"],
    count: Int64[np.ndarray, "fold column"],
) -> Estimate:
    """Return the estimate with its error over folds of documents: `without` holds it without each fold.

    `count` is the tokens behind each column. The effective documents are counted in folds, which is what the error's degrees
    of freedom are; with up to `FOLDS` documents they are the documents. Documents are what is independent here, not tokens.
    """
    share = (count / np.maximum(count.sum(0), 1))[:, None]
    return Estimate(value, jackknife_error(value, without, share), effective_documents(count), len(count))


FOLDS = 32
"""Documents are dealt to so many folds by their running number; leaving out one at a time gives the intervals."""

TENTHS = len(DECILES)


@dataclass(frozen=True)
class Strata:
    """What bias scores are adjusted for: `size` strata, and of which each token is.

    Positions count from 0 within the context, as the model sees them. Without `deciles` every position is a stratum; with
    them, the 10 `deciles` of `interp.data.classes.built_in` are crossed with positions in quarter octaves, each of which
    reaches 19% further than the last: 0, 1, 2, ... one by one, 90 to 106 together.
    """

    name: str
    n_ctx: int
    deciles: Int64[Tensor, " d_vocab"] | None = None

    @property
    def size(self) -> int:
        """How many strata there are, empty ones included."""
        if self.deciles is None:
            return self.n_ctx
        return octave_strata(self.n_ctx) * TENTHS

    def of(self, batch: Batch) -> Int64[Tensor, " token"]:
        """Return the stratum of each token of a batch."""
        if self.deciles is None:
            return batch.places
        return quarter_octaves(batch.places) * TENTHS + self.deciles[batch.tokens]


def quarter_octaves(places: Int64[Tensor, " token"]) -> Int64[Tensor, " token"]:
    """Return which stratum of positions in quarter octaves (`Strata`) each position is in."""
    return (4 * torch.log2(places.double() + 1)).floor().long()


def octave_strata(n_ctx: int) -> int:
    """Return how many such strata a context has, empty ones included."""
    return int(quarter_octaves(torch.tensor([n_ctx - 1]))) + 1


def strata_of(
    n_ctx: int, d_vocab: int, deciles: Int64[np.ndarray, " token"] | None, device: torch.device
) -> list[Strata]:
    """Return what one run adjusts for: position, and position and frequency where the tokens' deciles are given.

    Raises:
        InterpError: deciles that are none, or of more tokens than the vocabulary has.
    """
    if deciles is None:
        return [Strata("position", n_ctx)]
    if len(deciles) > d_vocab or deciles.min() < 0 or deciles.max() >= TENTHS:
        raise InterpError(
            f"The deciles hold {len(deciles)} numbers from {deciles.min()} to {deciles.max()}; expected one from 0 to "
            f"{TENTHS - 1} for each of {d_vocab} tokens, as interp.data.frequency.deciles returns."
        )
    of_token = np.append(deciles, np.full(d_vocab - len(deciles), TENTHS - 1))  # tokens that no text holds
    with_frequency = Strata("position and frequency", n_ctx, torch.from_numpy(of_token).to(device))
    return [Strata("position", n_ctx), with_frequency]


class StratifiedSums(Sums):
    """Counts [fold, class, stratum], and sums of bias scores [layer, head_index, fold, class] and [..., stratum].

    They are all that a regression of the bias score on class and stratum needs. Float64; memory n_layers * n_heads * folds
    * (classes + strata) * 8 bytes does not grow with the corpus.
    """

    PARTS = ("count", "by_class", "by_stratum")

    def __init__(
        self, strata: Strata, n_layers: int, n_heads: int, n_classes: int, device: torch.device | str = "cpu"
    ) -> None:
        self.strata, self.n_classes = strata, n_classes
        self.count = torch.zeros(FOLDS, n_classes, strata.size, dtype=torch.int64, device=device)
        self.by_class = torch.zeros(n_layers, n_heads, FOLDS, n_classes, dtype=torch.float64, device=device)
        self.by_stratum = torch.zeros(n_layers, n_heads, FOLDS, strata.size, dtype=torch.float64, device=device)

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers, before `update`."""
        size, folds = self.strata.size, batch.document_of % FOLDS
        strata = self.strata.of(batch)
        self.rows = [folds * self.n_classes + row for row in batch.classes]
        self.places = folds * size + strata
        for row in self.rows:
            self.count += torch.bincount(row * size + strata, minlength=self.count.numel()).view_as(self.count)

    def update(self, layer: int, scores: Float[Tensor, "head_index token"]) -> None:
        """Add one layer's bias scores of the batch that was started."""
        values = scores.double()
        for row in self.rows:
            self.by_class[layer].flatten(1).index_add_(1, row, values)
        self.by_stratum[layer].flatten(1).index_add_(1, self.places, values)


class Positions(Measurement):
    """Bias scores by position, and by class and stratum: what is class, and what is only position (or frequency)."""

    PARTS = ("positions", "strata")

    def __init__(self, context: Context) -> None:
        reader = context.reader
        self.positions = GroupedMoments(context.layers, context.heads, reader.n_ctx, context.device)
        strata = strata_of(reader.n_ctx, reader.d_vocab, context.deciles, context.device)
        self.strata = [StratifiedSums(each, *context.per_class, context.device) for each in strata]

    def start(self, batch: Batch) -> None:
        """Count the positions and the strata."""
        self.positions.count_groups(batch.places)
        for strata in self.strata:
            strata.start(batch)

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add the keys of one layer."""
        self.positions.update(view.layer, view.scores, batch.places)
        for strata in self.strata:
            strata.update(view.layer, view.scores)

    def tables(self, found: Found) -> Mapping[str, pd.DataFrame]:
        """Return the tables `positions` and `adjusted` of `Amplification`."""
        context, ranges = found.context, found.context.classes.ranges
        profile = position_profile(self.strata[0], ranges)
        low, high = interval_over_documents(profile.value, profile.error, profile.effective)
        positions = per_head(context.layers, context.heads, "pos", context.reader.n_ctx).assign(
            model=context.reader.name,
            n_tokens=np.tile(as_numpy(self.positions.count), context.layers * context.heads),
            bias_score_mean=as_numpy(self.positions.mean()).ravel(),
            bias_score_sd=as_numpy(self.positions.variance().sqrt()).ravel(), ci_low=low.ravel(), ci_high=high.ravel(),
            effective_documents=np.tile(profile.effective, len(profile.value)),
        )  # fmt: skip
        estimates = {"nothing": contrasts_over_folds(self.strata[0], ranges, collapsed=True)}
        estimates |= {each.strata.name: contrasts_over_folds(each, ranges) for each in self.strata}
        index = found.index.drop(columns="n_documents")
        adjusted = pd.concat(
            [index.assign(adjusted_for=name, **_columns(estimate)) for name, estimate in estimates.items()],
            ignore_index=True,
        )
        adjusted = adjusted.assign(q=corrected_within(adjusted, ["adjusted_for", "scheme"]))
        return {"positions": positions, "adjusted": adjusted}


def position_profile(sums: StratifiedSums, ranges: Mapping[str, tuple[int, int]]) -> Estimate:
    """Return each head's mean bias score per position, one row per head and one column per position."""
    first, last = next(iter(ranges.values()))  # every token has one class of the first scheme
    count = sums.count[:, first:last].sum(1).cpu().numpy()  # [fold, pos]
    total = _by_fold(sums.by_stratum)  # [fold, head, pos]
    used = count.any(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = (total.sum(0) - total[used]) / (count.sum(0) - count[used])[:, None]
        return jackknife(total.sum(0) / count.sum(0), without, count[used])


def _columns(estimate: Estimate) -> dict[str, np.ndarray]:
    measured = estimate.value, estimate.error, estimate.effective
    low, high = interval_over_documents(*measured)
    effective = np.broadcast_to(estimate.effective, estimate.value.shape)
    columns = {
        "bias_score_contrast": estimate.value, "ci_low": low, "ci_high": high, "p": p_over_documents(*measured),
        "folds": np.full(low.shape, estimate.folds), "effective_documents": effective,
    }  # fmt: skip
    return {name: values.ravel() for name, values in columns.items()}


def contrasts_over_folds(
    sums: StratifiedSums, ranges: Mapping[str, tuple[int, int]], collapsed: bool = False
) -> Estimate:
    """The contrasts of all schemes' classes, one row per head; `collapsed` puts all tokens into one stratum."""
    parts = sums.count.cpu().numpy(), _by_fold(sums.by_class), _by_fold(sums.by_stratum)  # each [fold, ...]
    if collapsed:
        parts = parts[0].sum(-1, keepdims=True), parts[1], parts[2].sum(-1, keepdims=True)
    count, by_class, by_stratum = (part.sum(0) for part in parts)
    used = parts[0].any((1, 2))
    without = [
        _fitted(count - of_fold[0], by_class - of_fold[1], by_stratum - of_fold[2], ranges)
        for of_fold in zip(*(part[used] for part in parts), strict=True)
    ]
    return jackknife(_fitted(count, by_class, by_stratum, ranges), np.stack(without), parts[0][used].sum(-1))


def _fitted(
    count: Int64[np.ndarray, "token_class stratum"],
    by_class: Float64[np.ndarray, "head token_class"],
    by_stratum: Float64[np.ndarray, "head stratum"],
    ranges: Mapping[str, tuple[int, int]],
) -> Float64[np.ndarray, "head token_class"]:
    spans = ranges.values()
    return np.concatenate([adjusted_contrasts(count[a:b], by_class[:, a:b], by_stratum) for a, b in spans], axis=1)


def _by_fold(sums: Float64[Tensor, "layer head_index fold column"]) -> Float64[np.ndarray, "fold head column"]:
    return sums.flatten(0, 1).transpose(0, 1).cpu().numpy()

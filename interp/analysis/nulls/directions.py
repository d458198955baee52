"""The direction null: the same statistics along random directions as long as the bias.

It says whether the bias lies along directions in which the keys vary much, and nothing about classes: along such a direction
the contrasts of any set of tokens are large, of labels that mean nothing too. What singles out a class is asked against
directions of equal spread (`interp.analysis.nulls.equal_spread`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from scipy import stats
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments, ScoreHistogram
from interp.analysis.batch import Batch
from interp.analysis.direction import random_directions
from interp.analysis.measurement import Context, Found, LayerView, Measurement
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.nulls.equal_spread import EqualSpread
from interp.analysis.nulls.table import Null, amplified, value_of
from interp.analysis.significance import (
    p_of_deviation,
    p_of_projection,
    p_of_rank,
    reach_of_deviation,
    reach_of_projection,
)

BINS = 128  # of the histograms


class DirectionNull(Measurement):
    """What is summed for the direction null, over R random directions u of every head.

    Contrast and alignment are linear in the direction: they need only each class's mean key (`EqualSpread.offsets`) and mean
    unit key, and their null is exact, as if R were infinite. The AUROC is not: every key is projected on all directions in
    one batched product per layer, and the projections are kept in histograms. Memory: n_layers * n_heads * n_classes * 4 *
    bins * R bytes, which does not grow with the corpus.
    """

    PARTS = ("unit_keys", "histogram", "shares")

    def __init__(self, context: Context) -> None:
        settings, shifts = context.settings, context.shifts
        layers, heads, classes = context.per_class
        self.vector = shifts.vector
        self.directions = random_directions(shifts.vector, settings.nulls, settings.seed)
        size = self.vector.shape[-1]
        self.unit_keys = torch.zeros(layers, classes, heads, size, dtype=torch.float64, device=context.device)
        self.histogram = ScoreHistogram(layers, heads * settings.nulls, classes, context.device, BINS)
        draws = settings.amplified_nulls
        self.shares = torch.zeros(draws, layers, 2, heads, classes, dtype=torch.float64, device=context.device)

    @classmethod
    def wanted(cls, context: Context) -> DirectionNull | None:
        """Return a fresh one if random directions are asked for, and keys say what is along them."""
        return cls(context) if context.settings.nulls and context.reader.linear else None

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add one layer's keys; each amplified direction costs what the amplification itself costs."""
        layer, keys = view.layer, view.keys
        projections = torch.einsum("hrd,thd->hrt", self.directions[layer], keys).flatten(0, 1)
        self.histogram.update(layer, projections / keys.shape[-1] ** 0.5, batch.classes)
        unit = torch.nn.functional.normalize(keys, dim=-1).double()
        for row in batch.classes:
            self.unit_keys[layer].index_add_(0, row, unit)
        for draw in range(len(self.shares)):
            along = view.seen.shares_along(self.directions[layer, :, draw], batch.one_hot)
            self.shares[draw, layer] += along[:, batch.mask].sum(1, dtype=torch.float64)

    def nulls(self, found: Found) -> Iterator[Null]:
        """Yield the nulls of contrast and alignment (exact), of the AUROC and, where asked for, of A."""
        scores, spans = found.of(BiasScores).scores, found.context.classes.spans
        directions, scale = self.directions.double(), self.vector.shape[-1] ** 0.5
        offsets = found.of(EqualSpread).offsets(scores.count, spans)
        yield _linear("contrast", self.vector.double(), directions, offsets, scale)
        unit = torch.nn.functional.normalize
        unit_keys = self.mean_unit_keys(scores.count)
        yield _linear("alignment", unit(self.vector.double(), dim=-1), unit(directions, dim=-1), unit_keys, 1.0)
        yield _auroc(self.aurocs(spans), found.heads, scores, spans)
        if len(self.shares):
            yield amplified("direction", found.heads, self.shares)

    def mean_unit_keys(
        self, count: Int64[Tensor, " token_class"]
    ) -> Float64[Tensor, "layer head_index token_class d_head"]:
        """Return each class's mean of k / |k|; its product with b_Q / |b_Q| is the alignment."""
        return (self.unit_keys / count[:, None, None]).transpose(1, 2)

    def aurocs(self, ranges: list[tuple[int, int]]) -> Float64[np.ndarray, "direction layer head_index token_class"]:
        """Return the AUROC of every class along every direction."""
        found = np.concatenate([self.histogram.auroc(first, last)[0] for first, last in ranges], axis=-1)
        layers, heads, directions, _ = self.directions.shape
        return np.moveaxis(found.reshape(layers, heads, directions, -1), 2, 0)


def _linear(statistic: str, vector: Tensor, directions: Tensor, of_class: Tensor, scale: float) -> Null:
    """The exact null of u . x / scale, where x [layer, head_index, token_class, d_head] is a mean key of the class."""
    size = vector.shape[-1]
    value = torch.einsum("lhd,lhcd->lhc", vector, of_class)
    longest = vector.norm(dim=-1)[..., None] * of_class.norm(dim=-1)
    p = p_of_projection((value / longest).cpu().numpy(), size)
    draws = torch.einsum("lhrd,lhcd->rlhc", directions, of_class).cpu().numpy()
    sd = (longest / size**0.5 / scale).cpu().numpy()
    p_rank = p_of_rank(value.cpu().numpy(), draws)
    reach = sd * size**0.5 * reach_of_projection(size)
    return Null("direction", statistic, np.where(np.isnan(sd), np.nan, 0.0), sd, p, p_rank, 0, reach=reach)


def _auroc(draws: np.ndarray, heads: pd.DataFrame, scores: GroupedMoments, spans: list[tuple[int, int]]) -> Null:
    """The null of the AUROC. u and -u are equally likely and mirror it: the mean is 1/2, the sd has R degrees of freedom.

    p is taken on the probit scale, where the AUROC of two normal classes is linear in their standardized difference; on its
    own scale it saturates, and well separated classes could never be significant.
    The AUROC knows no scale: where keys vary along the bias more than along anything else, random directions inherit its
    AUROC, and it cannot stand out, however large the contrast. R directions and a fitted law do not tell how small a p is
    that has to survive correction over hundreds of pairs, so there is no q; and for normal scores the AUROC along directions
    of equal spread is a function of their contrast, of which `class_q` tells already.
    """
    value = value_of(heads, "auroc", draws.shape[1:])
    counts = [scores.count[first:last] for first, last in spans]
    pairs = torch.cat([n * (n.sum() - n) for n in counts]).cpu().numpy()

    def probit(aurocs: np.ndarray) -> np.ndarray:
        return stats.norm.ppf(np.clip(aurocs, 0.5 / pairs, 1 - 0.5 / pairs))  # 0 and 1 are half a pair away from sure

    deviation, spread = probit(value), np.sqrt(np.square(probit(draws)).mean(0))
    p = p_of_deviation(deviation, np.zeros_like(value), spread, len(draws))
    mean = np.where(np.isnan(value), np.nan, 0.5)
    sd = np.sqrt(np.square(draws - 0.5).mean(0))
    reach = stats.norm.cdf(reach_of_deviation(spread, len(draws))) - 0.5
    rank = p_of_rank(value, draws, 0.5)
    return Null("direction", "auroc", mean, sd, p, rank, len(draws), corrected=False, reach=reach)

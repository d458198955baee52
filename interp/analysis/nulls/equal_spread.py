"""Directions of equal spread: does the bias single a class out, or would any direction that spreads the keys as much?

Keys vary far more along some directions than along others, and any set of tokens lies far out along the former. So a class
is held against directions b that spread the keys *as much*: of which S^(1/2) b is isotropic, S the covariance of a head's
keys. With x the mean key of the class less the mean of all keys, b . x / sqrt(d_head) the contrast of bias scores,

    cos2_w = (b . x)^2 / ((b' S b) (x' S^-1 x)) ~ Beta(1/2, (d - 1) / 2),

exactly and for these very keys, since cos2_w is the squared cosine of S^(1/2) b, isotropic, and the fixed S^(-1/2) x. That
is why it holds however rare the class, and why it does not say whether other documents would give another x. With position
removed, x is the class's effect in the regression of the keys on class and position, S their covariance within positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.measurements.position import Positions, adjusted_contrasts
from interp.analysis.nulls.spread import ROUNDING, HeadVectors, Quadratic, Spread
from interp.analysis.nulls.table import Null
from interp.analysis.significance import p_of_projection, reach_of_projection

ClassVectors = Float64[np.ndarray, "layer head_index token_class d_head"]


class EqualSpread(Measurement):
    """Sums of keys by class, position and frequent type, and of k k', per head: all that directions of equal spread need.

    Float64; memory n_layers * n_heads * d_head * (d_head + classes + n_ctx + frequent types) * 8 bytes does not grow with
    the corpus: 160 MB for GPT-2 small and 1,024 positions.
    """

    PARTS = ("squares", "by_class", "by_position", "by_type")

    def __init__(self, context: Context) -> None:
        layers, heads, classes = context.per_class
        reader, device, size = context.reader, context.device, context.reader.d_head
        self.squares = torch.zeros(layers, heads, size, size, dtype=torch.float64, device=device)
        self.by_class = torch.zeros(layers, classes, heads, size, dtype=torch.float64, device=device)
        self.by_position = torch.zeros(layers, reader.n_ctx, heads, size, dtype=torch.float64, device=device)
        types = len(context.frequent)
        self.by_type = torch.zeros(layers, types + 1, heads, size, dtype=torch.float64, device=device)
        self.type_group: Int64[Tensor, " d_vocab"] = torch.from_numpy(context.type_group).to(device)

    @classmethod
    def wanted(cls, context: Context) -> EqualSpread | None:
        """Return a fresh one where there are keys."""
        return cls(context) if context.reader.linear else None

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add the keys of one layer."""
        keys = view.keys.double()
        by_head = keys.transpose(0, 1)  # [head_index, token, d_head]
        self.squares[view.layer] += by_head.transpose(1, 2) @ by_head
        for row in batch.classes:
            self.by_class[view.layer].index_add_(0, row, keys)
        self.by_position[view.layer].index_add_(0, batch.places, keys)
        self.by_type[view.layer].index_add_(0, self.type_group[batch.tokens], keys)

    def offsets(
        self, count: Int64[Tensor, " token_class"], spans: Sequence[tuple[int, int]]
    ) -> Float64[Tensor, "layer head_index token_class d_head"]:
        """Return each class's mean key less the mean key of all tokens; its product with b_Q / sqrt(d_head) is Delta_c."""
        parts = []
        for first, last in spans:
            overall = self.by_class[:, first:last].sum(1, keepdim=True) / count[first:last].sum()
            parts.append(self.by_class[:, first:last] / count[first:last, None, None] - overall)
        return torch.cat(parts, 1).transpose(1, 2)

    def offsets_beyond_position(self, found: Found) -> ClassVectors:
        """Return each class's effect on the keys at given positions; missing where it shares none with the others."""
        count = as_numpy(found.of(Positions).strata[0].count.sum(0))  # [token_class, pos]
        layers = []
        for by_class, by_position in zip(self.by_class, self.by_position, strict=True):
            rows = as_numpy(by_class.flatten(1).T), as_numpy(by_position.flatten(1).T)  # [head_index * d_head, group]
            effects = [adjusted_contrasts(count[a:b], rows[0][:, a:b], rows[1]) for a, b in found.context.classes.spans]
            layers.append(np.concatenate(effects, 1).reshape(*by_class.shape[1:], -1).swapaxes(1, 2))
        return np.stack(layers)

    def spread(self, found: Found, within_positions: bool = False) -> Spread:
        """Return S of all tokens, or of what is left of the keys when each position's mean is taken away."""
        count = found.of(Positions).positions.count
        means = self._deviations(self.by_position, count, centred=not within_positions)
        overall = self.by_position.sum(1) / count.sum()
        removed = means if within_positions else torch.einsum("lhd,lhe->lhde", overall, overall)
        return Spread.of(as_numpy(self.squares / count.sum() - removed))

    def between(
        self, sums: Float64[Tensor, "layer group head_index d_head"], count: Int64[Tensor, " group"], spread: Spread
    ) -> Quadratic:
        """Return the law of eta squared of a grouping of the tokens along directions of equal spread.

        Eta squared along b is b' B b / b' S b, B the covariance of the groups' mean keys: with w = S^(1/2) b isotropic,
        w' S^(-1/2) B S^(-1/2) w / |w|^2, of mean tr(S^-1 B) / d.
        """
        between = as_numpy(self._deviations(sums, count))
        half = spread.whitened(spread.whitened(between).swapaxes(-1, -2))
        eigenvalues = np.linalg.eigvalsh(half)
        return Quadratic(np.where(eigenvalues > ROUNDING, eigenvalues, 0.0), spread.rank)

    @staticmethod
    def _deviations(
        sums: Float64[Tensor, "layer group head_index d_head"], count: Int64[Tensor, " group"], centred: bool = True
    ) -> Float64[Tensor, "layer head_index d_head d_head"]:
        """Return sum_g n_g m_g m_g' / N over the groups' mean keys m_g, less m m' of their overall mean where centred."""
        n = count.double()[:, None, None]
        found = []
        for of_layer in sums:
            centre = of_layer.sum(0) / n.sum() if centred else 0.0
            scaled = torch.where(n > 0, (of_layer - n * centre) / n.sqrt(), 0.0)
            found.append(torch.einsum("ghd,ghe->hde", scaled, scaled) / n.sum())
        return torch.stack(found)

    def nulls(self, found: Found) -> Iterator[Null]:
        """Yield the null of the contrast, raw and between tokens of the same position: `class` and `class_beyond`."""
        vector = as_numpy(found.context.shifts.vector.double())
        offsets = as_numpy(self.offsets(found.of(BiasScores).scores.count, found.context.classes.spans))
        yield equal_spread("contrast", "class", vector, offsets, self.spread(found))
        beyond = self.offsets_beyond_position(found)
        yield equal_spread("contrast beyond position", "class_beyond", vector, beyond, self.spread(found, True))


def equal_spread(statistic: str, columns: str, vector: HeadVectors, offsets: ClassVectors, spread: Spread) -> Null:
    """Return the exact null of b . x / sqrt(d_head) under directions of equal spread, b `vector` and x `offsets`.

    Missing for a class that does not differ from all tokens in any key, and where the bias spreads no keys.
    """
    variance, rank = spread.variance(vector)[..., None], spread.rank[..., None].astype(np.float64)
    length = np.square(spread.whitened(offsets)).sum(-1)  # x' S^-1 x
    value = np.einsum("lhd,lhcd->lhc", vector, offsets)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = value / np.where(length > ROUNDING, np.sqrt(variance * length), np.nan)
        p = p_of_projection(cosine, rank)
        scale = vector.shape[-1] ** 0.5
        sd = np.sqrt(variance * length / rank) / scale
    mean = np.where(np.isnan(sd), np.nan, 0.0)
    reach = sd * np.sqrt(rank) * reach_of_projection(rank)
    return Null("equal spread", statistic, mean, sd, p, np.full_like(p, np.nan), 0, value / scale, columns, reach=reach)

"""The table `nulls`: every statistic of the heads table beside its null distributions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments
from interp.analysis.attention import class_shares, log2_ratio
from interp.analysis.batch import Batch, Ranges
from interp.analysis.direction import QueryShifts
from interp.analysis.nulls.directions import DirectionNull
from interp.analysis.nulls.labels import LabelNull
from interp.analysis.significance import corrected_within, p_of_deviation, p_of_projection, p_of_rank
from interp.errors import InterpError

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


class NullShares:
    """Sums over all queries of the attention per class, with (0) and without the bias (1), in every draw of both nulls.

    Each draw costs what the amplification itself costs, the model's own forward pass aside.
    """

    PARTS = ("directions", "labels")

    def __init__(
        self, draws: int, n_layers: int, n_heads: int, n_classes: int, device: torch.device | str = "cpu"
    ) -> None:
        self.directions = torch.zeros(draws, n_layers, 2, n_heads, n_classes, dtype=torch.float64, device=device)
        self.labels = torch.zeros_like(self.directions)

    def update(
        self,
        layer: int,
        q: HeadVectors,
        k: HeadVectors,
        vector: Float[Tensor, "head_index d_head"],
        directions: Float[Tensor, "head_index direction d_head"],
        batch: Batch,
    ) -> None:
        """Add one layer; q is without the bias `vector`, and as many `directions` as there are draws are used."""
        for draw in range(len(self.labels)):
            along = class_shares(q, k, directions[:, draw], batch.one_hot)
            permuted = class_shares(q, k, vector, batch.permuted[draw])
            self.directions[draw, layer] += along[:, batch.mask].sum(1, dtype=torch.float64)
            self.labels[draw, layer] += permuted[:, batch.mask].sum(1, dtype=torch.float64)

    def merge(self, other: NullShares) -> None:
        """Add what another accumulator, of the same seed, saw."""
        self.directions += other.directions
        self.labels += other.labels


class NullSums:
    """The sums of both nulls; `start` a batch, `update` every layer, `merge` with another's.

    Args:
        shifts: along which vector the analysis looks.
        n_classes: of all schemes together.
        directions: random directions of each head, at least 2.
        amplified: of these, how many give their exact amplification, and how many permutations of the labels do.
        seed: of the directions.

    Raises:
        InterpError: fewer than 2 directions, or more to amplify than there are.
    """

    PARTS = ("directions", "labels", "shares")

    def __init__(self, shifts: QueryShifts, n_classes: int, directions: int, amplified: int, seed: int) -> None:
        if directions < 2 or not 0 <= amplified <= directions:
            raise InterpError(
                f"{directions} random directions, {amplified} of them amplified, make no null; "
                "take at least 2 directions, and amplify no more than there are."
            )
        layers, heads, _ = shifts.vector.shape
        device = shifts.vector.device
        self.shifts = shifts
        self.directions = DirectionNull(shifts.vector, directions, seed, n_classes)
        self.labels = LabelNull(layers, heads, n_classes, device)
        self.shares = NullShares(amplified, layers, heads, n_classes, device)

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers."""
        self.labels.start(batch)

    def update(
        self, layer: int, q: HeadVectors, k: HeadVectors, scores: Float[Tensor, "head_index token"], batch: Batch
    ) -> None:
        """Add one layer; q is without the bias, `scores` are the bias scores of the keys that are not padding."""
        self.directions.update(layer, k[batch.mask], batch.classes)
        self.labels.update(layer, scores, batch)
        self.shares.update(layer, q, k, self.shifts.vector[layer], self.directions.directions[layer], batch)

    def merge(self, other: NullSums) -> None:
        """Add what another accumulator, of the same seed, saw of other documents."""
        for name in self.PARTS:
            getattr(self, name).merge(getattr(other, name))


COLUMN_OF = {
    "contrast": "bias_score_contrast", "auroc": "auroc", "alignment": "alignment", "amplification": "log2_amplification"
}  # fmt: skip
"""Which column of the heads table holds each statistic."""

COLUMNS = (
    "model", "layer", "head", "scheme", "token_class", "n_tokens", "statistic", "null", "value", "null_mean", "null_sd",
    "p", "p_rank", "draws", "q",
)  # fmt: skip

PerClass = Float64[np.ndarray, "layer head_index token_class"]


class _Null(NamedTuple):
    """One null of one statistic, in the order of the heads table; `draws` is 0 where mean and sd are exact."""

    null: str
    statistic: str
    null_mean: PerClass
    null_sd: PerClass
    p: PerClass
    p_rank: PerClass
    draws: int


def nulls_table(heads: pd.DataFrame, sums: NullSums, scores: GroupedMoments, ranges: Ranges) -> pd.DataFrame:
    """Return the table `nulls` of `Amplification`; `scores` are the moments of bias scores per class."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [*_direction_nulls(heads, sums, scores, ranges), *_label_nulls(heads, sums, scores, ranges)]
    frame = pd.concat([_rows(heads, null) for null in found], ignore_index=True)
    return frame.assign(q=corrected_within(frame, ["null", "statistic", "scheme"])).loc[:, list(COLUMNS)]


def no_nulls() -> pd.DataFrame:
    """Return the table of a run without nulls: its columns and no row."""
    return pd.DataFrame(columns=list(COLUMNS))


def with_q(heads: pd.DataFrame, nulls: pd.DataFrame) -> pd.DataFrame:
    """Return the heads table with a column of q per null and statistic, such as `contrast_q` and `contrast_label_q`."""
    for key, rows in nulls.groupby(["null", "statistic"], sort=False):
        null, statistic = map(str, key)  # pyright: ignore[reportArgumentType] # a pair, as two columns are grouped
        name = f"{statistic}_q" if null == "direction" else f"{statistic}_{null}_q"
        heads = heads.assign(**{name: rows["q"].to_numpy()})
    return heads


def _rows(heads: pd.DataFrame, null: _Null) -> pd.DataFrame:
    frame = heads[["model", "layer", "head", "scheme", "token_class", "n_tokens"]].assign(
        statistic=null.statistic, null=null.null, value=heads[COLUMN_OF[null.statistic]].to_numpy()
    )
    numbers = {name: getattr(null, name).ravel() for name in ("null_mean", "null_sd", "p", "p_rank")}
    numbers["p_rank"] = np.where(np.isnan(numbers["p"]), np.nan, numbers["p_rank"])  # no spread, nothing to rank
    return frame.assign(**numbers, draws=null.draws)


def _direction_nulls(heads: pd.DataFrame, sums: NullSums, scores: GroupedMoments, ranges: Ranges) -> Iterator[_Null]:
    null, spans = sums.directions, list(ranges.values())
    directions, scale = null.directions.double(), null.vector.shape[-1] ** 0.5
    yield _linear("contrast", null.vector.double(), directions, null.mean_keys(scores.count, spans), scale)
    unit = torch.nn.functional.normalize
    unit_keys = null.mean_unit_keys(scores.count)
    yield _linear("alignment", unit(null.vector.double(), dim=-1), unit(directions, dim=-1), unit_keys, 1.0)
    yield _auroc(null.aurocs(spans), heads, scores, spans)
    if len(sums.shares.directions):
        yield _amplified("direction", heads, sums.shares.directions)


def _linear(statistic: str, vector: Tensor, directions: Tensor, of_class: Tensor, scale: float) -> _Null:
    """The exact null of u . x / scale, where x [layer, head_index, token_class, d_head] is a mean key of the class."""
    size = vector.shape[-1]
    value = torch.einsum("lhd,lhcd->lhc", vector, of_class)
    longest = vector.norm(dim=-1)[..., None] * of_class.norm(dim=-1)
    p = p_of_projection((value / longest).cpu().numpy(), size)
    draws = torch.einsum("lhrd,lhcd->rlhc", directions, of_class).cpu().numpy()
    sd = (longest / size**0.5 / scale).cpu().numpy()
    p_rank = p_of_rank(value.cpu().numpy(), draws)
    return _Null("direction", statistic, np.where(np.isnan(sd), np.nan, 0.0), sd, p, p_rank, 0)


def _auroc(draws: np.ndarray, heads: pd.DataFrame, scores: GroupedMoments, spans: list[tuple[int, int]]) -> _Null:
    """The null of the AUROC. u and -u are equally likely and mirror it: the mean is 1/2, the sd has R degrees of freedom.

    p is taken on the probit scale, where the AUROC of two normal classes is linear in their standardized difference; on its
    own scale it saturates, and well separated classes could never be significant.
    The AUROC knows no scale: where keys vary along the bias more than along anything else, random directions inherit its
    AUROC, and it cannot stand out, however large the contrast.
    """
    value = _shaped(heads, "auroc", draws.shape[1:])
    counts = [scores.count[first:last] for first, last in spans]
    pairs = torch.cat([n * (n.sum() - n) for n in counts]).cpu().numpy()

    def probit(aurocs: np.ndarray) -> np.ndarray:
        return stats.norm.ppf(np.clip(aurocs, 0.5 / pairs, 1 - 0.5 / pairs))  # 0 and 1 are half a pair away from sure

    deviation, spread = probit(value), np.sqrt(np.square(probit(draws)).mean(0))
    p = p_of_deviation(deviation, np.zeros_like(value), spread, len(draws))
    mean = np.where(np.isnan(value), np.nan, 0.5)
    sd = np.sqrt(np.square(draws - 0.5).mean(0))
    return _Null("direction", "auroc", mean, sd, p, p_of_rank(value, draws, 0.5), len(draws))


def _label_nulls(heads: pd.DataFrame, sums: NullSums, scores: GroupedMoments, ranges: Ranges) -> Iterator[_Null]:
    null = sums.labels
    null.close()
    mean = ((null.fixed + null.mean) / scores.count - scores.overall(ranges.values())).cpu().numpy()
    sd = (null.variance.sqrt() / scores.count).cpu().numpy()
    p = p_of_deviation(_shaped(heads, "contrast", mean.shape), mean, sd)
    yield _Null("label", "contrast", mean, sd, p, np.full_like(p, np.nan), 0)
    if len(sums.shares.labels):
        yield _amplified("label", heads, sums.shares.labels)


def _amplified(null: str, heads: pd.DataFrame, shares: Tensor) -> _Null:
    draws = log2_ratio(shares).cpu().numpy()
    value = _shaped(heads, "amplification", draws.shape[1:])
    mean, sd = draws.mean(0), draws.std(0, ddof=1) if len(draws) > 1 else np.full_like(value, np.nan)
    p = p_of_deviation(value, mean, sd * np.sqrt(1 + 1 / len(draws)), max(len(draws) - 1, 1))
    return _Null(null, "amplification", mean, sd, p, p_of_rank(value, draws), len(draws))


def _shaped(heads: pd.DataFrame, statistic: str, shape: tuple[int, ...]) -> PerClass:
    return np.asarray(heads[COLUMN_OF[statistic]], dtype=np.float64).reshape(shape)

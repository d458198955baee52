"""The sums behind the table `heads`: attention shares, bias scores and cosines per head and class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments, ScoreHistogram, variance
from interp.analysis.attention import class_shares
from interp.analysis.batch import Batch, DocumentCounts, Ranges, class_ranges
from interp.analysis.direction import QueryShifts
from interp.analysis.measurements.shares import ShareSums
from interp.analysis.result import HEAD_COLUMNS
from interp.analysis.significance import Z95
from interp.model.transformer import HookedSymmetryBrokenTransformer

HeadVectors = Float[Tensor, "batch pos head_index d_head"]

PerToken = Float[Tensor, "head_index token"]


class HeadSums:
    """Sums over the corpus; `start` a batch, `add` every layer of it, `merge` with another's. Memory does not grow."""

    PARTS = ("shares", "scores", "cosines", "histogram")

    def __init__(
        self, model: HookedSymmetryBrokenTransformer, shifts: QueryShifts, ranges: Ranges, replicates: int, seed: int
    ) -> None:
        cfg, device = model.cfg, model.W_E.device
        n_classes = max(last for _, last in ranges.values())
        self.model, self.shifts, self.ranges = model, shifts, ranges
        self.shares = ShareSums(cfg.n_layers, cfg.n_heads, n_classes, replicates, seed, device)
        self.scores = GroupedMoments(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.cosines = GroupedMoments(cfg.n_layers, cfg.n_heads, n_classes, device)
        self.histogram = ScoreHistogram(cfg.n_layers, cfg.n_heads, n_classes, device)

    def merge(self, other: HeadSums) -> None:
        """Add what another accumulator saw of other documents."""
        for mine, others in zip(self._parts(), other._parts(), strict=True):
            mine.merge(others)

    def _parts(self) -> Iterator[Any]:
        for part in (getattr(self, name) for name in self.PARTS):
            yield from part if isinstance(part, list) else [] if part is None else [part]

    def start(self, batch: Batch) -> None:
        """Count a batch, once for all layers."""
        for moments in (self.scores, self.cosines):
            for row in batch.classes:
                moments.count_groups(row)
        self.weights = self.shares.weights(batch.document_indices)

    def add(self, layer: int, q: HeadVectors, k: HeadVectors, batch: Batch) -> tuple[PerToken, PerToken]:
        """Add one layer, q without the unlearned bias, and return its bias scores and cosines."""
        shares = class_shares(q + self.shifts.without_bias[layer], k, self.shifts.vector[layer], batch.one_hot)
        self.shares.update(layer, shares[:, batch.mask], batch.documents, self.weights)
        scores, cosines = self._along(layer, k[batch.mask])
        for row in batch.classes:
            self.scores.update(layer, scores, row)
            self.cosines.update(layer, cosines, row)
        self.histogram.update(layer, scores, batch.classes)
        return scores, cosines

    def _along(self, layer: int, keys: Float[Tensor, "token head_index d_head"]) -> tuple[PerToken, PerToken]:
        vector = self.shifts.vector[layer]  # [head_index, d_head]
        products = (keys * vector).sum(-1).T  # [head_index, token]
        norms = keys.norm(dim=-1).T * vector.norm(dim=-1)[:, None]
        return products / self.model.cfg.attn_scale, products / norms.clamp(min=torch.finfo(norms.dtype).tiny)


def heads_table(model_name: str, sums: HeadSums, counts: DocumentCounts, names: dict[str, list[str]]) -> pd.DataFrame:
    """Return the table `heads` of `Amplification`; `names` gives the class names of each scheme."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = sums.shares.interval(counts.effective())
        columns = {
            "share": _numpy(sums.shares.total[:, 0] / _queries(sums, counts, names)),
            "share_unbiased": _numpy(sums.shares.total[:, 1] / _queries(sums, counts, names)),
            "log2_amplification": _numpy(sums.shares.amplification()),
            "ci_low": low,
            "ci_high": high,
            "bias_score_mean": _numpy(sums.scores.mean()),
            "bias_score_contrast": _numpy(sums.scores.mean() - sums.scores.overall(class_ranges(names).values())),
            "bias_score_sd": _numpy(sums.scores.variance().sqrt()),
            "alignment": _numpy(sums.cosines.mean()),
            **_joined([_scheme_columns(sums, first, last) for first, last in class_ranges(names).values()]),
        }
    layers, heads, classes = columns["share"].shape
    frame = _index({"layer": range(layers), "head": range(heads), "place": range(classes)})
    place = frame.pop("place").to_numpy()
    scheme = np.repeat(list(names), [len(n) for n in names.values()])
    labels = np.concatenate([np.asarray(n, dtype=object) for n in names.values()])
    frame = frame.assign(
        model=model_name, scheme=scheme[place], token_class=labels[place],
        n_tokens=counts.n_tokens[place], n_documents=counts.n_documents[place],
        **{name: value.ravel() for name, value in columns.items()},
    )  # fmt: skip
    return frame.loc[:, [*HEAD_COLUMNS, "bias_score_sd"]]


def hedges_g(moments: GroupedMoments, first: int, last: int) -> Tensor:
    """Return Hedges' g of each class first..last against the rest of its scheme, [layer, head_index, token_class].

    g = J (mean_c - mean_rest) / pooled standard deviation, J = 1 - 3 / (4 (n - 2) - 1) (Hedges, 1981).
    """
    n, total, squares = moments.count[first:last], moments.sum[..., first:last], moments.squares[..., first:last]
    n_rest = n.sum() - n
    total_rest, squares_rest = total.sum(-1, keepdim=True) - total, squares.sum(-1, keepdim=True) - squares
    freedom = (n.sum() - 2).clamp(min=1)
    within = _within(n, total, squares) + _within(n_rest, total_rest, squares_rest)
    pooled = (within / freedom).sqrt()
    return (1 - 3 / (4 * freedom - 1)) * (total / n - total_rest / n_rest) / pooled


def _token_values(count: Tensor, total: Tensor, squares: Tensor) -> np.ndarray:
    """Mean, contrast to the head's mean and the ends of its interval, [4, head_index, token], of one layer."""
    mean = total / count
    contrast = mean - total.sum(-1, keepdim=True) / count.sum()
    half = Z95 * (variance(count, total, squares) / count).sqrt()
    return np.stack([_numpy(value) for value in (mean, contrast, contrast - half, contrast + half)])


def _tiled(labels: pd.Categorical, times: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.tile(labels.codes, times), dtype=labels.dtype)


def _scheme_columns(sums: HeadSums, first: int, last: int) -> dict[str, np.ndarray]:
    auroc, bound = sums.histogram.auroc(first, last)
    return {
        "hedges_g": _numpy(hedges_g(sums.scores, first, last)),
        "auroc": auroc,
        "auroc_error_bound": bound,
    }


def _within(n: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Sum of squared deviations from the mean of each group; 0 for groups of fewer than two."""
    return (variance(n, total, squares) * (n - 1)).nan_to_num(0.0)


def _queries(sums: HeadSums, counts: DocumentCounts, names: dict[str, list[str]]) -> int:
    return int(sums.scores.count.sum()) // len(names)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def _index(axes: dict[str, Any]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)


def _numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)

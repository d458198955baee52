"""Bias scores of the keys of each class: mean, contrast, Hedges' g, AUROC, and their cosines with the direction.

- bias score of key j: beta_j = b_Q . k_j / sqrt(d_head), nats: what the bias adds to its attention score from every query;
- contrast: E[beta | c] - E[beta]; Hedges' g against the other classes; AUROC_c = P(beta of a c token > beta of another);
- alignment: mean cosine of k_j and b_Q over the class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from interp.analysis.accumulators import GroupedMoments, ScoreHistogram, variance
from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy


class BiasScores(Measurement):
    """Moments and histogram of bias scores, and moments of cosines, per head and class. Memory does not grow."""

    PARTS = ("scores", "cosines", "histogram")

    def __init__(self, context: Context) -> None:
        self.scores = GroupedMoments(*context.per_class, context.device)
        self.cosines = GroupedMoments(*context.per_class, context.device)
        self.histogram = ScoreHistogram(*context.per_class, context.device)

    def start(self, batch: Batch) -> None:
        """Count the tokens of each class."""
        for moments in (self.scores, self.cosines):
            for row in batch.classes:
                moments.count_groups(row)

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Add the keys of one layer."""
        for row in batch.classes:
            self.scores.update(view.layer, view.scores, row)
            self.cosines.update(view.layer, view.cosines, row)
        self.histogram.update(view.layer, view.scores, batch.classes)

    def contrast(self, spans: list[tuple[int, int]]) -> np.ndarray:
        """Return each class's mean less the mean over its scheme, [layer, head_index, token_class], nats."""
        return as_numpy(self.scores.mean() - self.scores.overall(spans))

    def columns(self, found: Found) -> Mapping[str, np.ndarray]:
        """Return what the bias scores of each class are, and how they differ from the others'."""
        spans = found.context.classes.spans
        aurocs = [self.histogram.auroc(first, last) for first, last in spans]
        return {
            "bias_score_mean": as_numpy(self.scores.mean()),
            "bias_score_contrast": self.contrast(spans),
            "hedges_g": np.concatenate([as_numpy(hedges_g(self.scores, *span)) for span in spans], -1),
            "auroc": np.concatenate([auroc for auroc, _ in aurocs], -1),
            "auroc_error_bound": np.concatenate([bound for _, bound in aurocs], -1),
            "alignment": as_numpy(self.cosines.mean()),
            "bias_score_sd": as_numpy(self.scores.variance().sqrt()),
        }


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


def _within(n: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Sum of squared deviations from the mean of each group; 0 for groups of fewer than two."""
    return (variance(n, total, squares) * (n - 1)).nan_to_num(0.0)

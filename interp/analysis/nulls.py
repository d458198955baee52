"""Everything summed for the nulls of one run: random directions, and labels permuted within documents."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from interp.analysis.batch import Batch
from interp.analysis.direction import QueryShifts
from interp.analysis.direction_null import DirectionNull
from interp.analysis.label_null import LabelNull
from interp.analysis.null_shares import NullShares
from interp.errors import InterpError

HeadVectors = Float[Tensor, "batch pos head_index d_head"]


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

"""Sums of bias scores by class and by stratum (position, or position and token frequency), fold by fold of documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.batch import Batch
from interp.data.frequency import DECILES
from interp.errors import InterpError

FOLDS = 32
"""Documents are dealt to so many folds by their running number; leaving out one at a time gives the intervals."""

TENTHS = len(DECILES)


@dataclass(frozen=True)
class Strata:
    """What bias scores are adjusted for: `size` strata, and of which each token is.

    Positions count from 0 within the context, as the model sees them. Without `deciles` every position is a stratum; with
    them, the 10 `deciles` of `interp.data.frequency` are crossed with positions in quarter octaves, each of which reaches
    19% further than the last: 0, 1, 2, ... one by one, 90 to 106 together.
    """

    name: str
    n_ctx: int
    deciles: Int64[Tensor, " d_vocab"] | None = None

    @property
    def size(self) -> int:
        """How many strata there are, empty ones included."""
        if self.deciles is None:
            return self.n_ctx
        return (int(_quarter_octaves(torch.tensor([self.n_ctx - 1]))) + 1) * TENTHS

    def of(self, batch: Batch) -> Int64[Tensor, " token"]:
        """Return the stratum of each token of a batch."""
        if self.deciles is None:
            return batch.places
        return _quarter_octaves(batch.places) * TENTHS + self.deciles[batch.tokens]


def _quarter_octaves(places: Int64[Tensor, " token"]) -> Int64[Tensor, " token"]:
    return (4 * torch.log2(places.double() + 1)).floor().long()


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


class StratifiedSums:
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

    def merge(self, other: StratifiedSums) -> None:
        """Add what another accumulator saw of other documents."""
        for name in ("count", "by_class", "by_stratum"):
            getattr(self, name).__iadd__(getattr(other, name))

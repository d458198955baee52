"""Count, mean and variance of a value per group (class, token or position), for every head, over a stream."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor


class GroupedSums:
    """Count and sum in float64 of a value per group; mean_g = sum_g / n_g.

    Memory is n_layers * n_heads * n_groups and does not grow with the stream.
    """

    PARTS = ("count", "sum")

    def __init__(self, n_layers: int, n_heads: int, n_groups: int, device: torch.device | str = "cpu") -> None:
        self.count = torch.zeros(n_groups, dtype=torch.int64, device=device)
        self.sum = torch.zeros(n_layers, n_heads, n_groups, dtype=torch.float64, device=device)

    def count_groups(self, groups: Int64[Tensor, " token"]) -> None:
        """Count the tokens of a batch, once for all layers."""
        self.count += torch.bincount(groups, minlength=len(self.count))

    def update(self, layer: int, values: Float[Tensor, "head_index token"], groups: Int64[Tensor, " token"]) -> None:
        """Add one layer's values of the tokens of a batch."""
        values = values.double()
        self.sum[layer].scatter_add_(1, groups.expand_as(values), values)

    def merge(self, other: GroupedSums) -> None:
        """Add what another accumulator saw."""
        for name in self.PARTS:
            getattr(self, name).__iadd__(getattr(other, name))

    def mean(self) -> Float64[Tensor, "layer head_index group"]:
        """Return the mean per group; missing (nan) for an empty group."""
        return self.sum / self.count

    def overall(self, spans: Iterable[tuple[int, int]]) -> Float64[Tensor, "layer head_index group"]:
        """Return, for every group, the mean over all groups of its span first..last, such as the classes of a scheme."""
        means = [
            self.sum[..., a:b].sum(-1, keepdim=True).expand(-1, -1, b - a) / self.count[a:b].sum() for a, b in spans
        ]
        return torch.cat(means, -1)


class GroupedMoments(GroupedSums):
    """Sums in float64 of a value and of its square per group.

    variance_g = (squares_g - sum_g^2 / n_g) / (n_g - 1).
    """

    PARTS = ("count", "sum", "squares")

    def __init__(self, n_layers: int, n_heads: int, n_groups: int, device: torch.device | str = "cpu") -> None:
        super().__init__(n_layers, n_heads, n_groups, device)
        self.squares = torch.zeros_like(self.sum)

    def update(self, layer: int, values: Float[Tensor, "head_index token"], groups: Int64[Tensor, " token"]) -> None:
        """Add one layer's values of the tokens of a batch."""
        super().update(layer, values, groups)
        values = values.double()
        self.squares[layer].scatter_add_(1, groups.expand_as(values), values.square())

    def variance(self) -> Float64[Tensor, "layer head_index group"]:
        """Return the unbiased variance per group; missing (nan) for fewer than two values."""
        return variance(self.count, self.sum, self.squares)


def variance(
    count: Int[Tensor, " group"],
    total: Float64[Tensor, "*head group"],
    squares: Float64[Tensor, "*head group"],
) -> Float64[Tensor, "*head group"]:
    """Return the unbiased variance from sums; nan for fewer than two values, never below 0."""
    spread = (squares - total.square() / count).clamp(min=0)
    return torch.where(count > 1, spread / (count - 1), torch.nan)

"""What positions do to the score of a query and a key, measured on the model itself.

With rotary positions (Su et al., arXiv 2104.09864) a direction b turns with the query: at position i it adds b . M_(i-j) k_j
to the score of key j, M_delta the model's scale times turns by delta in planes of two dimensions. So the bias score of a key
depends on the query; its mean over the n queries that see the key,

    beta_j = b . (1/n sum_(delta < n) M_delta) k_j = b . k'_j / sqrt(d_head),

is linear in b again, with keys k'_j, and what follows from keys holds for k'. Families differ in which dimensions turn, in
pairs of halves or of neighbours, and how fast. All of them say it when queries are put to unit vectors and keys to ones:
then log ratios of the pattern are the entries of M. Without rotation M is the scale alone, and k' is k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from interp.analysis.attention import HeadVectors

Run = Callable[[Tensor, list[Tensor], int], list[Tensor]]
"""``run(queries, keys, last)`` puts these queries into every layer, and keys[layer] into every head of a layer, and returns
for each layer the logs of the patterns of the `last` queries, [row, head_index, last, key_pos]."""

SMALL = 1e-5
"""Entries of sqrt(d_head) M beside the diagonal that are no larger, at any distance, are rounding."""


@dataclass(frozen=True)
class LayerTurning:
    """M of one layer, and what its mean over queries makes of keys.

    Attributes:
        own: the mean of M's diagonal over the first n deltas, times sqrt(d_head); n = 0 stands for n = 1.
        other: the same of its one entry beside the diagonal.
        partner: the dimension of that entry, for each dimension of the query.
        window: how many queries see a key at most.
    """

    own: Float[Tensor, "n d_head"]
    other: Float[Tensor, "n d_head"]
    partner: Int64[Tensor, " d_head"]
    window: int

    def keys(self, k: HeadVectors, mask: Bool[Tensor, "batch pos"]) -> HeadVectors:
        """Return k' of keys; `mask` says which tokens are real."""
        left = mask.sum(1, keepdim=True) - torch.arange(mask.shape[1], device=mask.device)  # queries from the key on
        n = left.clamp(1, min(self.window, len(self.own) - 1))  # [batch, pos]
        return self.own[n][:, :, None] * k + self.other[n][:, :, None] * k[..., self.partner]


@dataclass(frozen=True)
class Turning:
    """M of every layer of a model.

    Attributes:
        layers: of each layer; () where scores are not linear in queries and keys, as behind a norm of theirs.
        turns: whether scores depend on how far apart query and key are.
    """

    layers: tuple[LayerTurning, ...]
    turns: bool

    @classmethod
    def of(cls, run: Run, n_layers: int, n_heads: int, d_head: int, n_ctx: int, strength: float = 1.0) -> Turning:
        """Measure M.

        Args:
            run: runs the model (`Run`).
            n_layers, n_heads, d_head, n_ctx: sizes.
            strength: length of the queries: more for a model of half precision, whose patterns are coarse.
        """
        made = _Made(run, n_layers, n_heads, d_head, strength)
        at_query = made.at_the_query()
        if at_query is None:
            return cls((), True)
        partners = made.partners(at_query, n_ctx)
        alone = torch.arange(d_head)
        if all(bool((partner == alone).all()) for partner in partners):
            none = torch.zeros(2, d_head)
            return cls(tuple(LayerTurning(own.expand(2, -1), none, alone, 1) for own in at_query), False)
        return cls(tuple(made.far(at_query, partners, n_ctx)), True)

    def to(self, device: torch.device) -> Turning:
        """Return the same on a device."""
        moved = [
            LayerTurning(e.own.to(device), e.other.to(device), e.partner.to(device), e.window) for e in self.layers
        ]
        return Turning(tuple(moved), self.turns)


class _Made:
    """The contexts that are run: the last queries of a context are the unit vectors of a head, n_heads of them at a time."""

    def __init__(self, run: Run, n_layers: int, n_heads: int, d_head: int, strength: float) -> None:
        self.run, self.n_layers, self.strength = run, n_layers, strength
        self.groups = -(-d_head // n_heads)
        units = torch.zeros(self.groups * n_heads, d_head)
        units[:d_head] = torch.eye(d_head)
        self.units = units.view(self.groups, n_heads, d_head)
        self.d_head, self.scale = d_head, d_head**0.5

    def at_the_query(self) -> list[Float[Tensor, " d_head"]] | None:
        """Return sqrt(d_head) M_0's diagonal of each layer; None if scores are not linear in queries and keys.

        Contexts of two tokens; keys are 0 before the query, and 0, 1 or 2 in all dimensions at it.
        """
        queries = (
            self.units[:, None].repeat(4, 2, 1, 1) * self.strength
        )  # [group of each kind, pos, head_index, d_head]
        queries[3 * self.groups :] *= 2
        keys = torch.zeros(4, self.groups, 2, self.d_head)
        keys[:, :, 1] = torch.tensor([0.0, 1.0, 2.0, 1.0])[:, None, None]
        found = []
        for logs in self.run(queries, [keys.flatten(0, 1)] * self.n_layers, 1):
            scores = (logs[:, :, 0, 1] - logs[:, :, 0, 0]).unflatten(0, (4, -1)).flatten(1)[:, : self.d_head]
            one, longer_key, longer_query = (scores[1:] - scores[:1]) * self.scale / self.strength
            if not all(torch.allclose(twice, 2 * one, rtol=0.03, atol=1e-3) for twice in (longer_key, longer_query)):
                return None
            found.append(one)
        return found

    def partners(self, at_query: list[Tensor], length: int) -> list[Int64[Tensor, " d_head"]]:
        """Return the other dimension of each dimension's plane; itself where it does not turn.

        Keys are the unit vectors one after the other, again and again, in as many contexts as it takes for a query to see
        every unit vector before itself through the smallest window.
        """
        nothing = torch.zeros(1, length, self.d_head)
        empty = self._last(length, [nothing] * self.n_layers)
        window = min(int(logs[0, 0, -1].isfinite().sum()) for logs in empty)
        starts = torch.arange(0, self.d_head, max(1, window - 1))
        unit = (torch.arange(length) + starts[:, None]) % self.d_head  # [row, key_pos]
        last, found = min(self.groups, length), []
        small = SMALL if self.strength == 1 else 0.02
        keys = [torch.eye(self.d_head)[unit]] * self.n_layers
        for logs, without, own in zip(self._last(length, keys), empty, at_query, strict=True):
            beside = np.zeros((self.d_head, self.d_head), dtype=np.float32)
            for group in range(last):
                place = length - last + group  # of the query
                values = (logs - without)[:, :, group, : place + 1]
                values = (values - values[..., -1:]) * self.scale / self.strength  # less M_0 of the key at the query
                for head in range(min(values.shape[1], self.d_head - group * values.shape[1])):
                    dimension = group * values.shape[1] + head
                    for row, units in zip(values[:, head], unit[:, : place + 1], strict=True):
                        entries = row + (own[dimension] if dimension == int(units[place]) else 0.0)
                        seen = entries.isfinite()
                        np.maximum.at(beside[dimension], units[seen].numpy(), entries[seen].abs().numpy())
            np.fill_diagonal(beside, 0.0)
            largest, other = torch.from_numpy(beside).max(1)
            found.append(torch.where(largest > small, other, torch.arange(self.d_head)))
        return found

    def far(self, at_query: list[Tensor], partners: list[Tensor], n_ctx: int) -> list[LayerTurning]:
        """Return M of every distance. Keys are ones in one dimension of each plane, then in the other."""
        length, alone = n_ctx + self.groups - 1, torch.arange(self.d_head)
        firsts = [alone <= partner for partner in partners]  # one of each plane, and all that do not turn
        keys = [torch.stack([torch.zeros(self.d_head), first.float(), (~first).float()]) for first in firsts]
        rows = [each[:, None].expand(-1, length, -1) for each in keys]
        found = []
        for logs, first, partner, own0 in zip(self._last(length, rows), firsts, partners, at_query, strict=True):
            of_unit = torch.stack([
                logs[:, :, group, : length - self.groups + group + 1].flip(-1)[:, :, :n_ctx] for group in range(self.groups)
            ], 1)  # [row, group, head_index, delta]  # fmt: skip
            of_unit = of_unit.flatten(1, 2)[:, : self.d_head]
            window = int(of_unit[0, 0].isfinite().sum())
            scores = (of_unit[1:] - of_unit[:1])[..., :window]
            one, other = (scores - scores[..., :1]).mT * self.scale / self.strength  # [delta, d_head]
            own, off = torch.where(first, one, other) + own0, torch.where(first, other, one)
            off = torch.where(partner == alone, 0.0, off)
            found.append(LayerTurning(_running_mean(own), _running_mean(off), partner, window))
        return found

    def _last(self, length: int, keys: list[Tensor]) -> list[Tensor]:
        """Run contexts whose last queries are the unit vectors."""
        last = min(self.groups, length)
        queries = torch.zeros(length, *self.units.shape[1:])
        queries[-last:] = self.units[:last] * self.strength
        return self.run(queries.expand(len(keys[0]), -1, -1, -1), keys, last)


def _running_mean(values: Float[Tensor, "delta d_head"]) -> Float[Tensor, "n d_head"]:
    """Means of the first n values, n = 1, 2, ...; the first stands at 0 too."""
    means = values.double().cumsum(0) / torch.arange(1, len(values) + 1)[:, None]
    return torch.cat([means[:1], means]).float()

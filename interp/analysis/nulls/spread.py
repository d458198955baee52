"""How a head's keys spread, and directions b along which they spread as much.

Keys vary far more along some directions than along others. With S the covariance of a head's keys, d_head times the variance
of the scores along b is b' S b. Directions of equal spread are those of which S^(1/2) b is isotropic, as long as the bias's:
every one is as likely as any other in the coordinates in which keys vary alike in all directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64

from interp.analysis.direction import PerHead, random_directions

CUT = 1e-9
"""Eigenvalues of S below this part of its largest are rounding: their directions are left out, and d counts the others."""

ROUNDING = 1e-12
"""What is no larger, where 1 is all, is not there: of x' S^-1 x and of what groups explain along any direction."""

DRAWS = 1000
"""Isotropic directions behind a p that has no closed form; keyed by (seed, layer). No p is below 1 / (DRAWS + 1)."""

Number = Float64[np.ndarray, "layer head_index"]
HeadVectors = Float64[np.ndarray, "layer head_index d_head"]
Covariance = Float64[np.ndarray, "layer head_index d_head d_head"]


@dataclass(frozen=True)
class Spread:
    """How a head's keys spread: S = sum_i values_i v_i v_i', the v_i the columns of `vectors`; values below `CUT` are 0."""

    values: HeadVectors
    vectors: Covariance

    @classmethod
    def of(cls, covariance: Covariance) -> Spread:
        """Take a covariance apart."""
        values, vectors = np.linalg.eigh(covariance)
        return cls(np.where(values > CUT * values[..., -1:], values, 0.0), vectors)

    @property
    def rank(self) -> Int64[np.ndarray, "layer head_index"]:
        """In how many directions the keys vary: what the law takes for d."""
        return (self.values > 0).sum(-1)

    def variance(self, vector: HeadVectors) -> Number:
        """Return b' S b: d_head times the variance of the bias scores."""
        return (self.values * np.einsum("lhde,lhd->lhe", self.vectors, vector) ** 2).sum(-1)

    def directions(
        self, vector: PerHead, count: int, seed: int
    ) -> Float[torch.Tensor, "layer head_index direction d_head"]:
        """Return random directions u = c S^(-1/2) z of each head, z isotropic, with u' S u = b' S b, b its `vector`.

        Where keys do not vary at all u has no part. Like `random_directions`, z depends on (seed, layer) and sizes alone.
        """
        drawn = random_directions(torch.ones_like(vector), count, seed).double().cpu().numpy()
        scale = np.divide(1.0, np.sqrt(self.values), out=np.zeros_like(self.values), where=self.values > 0)
        whitened = np.einsum("lhrd,lhde->lhre", drawn, self.vectors) * scale[..., None, :]  # along the v_i
        length = (np.square(whitened) * self.values[..., None, :]).sum(-1)  # u' S u of each
        wanted = self.variance(vector.double().cpu().numpy())[..., None]
        factor = np.sqrt(np.divide(wanted, length, out=np.zeros_like(length), where=length > 0))
        return torch.from_numpy(np.einsum("lhre,lhde->lhrd", whitened * factor[..., None], self.vectors)).to(vector)

    def whitened(self, x: Float64[np.ndarray, "layer head_index row d_head"]) -> Float64[np.ndarray, "..."]:
        """Return rows of S^(-1/2) x, in the basis of the v_i; S^-1 is the pseudo-inverse."""
        scale = np.divide(1.0, np.sqrt(self.values), out=np.zeros_like(self.values), where=self.values > 0)
        return np.einsum("lhrd,lhde->lhre", x, self.vectors) * scale[..., None, :]


class Quadratic(NamedTuple):
    """The law of w' M w / |w|^2 for isotropic w in `rank` dimensions, by the eigenvalues of M, ascending."""

    eigenvalues: HeadVectors
    rank: Int[np.ndarray, "layer head_index"]

    def mean(self) -> Number:
        """Return tr M / rank."""
        return self.eigenvalues.sum(-1) / self.rank

    def p(self, value: Number, seed: int) -> Number:
        """Return (1 + draws at least as large as the value) / (1 + draws), one-sided.

        Missing where the value is, and where no direction gives anything but 0.
        """
        return chances([(self, value)], seed)[0]


def chances(laws: Sequence[tuple[Quadratic, Number]], seed: int) -> list[Number]:
    """Return `Quadratic.p` of values under several laws of the same sizes, all from the same draws, made once."""
    found = [np.full(value.shape, np.nan) for _, value in laws]
    layers, heads, size = laws[0][0].eigenvalues.shape
    for layer in range(layers):
        squares = np.random.default_rng([seed, layer]).standard_normal((heads, DRAWS, size)) ** 2
        for p, (law, value) in zip(found, laws, strict=True):
            inside = np.arange(size) >= size - law.rank[layer, :, None]  # [head_index, d_head]
            drawn = np.einsum("hrd,hd->hr", squares, law.eigenvalues[layer]) / np.einsum("hrd,hd->hr", squares, inside)
            p[layer] = (1 + (drawn >= value[layer, :, None]).sum(-1)) / (1 + DRAWS)
    return [
        np.where(np.isnan(value) | ~law.eigenvalues.any(-1), np.nan, p)
        for p, (law, value) in zip(found, laws, strict=True)
    ]


def key_spread(
    vector: Float[np.ndarray, "layer head_index d_head"], spread: Spread, seed: int
) -> tuple[Number, Number]:
    """Return the sd of the bias scores over their rms along random directions as long as b, and its p among them.

    sqrt(b' S b d / (|b|^2 tr S)); p is that of random directions that spread the keys at least as much, of `DRAWS`. It says
    how the direction lies in the keys, and nothing about classes.
    """
    variance, length = spread.variance(vector), np.square(vector).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = variance / length  # u' S u of the unit vector u
        law = Quadratic(spread.values, np.full(each.shape, vector.shape[-1]))
        return np.sqrt(each / law.mean()), law.p(each, seed)

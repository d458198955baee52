"""Which interventions are made, and what each adds to the biases in force.

An intervention scales b to alpha b, at its place: it adds the change (alpha - 1) b. Its control adds (alpha - 1) r there,
with r a random direction of each head that is as long as its b, isotropic. So the control moves the same queries (values)
exactly as far, and only the direction differs: what both do is what any change of this size does, what only the
intervention does is due to the direction. Putting r in the place of b would not be matched: that moves the queries by
r - b, about sqrt(2) |b| at alpha = 0 where the intervention moves them by |b|. At alpha = 1 both change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.direction_null import random_directions
from interp.analysis.interventions.places import Place
from interp.errors import InterpError

Part = Literal["q", "v", "qv"]
Biases = Float[Tensor, "2 layer head_index d_head"]
"""b_Q (0) and b_V (1), or changes of them."""


class Intervention(NamedTuple):
    """Biases scaled by alpha at a place; or, along a random direction, its control."""

    place: Place
    scale: float
    direction: Literal["bias", "random"] = "bias"
    draw: int = 0


def planned(places: Sequence[Place], scales: Sequence[float], draws: int) -> list[Intervention]:
    """Return every place at every scale, each followed by its controls along `draws` random directions.

    Raises:
        InterpError: no scale, one that is not a number, or less than 0 draws.
    """
    if not scales or not all(math.isfinite(scale) for scale in scales):
        raise InterpError(f"The scales are {list(scales)}; give one or more numbers, such as 0 and 2.")
    if draws < 0:
        raise InterpError(f"random_directions is {draws}; 0 or more is needed.")
    return [
        intervention
        for place in places
        for scale in dict.fromkeys(map(float, scales))
        for intervention in (
            Intervention(place, scale),
            *(Intervention(place, scale, "random", draw) for draw in range(draws)),
        )
    ]


def changes(
    biases: Biases, interventions: Sequence[Intervention], part: Part, seed: int
) -> list[Float[Tensor, "2 layer head_index d_head"]]:
    """Return what each intervention adds to the biases in force.

    Random directions depend on the seed, the number of draws and the sizes alone, not on the place or the scale.
    """
    kept = only(biases, part)
    draws = 1 + max((i.draw for i in interventions if i.direction == "random"), default=-1)
    drawn = random_directions(kept.flatten(0, 1), draws, seed).unflatten(
        0, biases.shape[:2]
    )  # [2, layer, head, draw, d_head]
    found = []
    for intervention in interventions:
        _, layer, head = intervention.place
        vector = kept if intervention.direction == "bias" else drawn[..., intervention.draw, :]
        change = torch.zeros_like(biases)
        here = (slice(None), slice(None) if layer is None else layer, slice(None) if head is None else head)
        change[here] = (intervention.scale - 1) * vector[here]
        found.append(change)
    return found


def only(biases: Biases, part: Part) -> Biases:
    """Return the biases of one part, the other being 0."""
    kept = biases.clone()
    for which, name in enumerate("qv"):
        if name not in part:
            kept[which] = 0
    return kept

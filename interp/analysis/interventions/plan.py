"""Which interventions are made, and what each adds to the biases in force.

An intervention scales b, the vector of a direction that queries hold or the value bias, to alpha b, at its place: it adds
the change (alpha - 1) b. Its control adds (alpha - 1) r there, with r a random direction of each head that is as long as its
b, isotropic. So the control moves the same queries (values) exactly as far, and only the direction differs: what both do is
what any change of this size does, what only the intervention does is due to the direction. Putting r in the
place of b would not be matched: that moves the queries by r - b, about sqrt(2) |b| at alpha = 0 where the intervention moves
them by |b|. At alpha = 1 both change nothing.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.direction import Direction, random_directions
from interp.analysis.readers.reader import Reader
from interp.analysis.settings import InterventionSettings, Part
from interp.errors import InterpError


class Place(NamedTuple):
    """All heads (no layer), all heads of a layer (no head), or one head."""

    name: str
    layer: int | None = None
    head: int | None = None


def places(where: str | Sequence[str], n_layers: int, n_heads: int) -> list[Place]:
    """Return the places that words name, each once: "all", "layers" (each layer alone), "heads" (each alone), "L3", "L3H7".

    Args:
        where: the words, or one string of them with commas.
        n_layers, n_heads: of the model.

    Raises:
        InterpError: no word, one that names no place, or a layer or head that is not there.
    """
    words = [word.strip() for word in (where.split(",") if isinstance(where, str) else where)]
    found = dict.fromkeys(place for word in words if word for place in _named(word, n_layers, n_heads))
    if not found:
        raise InterpError(
            "No place to intervene at is given; choose of all, layers, heads, or name some, such as L3 or L3H7."
        )
    return list(found)


def _named(word: str, n_layers: int, n_heads: int) -> list[Place]:
    if word == "all":
        return [Place("all")]
    if word == "layers":
        return [Place(f"L{layer}", layer) for layer in range(n_layers)]
    if word == "heads":
        return [Place(f"L{layer}H{head}", layer, head) for layer in range(n_layers) for head in range(n_heads)]
    match = re.fullmatch(r"L(\d+)(?:H(\d+))?", word, re.IGNORECASE)
    if match is None:
        raise InterpError(
            f"There is no place {word!r} to intervene at; choose of all, layers, heads, or such as L3 or L3H7."
        )
    layer, head = int(match[1]), None if match[2] is None else int(match[2])
    if layer >= n_layers or (head or 0) >= n_heads:
        raise InterpError(
            f"There is no {word}; this model has layers 0 to {n_layers - 1} with heads 0 to {n_heads - 1}."
        )
    return [Place(f"L{layer}" if head is None else f"L{layer}H{head}", layer, head)]


Biases = Float[Tensor, "2 layer head_index d_head"]
"""b_Q, or the vector of another direction, (0) and b_V (1), or changes of them."""


class Intervention(NamedTuple):
    """Biases scaled by alpha at a place; or, along a random direction, its control."""

    place: Place
    scale: float
    direction: Literal["bias", "random"] = "bias"
    draw: int = 0


def planned(places: Sequence[Place], settings: InterventionSettings) -> list[Intervention]:
    """Return every place at every scale, each followed by its controls along random directions."""
    found = []
    for place, scale in itertools.product(places, dict.fromkeys(map(float, settings.scales))):
        found.append(Intervention(place, scale))
        found += [Intervention(place, scale, "random", draw) for draw in range(settings.random_directions)]
    return found


def changes(
    biases: Biases, interventions: Sequence[Intervention], part: Part, seed: int
) -> list[Float[Tensor, "2 layer head_index d_head"]]:
    """Return what each intervention adds to the biases in force.

    Random directions depend on the seed, the number of draws and the sizes alone, not on the place or the scale.
    """
    kept = only(biases, part)
    draws = 1 + max((i.draw for i in interventions if i.direction == "random"), default=-1)
    # [2, layer, head, draw, d_head]
    drawn = random_directions(kept.flatten(0, 1), draws, seed).unflatten(0, biases.shape[:2])
    found = []
    for (_, layer, head), scale, direction, draw in interventions:
        vector = kept if direction == "bias" else drawn[..., draw, :]
        here = (slice(None), slice(None) if layer is None else layer, slice(None) if head is None else head)
        change = torch.zeros_like(biases)
        change[here] = (scale - 1) * vector[here]
        found.append(change)
    return found


def biases_of(reader: Reader, direction: Direction, part: Part) -> Biases:
    """Return what is scaled: the vector that queries hold along a direction, and the unlearned value bias in force.

    Raises:
        InterpError: the model has no such direction, or no value bias of which `part` speaks.
    """
    own, values = reader.held(direction).vector, reader.value_bias
    if values is None:
        if part != "q":
            raise InterpError(
                f"{reader.name} has no unlearned value bias to scale; leave part at q, the vector in its queries."
            )
        return torch.stack([own, torch.zeros_like(own)])
    return torch.stack([own.to(values), values])


def only(biases: Biases, part: Part) -> Biases:
    """Return the biases of one part, the other being 0."""
    return torch.stack(
        [bias if name in part else torch.zeros_like(bias) for name, bias in zip("qv", biases, strict=True)]
    )


AT_POSITIONS = -1
"""All biases as they are, but the bias scores of the layer itself are their means by position (`interp.analysis.fitted`)."""


class Path(NamedTuple):
    """One way for amplification to reach `layer`: the log2 share with biases of layers below `upper`, less below `lower`."""

    name: str
    layer: int
    source: int | None
    upper: int
    lower: int


def without_layers_from(biases: Biases) -> list[Float[Tensor, "2 layer head_index d_head"]]:
    """Return, for k = 0 .. n_layers - 1, the change that removes the biases of layer k and of all after it."""
    layers = torch.arange(biases.shape[1], device=biases.device)[:, None, None]
    return [torch.where(layers >= layer, -biases, 0.0) for layer in range(len(layers))]


def paths_to(layer: int) -> Iterator[Path]:
    """Return the paths to a layer: total, direct and its two parts, indirect, and every source of the indirect one."""
    yield Path("total", layer, None, layer + 1, 0)
    yield Path("direct", layer, layer, layer + 1, layer)
    yield Path("direct position", layer, layer, AT_POSITIONS, layer)
    yield Path("direct beyond position", layer, layer, layer + 1, AT_POSITIONS)
    yield Path("indirect", layer, None, layer, 0)
    yield from (Path("source", layer, source, source + 1, source) for source in range(layer))

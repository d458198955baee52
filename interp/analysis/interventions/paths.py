"""Path by path: how much of a layer's total amplification is its own bias, and how much comes through earlier biases.

Let M(l, k) be the share of attention of a class in a head of layer l, while only the biases of layers 0 .. k-1 are present.
M(l, 0) has none at all; M(l, l) all earlier ones but not the layer's own; M(l, l+1) is that of the model as it is, since
later layers do not reach back. With the biases switched on one layer after the other, from the first,

    total(l)     = log2 M(l, l+1) / M(l, 0)      all biases against none
    direct(l)    = log2 M(l, l+1) / M(l, l)      the layer's own bias, upstream as it is: direct amplification
    indirect(l)  = log2 M(l, l)   / M(l, 0)      what the biases of earlier layers do to a layer without its own
    source(l, k) = log2 M(l, k+1) / M(l, k)      the part of it due to the bias of layer k < l

so that total = direct + indirect and indirect = sum over k < l of source(l, k), exactly. Each part is what its bias adds
given those before it: effects of two biases together are counted with the later one. Only n_layers further runs are needed,
and the run for k starts at layer k.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.interventions.plan import Biases


class Path(NamedTuple):
    """One way for amplification to reach `layer`: the log2 share with biases of layers below `upper`, less below `lower`."""

    name: str
    layer: int
    source: int | None
    upper: int
    lower: int


def without_layers_from(biases: Biases) -> list[Float[Tensor, "2 layer head_index d_head"]]:
    """Return, for k = 0 .. n_layers - 1, the change that removes the biases of layer k and of all after it."""
    found = []
    for layer in range(biases.shape[1]):
        change = torch.zeros_like(biases)
        change[:, layer:] = -biases[:, layer:]
        found.append(change)
    return found


def paths_to(layer: int) -> Iterator[Path]:
    """Return the paths to a layer: total, direct, indirect, and every source of the indirect one."""
    yield Path("total", layer, None, layer + 1, 0)
    yield Path("direct", layer, layer, layer + 1, layer)
    yield Path("indirect", layer, None, layer, 0)
    yield from (Path("source", layer, source, source + 1, source) for source in range(layer))

"""Which unlearned biases a checkpoint of the authors' release was trained with, from the buffers of its attention layers.

Each layer has buffers mean_Q, std_Q [d_head] and the last draw bQ [n_heads, d_head], the same vector in each row, and
likewise for keys and values; symmetric models have none, or zeros. The buffers of values are there even where no b_V was
used: then b_V was never drawn, and bV is still the zero it began as.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interp.errors import InterpError, few
from interp.model.config import BiasConfig, Profile

BUFFERS = r"transformer\.h\.\d+\.sa\.(b[QKV]|(mean|std)_[QKV]|causal_mask)"


def release_biases(
    where: str, tensors: Mapping[str, Tensor], recorded: Mapping[str, Any], d_head: int
) -> tuple[BiasConfig, BiasConfig, list[str]]:
    """Return the configs of b_Q and b_V, and notes for the reader.

    Args:
        where: the file, for messages.
        tensors: of the checkpoint.
        recorded: what it says of its biases under "symmetry_breaking"; may be empty.
        d_head: size of a head.

    Raises:
        InterpError: buffers are incomplete, of another shape, or differ from layer to layer.
    """
    mean_v = _buffer(where, tensors, "mean_V", d_head)
    if used := _value_bias_is_used(tensors, recorded, mean_v):
        value = _config(where, mean_v, _buffer(where, tensors, "std_V", d_head), "V")
    else:
        value = BiasConfig()
    query = _config(where, _buffer(where, tensors, "mean_Q", d_head), _buffer(where, tensors, "std_Q", d_head), "Q")
    notes = []
    if any(bool(value.any()) for part in ("bK", "mean_K") for value in _layers(tensors, part).values()):
        notes.append("bK is left out: it adds the same to all scores of a query and cancels in the softmax.")
    if not used and mean_v is not None and bool(mean_v.any()):
        notes.append("mean_V is left out: the file has buffers for b_V, but the model was trained without it.")
    return query, value, notes


def _value_bias_is_used(tensors: Mapping[str, Tensor], recorded: Mapping[str, Any], mean: Tensor | None) -> bool:
    if mean is None:
        return False
    if isinstance(recorded.get("bV"), bool):
        return recorded["bV"]
    draws = {name: [bool(value.any()) for value in _layers(tensors, name).values()] for name in ("bQ", "bV")}
    if any(draws["bV"]) or any(draws["bQ"]):
        return any(draws["bV"])
    return bool(mean.any())  # nothing was ever drawn, which says nothing


def _config(where: str, mean: Tensor | None, std: Tensor | None, part: str) -> BiasConfig:
    if (mean is None) != (std is None):
        raise InterpError(f"{where} has only one of mean_{part} and std_{part}; a bias needs both.")
    if mean is None or std is None or not (mean.any() or std.any()):
        return BiasConfig()
    return BiasConfig(_profile(mean), _profile(std), "batch")


def _buffer(where: str, tensors: Mapping[str, Tensor], name: str, d_head: int) -> Tensor | None:
    """Return a buffer that all layers share, or None where there is none."""
    found = _layers(tensors, name)
    if not found:
        return None
    wrong = [f"{key} is {list(value.shape)}" for key, value in found.items() if value.shape != (d_head,)]
    if wrong:
        raise InterpError(f"{where} has biases of another shape than [{d_head}], d_head: {few(wrong)}.")
    first, *others = found.values()
    if len(found) < len(_layers(tensors, r"c_attn\.weight")) or any(not other.equal(first) for other in others):
        raise InterpError(f"{where} has not the same {name} in all layers; one for all is expected.")
    return first.to(torch.float32)


def _layers(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if re.fullmatch(rf"transformer\.h\.\d+\.sa\.{name}", key)}


def _profile(values: Tensor) -> Profile:
    """Return a number, a (start, end) linspace or a list: the shortest that gives exactly these float32 numbers."""
    numbers = [float(str(number)) for number in values.numpy()]  # 0.05, not 0.05000000074505806
    if len(set(numbers)) == 1:
        return numbers[0]
    ends = numbers[0], numbers[-1]
    return ends if torch.linspace(*ends, len(numbers)).equal(values) else numbers

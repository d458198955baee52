"""Checkpoints of the authors' release of arXiv 2601.22257: GPT-2's layout with PReLU or GELU, learned positions or RoPE.

Their GELU is the exact one. With RoPE the first half of each head rotates, before b_Q is added, as in our model.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interp.errors import InterpError, few
from interp.model.config import SIZES, BiasConfig, ModelConfig, Profile
from interp.model.export.huggingface import parameter_names
from interp.model.foreign.fit import agree, whole_number
from interp.model.foreign.gpt2 import from_gpt2_layout, sizes, tied
from interp.model.foreign.source import Source
from interp.model.transformer import HookedSymmetryBrokenTransformer

BUFFERS = r"transformer\.h\.\d+\.sa\.(b[QKV]|(mean|std)_[QKV]|causal_mask)"
IGNORED = rf"{BUFFERS}|(rope_emb|p_emb)\.inv_freq"


def from_release(source: Source) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a checkpoint file, and notes for the reader.

    Raises:
        InterpError: its sizes, names or shapes do not fit together.
    """
    where, tensors = source.where, tied(source.where, source.tensors)
    claimed = _config_of(source)
    found = sizes(where, tensors, "context_length")
    agree(where, claimed, found)
    n_heads = _n_heads(source, claimed)
    rope = "transformer.wpe.weight" not in tensors
    shape = ModelConfig(
        n_layers=found["n_layer"], d_model=found["n_embd"], n_heads=n_heads, d_vocab=found["vocab_size"],
        n_ctx=found.get("context_length") or _context(source, claimed),
        activation="prelu" if "transformer.h.0.mlp.act.weight" in tensors else "gelu_exact",
    )  # fmt: skip
    recorded = source.beside.get("symmetry_breaking")
    query, value, notes = release_biases(where, tensors, recorded if isinstance(recorded, dict) else {}, shape.d_head)
    rotary = _rotary(where, claimed, shape.d_head) if rope else {}
    cfg = replace(shape, q=query, v=value, **rotary)
    names = parameter_names(cfg, attention="sa", norm="ln")
    return from_gpt2_layout(cfg, where, tensors, names, IGNORED), notes


def release_biases(
    where: str, tensors: Mapping[str, Tensor], recorded: Mapping[str, Any], d_head: int
) -> tuple[BiasConfig, BiasConfig, list[str]]:
    """Return the configs of b_Q and b_V of the file `where`, and notes for the reader.

    `recorded` is what it says of its biases under "symmetry_breaking"; it may be empty.

    Raises:
        InterpError: buffers are incomplete, of another shape, or differ from layer to layer.
    """
    mean_v = _buffer(where, tensors, "mean_V", d_head)
    used, value = _value_bias_is_used(tensors, recorded, mean_v), BiasConfig()
    if used:
        value = _bias_config(where, mean_v, _buffer(where, tensors, "std_V", d_head), "V")
    mean_q, std_q = (_buffer(where, tensors, name, d_head) for name in ("mean_Q", "std_Q"))
    query = _bias_config(where, mean_q, std_q, "Q")
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


def _bias_config(where: str, mean: Tensor | None, std: Tensor | None, part: str) -> BiasConfig:
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


def _config_of(source: Source) -> dict[str, Any]:
    """Return the config's fields; one that names a size of the release, such as "124m", gets that size's numbers."""
    config = source.beside.get("config")
    config = config if isinstance(config, dict) else {}
    n_layers, n_heads, d_model, *_ = SIZES.get(f"gpt2-{config.get('model')}", (None, None, None))
    return ({"n_layer": n_layers, "n_head": n_heads, "n_embd": d_model} if n_layers else {}) | config


def _n_heads(source: Source, claimed: dict[str, Any]) -> int:
    draw = source.tensors.get("transformer.h.0.sa.bQ")
    if "n_head" in claimed or draw is None or draw.ndim != 2:
        return whole_number(source.where, claimed, "n_head")
    return draw.shape[0]


def _context(source: Source, claimed: dict[str, Any]) -> int:
    mask = source.tensors.get("transformer.h.0.sa.causal_mask")
    if "context_length" in claimed or mask is None:
        return whole_number(source.where, claimed, "context_length")
    return mask.shape[-1]


def _rotary(where: str, claimed: dict[str, Any], d_head: int) -> dict[str, Any]:
    base, part = claimed.get("rotary_base", 10000), claimed.get("rope_pct", 0.5)
    numbers = all(isinstance(number, (int, float)) for number in (base, part))
    rotated = int(d_head * part) // 2 * 2 if numbers and 0 < part <= 1 else 0
    if not rotated:
        raise InterpError(
            f"The config of {where} has rotary_base {base!r} and rope_pct {part!r}; expected a number and the part of the "
            f"{d_head} dimensions of a head that rotate, at least two of them."
        )
    return {"positional": "rope", "rotary_base": float(base), "rotary_dim": rotated}

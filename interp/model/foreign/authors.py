"""Checkpoints of the authors' release of arXiv 2601.22257: GPT-2's layout with PReLU or GELU, learned positions or RoPE.

Their GELU is the exact one. With RoPE the first half of each head rotates, before b_Q is added, as in our model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from interp.errors import InterpError
from interp.model.config import ModelConfig
from interp.model.foreign.fit import agree, whole_number
from interp.model.foreign.gpt2_layout import load_gpt2_layout, parameter_names, sizes, tied
from interp.model.foreign.release_biases import BUFFERS, release_biases
from interp.model.foreign.source import Source
from interp.model.presets import SIZES
from interp.model.transformer import HookedSymmetryBrokenTransformer

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
    model = HookedSymmetryBrokenTransformer(replace(shape, q=query, v=value, **rotary))
    load_gpt2_layout(model, where, tensors, parameter_names(model.cfg, attention="sa", norm="ln"), IGNORED)
    return model, notes


def _config_of(source: Source) -> dict[str, Any]:
    """Return the config's fields; one that names a size of the release, such as "124m", gets that size's numbers."""
    config = source.beside.get("config")
    config = config if isinstance(config, dict) else {}
    n_layers, n_heads, d_model, *_ = SIZES.get(f"gpt2-{config.get('model')}", (None, None, None))
    named = {"n_layer": n_layers, "n_head": n_heads, "n_embd": d_model} if n_layers else {}
    return {**named, **config}


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

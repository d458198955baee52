"""Checkpoints of nanoGPT: GPT-2's layout, with or without biases."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.model.config import Activation, ModelConfig
from interp.model.foreign.fit import agree, whole_number
from interp.model.foreign.gpt2_layout import load_gpt2_layout, parameter_names, sizes, tied
from interp.model.foreign.source import Source
from interp.model.transformer import HookedSymmetryBrokenTransformer

MASK = r"transformer\.h\.\d+\.attn\.bias"


def from_nanogpt(source: Source, activation: Activation | None) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a checkpoint file, and notes for the reader.

    Args:
        source: with "model_args" beside the weights.
        activation: which GELU; by default the exact one, which nanoGPT has used since June 2023.

    Raises:
        InterpError: its sizes, names or shapes do not fit together.
    """
    where, tensors = source.where, tied(source.where, source.tensors)
    arguments = source.beside["model_args"]
    found = sizes(where, tensors, "block_size")
    agree(where, arguments, found)
    model = HookedSymmetryBrokenTransformer(
        ModelConfig(
            n_layers=found["n_layer"],
            d_model=found["n_embd"],
            d_vocab=found["vocab_size"],
            n_heads=whole_number(where, arguments, "n_head"),
            n_ctx=whole_number(where, arguments, "block_size"),
            activation=activation or "gelu_exact",
        )
    )
    names, notes = parameter_names(model.cfg), []
    if arguments.get("bias") is False:
        tensors = _zero_biases(model, names) | tensors
    if activation is None:
        notes.append(
            "nanoGPT's GELU is taken to be the exact one; for files from before June 2023 say --activation gelu."
        )
    load_gpt2_layout(model, where, tensors, names, MASK)
    return model, notes


def _zero_biases(model: HookedSymmetryBrokenTransformer, names: dict[str, str]) -> dict[str, Tensor]:
    state = model.state_dict()
    return {their: torch.zeros_like(state[our]) for our, their in names.items() if their.endswith(".bias")}

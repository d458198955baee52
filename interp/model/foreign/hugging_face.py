"""Hugging Face's GPT-2 family: a symmetric model whose query bias is a learned one."""

from __future__ import annotations

import re
from typing import Any

from transformers import GPT2Config

from interp.errors import InterpError
from interp.model.config import Activation, ModelConfig
from interp.model.foreign.fit import agree
from interp.model.foreign.gpt2_layout import load_gpt2_layout, parameter_names, sizes, tied
from interp.model.foreign.source import Source
from interp.model.huggingface import ACTIVATIONS as EXPORTED
from interp.model.transformer import HookedSymmetryBrokenTransformer

SYNONYMS: dict[str, Activation] = {"gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "gelu_python": "gelu_exact"}
ACTIVATIONS: dict[str, Any] = {theirs: ours for ours, theirs in EXPORTED.items()} | SYNONYMS
FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
NOTE = "The biases of the projections are learned; what they amplify: python -m interp.amplify --direction effective."


def from_hugging_face(source: Source) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a folder or hub id, and notes for the reader.

    Raises:
        InterpError: it is not of the GPT-2 family, has an option these models do not have, or does not fit its config.
    """
    where, config = source.where, _config(source)
    root = "transformer." if "transformer.wte.weight" in source.tensors else ""
    tensors = tied(where, source.tensors, root)
    agree(where, vars(config), sizes(where, tensors, "n_positions", root))
    model = HookedSymmetryBrokenTransformer(
        ModelConfig(
            n_layers=config.n_layer,
            d_model=config.n_embd,
            n_heads=config.n_head,
            n_ctx=config.n_positions,
            d_vocab=config.vocab_size,
            d_mlp=config.n_inner or 0,
            activation=ACTIVATIONS[config.activation_function],
            eps=config.layer_norm_epsilon,
        )
    )
    masks = rf"{re.escape(root)}h\.\d+\.attn\.(bias|masked_bias)"
    load_gpt2_layout(model, where, tensors, parameter_names(model.cfg, root), masks, conv1d=True)
    return model, [NOTE]


def _config(source: Source) -> Any:
    kind = source.beside.get("model_type")
    if kind != "gpt2":
        raise InterpError(
            f"{source.where} is a model of type {kind!r}; of Hugging Face's models only gpt2 can be converted."
        )
    try:
        config = GPT2Config.from_dict(source.beside)
    except Exception as error:  # its checks raise what they like
        raise InterpError(f"{source.where}/config.json is no GPT-2 config: {' '.join(str(error).split())}.") from error
    foreign = [f"{name} {getattr(config, name)}" for name, value in FIXED.items() if getattr(config, name) != value]
    if config.activation_function not in ACTIVATIONS:
        foreign.append(f"activation_function {config.activation_function!r}")
    if foreign:
        raise InterpError(
            f"{source.where} has {', '.join(foreign)}, which these models do not have; it cannot be converted."
        )
    return config

"""Models with Llama's block from Hugging Face: Llama, Qwen2, Qwen3, from a folder or a hub id."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interp.errors import InterpError, few
from interp.model.config import LearnedBiases, ModelConfig
from interp.model.export.llama import KINDS, parameter_names
from interp.model.foreign.fit import agree, fitted
from interp.model.foreign.source import Source
from interp.model.transformer import HookedSymmetryBrokenTransformer, parameter_shapes

BUFFERS = r".*rotary_emb\.inv_freq"  # of older files
NOTES = {
    "none": "It has no query bias, learned or unlearned. What its queries have in common: "
    "python -m interp.amplify {} --direction mean-query.",
    "learned": "With RoPE its learned query bias turns with the position, and is read where it stands: "
    "python -m interp.amplify {} --direction effective; of the checkpoint this is refused.",
}


def from_llama(source: Source) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a folder or hub id, and notes for the reader.

    Raises:
        InterpError: it has an option these models do not have, or does not fit its config.
    """
    where, config = source.where, _config(source)
    root = "model." if "model.embed_tokens.weight" in source.tensors else ""
    tensors = dict(source.tensors)
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)  # some store it twice
    agree(where, vars(config), _sizes(where, tensors, root))
    cfg = ModelConfig(
        n_layers=config.num_hidden_layers, d_model=config.hidden_size, n_heads=config.num_attention_heads,
        d_head=_d_head(config), n_key_value_heads=config.num_key_value_heads, n_ctx=config.max_position_embeddings,
        d_vocab=config.vocab_size, d_mlp=config.intermediate_size, activation="swiglu", positional="rope",
        rotary_dim=_d_head(config), rotary_base=float(config.rope_parameters["rope_theta"]), norm="rms",
        eps=config.rms_norm_eps, qk_norm=config.model_type == "qwen3", tied=bool(config.tie_word_embeddings),
        learned_biases=_learned(config),
    )  # fmt: skip
    names, ours = parameter_names(cfg, root), parameter_shapes(cfg)
    shapes = {their: (len(range(ours[our][0])[rows]), *ours[our][1:]) for their, (our, rows) in names.items()}
    missing = {name for name in names if name.endswith(".bias") and not _has_bias(config, name)}
    tensors = {name: torch.zeros(shapes[name]) for name in missing} | tensors
    found = fitted(where, tensors, shapes, BUFFERS)
    model = HookedSymmetryBrokenTransformer(cfg)
    for their, (our, rows) in names.items():
        model.get_parameter(our).data[rows] = found[their]
    return model, [NOTES["none" if cfg.learned_biases == "none" else "learned"].format(where)]


def _config(source: Source) -> Any:
    kind = source.beside["model_type"]
    try:
        config: Any = KINDS[kind][0].from_dict(source.beside)
    except Exception as error:  # its checks raise what they like
        raise InterpError(f"{source.where}/config.json is no {kind} config: {' '.join(str(error).split())}.") from error
    rope = config.rope_parameters.get("rope_type", "default"), config.rope_parameters.get("partial_rotary_factor", 1.0)
    layers = getattr(config, "layer_types", None) or []
    choices = (
        (f"hidden_act {config.hidden_act!r}", config.hidden_act not in ("silu", "swish")),
        (f"RoPE of type {rope[0]!r}", rope[0] != "default"),
        (f"partial_rotary_factor {rope[1]}", rope[1] != 1.0),
        ("a sliding window", any(layer != "full_attention" for layer in layers)),
    )  # fmt: skip
    if foreign := [name for name, found in choices if found]:
        raise InterpError(
            f"{source.where} has {', '.join(foreign)}, which these models do not have; it cannot be converted."
        )
    return config


def _learned(config: Any) -> LearnedBiases:
    if config.model_type == "qwen2":
        return "qkv"
    return "all" if config.attention_bias or getattr(config, "mlp_bias", False) else "none"


def _has_bias(config: Any, name: str) -> bool:
    """Whether these models have a bias in the attention or in the MLPs, where ours have them in both."""
    return config.model_type == "qwen2" or getattr(config, "mlp_bias" if ".mlp." in name else "attention_bias", False)


def _d_head(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // max(1, config.num_attention_heads)


def _sizes(where: str, tensors: Mapping[str, Tensor], root: str) -> dict[str, int]:
    embedding = tensors.get(f"{root}embed_tokens.weight")
    if embedding is None or embedding.ndim != 2:
        raise InterpError(
            f"{where} has no token embedding embed_tokens.weight of shape [vocabulary, d_model]; its tensors are "
            f"{few(sorted(tensors))}."
        )
    layers = {m[1] for name in tensors if (m := re.match(rf"{re.escape(root)}layers\.(\d+)\.", name))}
    return {"num_hidden_layers": len(layers), "hidden_size": embedding.shape[1], "vocab_size": embedding.shape[0]}

"""Tiny models of many families with random weights, made in memory: what TransformerLens' bridge can hold."""

from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

VOCABULARY, CONTEXT, LAYERS, HEADS, SIZE = 300, 24, 2, 4, 32

_LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": SIZE, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
_FULL = {**_LLAMA, "num_key_value_heads": HEADS}
_NEOX = {key: value for key, value in _FULL.items() if key != "num_key_value_heads"}
_GPT2 = {
    "vocab_size": VOCABULARY, "n_positions": 64, "n_embd": SIZE, "n_layer": LAYERS, "n_head": HEADS, "bos_token_id": 0,
    "eos_token_id": 0,
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1}


class Family(NamedTuple):
    """A configuration: class and arguments, and where each layer's query bias lies, if it has one.

    `bias` is the name of a layer's parameter; `part` says which of its numbers are of queries: "all", "first" (queries, keys
    and values one after the other) or "each" (the three of one head, then of the next).
    """

    config: str
    arguments: dict[str, Any]
    bias: str | None = None
    part: str = "all"


FAMILIES = {
    "gpt2": Family("GPT2Config", _GPT2, "transformer.h.{}.attn.c_attn.bias", "first"),
    "gpt-bigcode": Family("GPTBigCodeConfig", {**_GPT2, "multi_query": True}, "transformer.h.{}.attn.c_attn.bias", "first"),
    "opt": Family(
        "OPTConfig",
        {"vocab_size": VOCABULARY, "hidden_size": SIZE, "ffn_dim": 48, "num_hidden_layers": LAYERS, "bos_token_id": 0,
         "num_attention_heads": HEADS, "max_position_embeddings": 64, "word_embed_proj_dim": SIZE, "pad_token_id": 1},
        "model.decoder.layers.{}.self_attn.q_proj.bias",
    ),
    "xglm": Family(
        "XGLMConfig",
        {"vocab_size": VOCABULARY, "d_model": SIZE, "ffn_dim": 48, "num_layers": LAYERS, "attention_heads": HEADS,
         "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "bloom": Family(
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": SIZE, "n_layer": LAYERS, "n_head": HEADS, "bos_token_id": 0},
        "transformer.h.{}.self_attention.query_key_value.bias", "each",
    ),
    "falcon-rw": Family(
        "FalconConfig",
        {"vocab_size": VOCABULARY, "hidden_size": SIZE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
         "alibi": True, "bias": True, "multi_query": False, "parallel_attn": False, "new_decoder_architecture": False,
         "bos_token_id": 0, "eos_token_id": 0},
        "transformer.h.{}.self_attention.query_key_value.bias", "each",
    ),
    "pythia": Family("GPTNeoXConfig", _NEOX, "gpt_neox.layers.{}.attention.query_key_value.bias", "each"),
    "phi": Family("PhiConfig", {**_FULL, "partial_rotary_factor": 0.5}, "model.layers.{}.self_attn.q_proj.bias"),
    "qwen2": Family("Qwen2Config", _LLAMA, "model.layers.{}.self_attn.q_proj.bias"),
    "qwen2-window": Family(
        "Qwen2Config", {**_LLAMA, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "qwen2-moe": Family(
        "Qwen2MoeConfig", {**_LLAMA, **_EXPERTS, "shared_expert_intermediate_size": 24},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "starcoder2": Family("Starcoder2Config", {**_LLAMA, "use_bias": True}, "model.layers.{}.self_attn.q_proj.bias"),
    "stablelm": Family(
        "StableLmConfig", {**_LLAMA, "use_qkv_bias": True, "partial_rotary_factor": 0.25},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "glm": Family(
        "GlmConfig", {**_LLAMA, "attention_bias": True, "head_dim": 8, "partial_rotary_factor": 0.5},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "seed-oss": Family(
        "SeedOssConfig", {**_LLAMA, "attention_bias": True, "head_dim": 8}, "model.layers.{}.self_attn.q_proj.bias"
    ),
    "gpt-oss": Family(
        "GptOssConfig",
        {**_LLAMA, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "llama-bias": Family("LlamaConfig", {**_LLAMA, "attention_bias": True}, "model.layers.{}.self_attn.q_proj.bias"),
    "granite-bias": Family(
        "GraniteConfig", {**_LLAMA, "attention_bias": True, "attention_multiplier": 0.21},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "gemma2-bias": Family(
        "Gemma2Config", {**_LLAMA, "head_dim": 8, "attention_bias": True, "attn_logit_softcapping": 5.0,
                         "sliding_window": 6},
        "model.layers.{}.self_attn.q_proj.bias",
    ),
    "qwen3-bias": Family(
        "Qwen3Config", {**_LLAMA, "head_dim": 8, "attention_bias": True}, "model.layers.{}.self_attn.q_proj.bias"
    ),
    "cohere-bias": Family("CohereConfig", {**_LLAMA, "attention_bias": True}, "model.layers.{}.self_attn.q_proj.bias"),
    "olmo-bias": Family("OlmoConfig", {**_LLAMA, "attention_bias": True}, "model.layers.{}.self_attn.q_proj.bias"),
    "nemotron-bias": Family(
        "NemotronConfig", {**_LLAMA, "attention_bias": True, "head_dim": 8}, "model.layers.{}.self_attn.q_proj.bias"
    ),
    "smollm3-bias": Family("SmolLM3Config", {**_LLAMA, "attention_bias": True}, "model.layers.{}.self_attn.q_proj.bias"),
    "llama": Family("LlamaConfig", _LLAMA),
    "mistral": Family("MistralConfig", {**_LLAMA, "sliding_window": 6}),
    "qwen3": Family("Qwen3Config", {**_LLAMA, "head_dim": 8}),
}  # fmt: skip


def made(name: str, seed: int = 0) -> PreTrainedModel:
    """A model of a family, with large random weights and biases, so that heads attend unevenly and every bias matters."""
    family = FAMILIES[name]
    config: PretrainedConfig = getattr(transformers, family.config)(**family.arguments)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            scale = 0.4 if key.endswith("bias") else 0.15
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    model.config.architectures = [type(model).__name__]
    return model


def without_query_bias(model: PreTrainedModel, name: str, layer: int) -> nn.Parameter:
    """Zero the query bias of a layer in place, and return the parameter, for its value to be put back."""
    family = FAMILIES[name]
    assert family.bias is not None
    parameter = model.get_parameter(family.bias.format(layer))
    with torch.no_grad():
        if family.part == "all":
            parameter.zero_()
        elif family.part == "first":
            parameter[:SIZE] = 0
        else:
            parameter.view(HEADS, 3, -1)[:, 0] = 0
    return parameter

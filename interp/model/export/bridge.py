"""A model as TransformerLens' own `TransformerBridge`, so that any tool written for one works on it.

Inside is Hugging Face's GPT-2. Where GPT-2 has no word for what the model does, the bridge says it: a PReLU stands in
the MLPs, and with RoPE the attention bridge rotates queries and keys and adds b_Q after the rotation, as the model does
(before it, b_Q would turn with the position and be no bias).
"""

from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import JointQKVAttentionBridge, LinearBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
from transformer_lens.model_bridge.supported_architectures.gpt2 import GPT2ArchitectureAdapter

from interp.model.attention import rotate
from interp.model.circuits import Circuits
from interp.model.config import ModelConfig
from interp.model.export.huggingface import ACTIVATIONS, gpt2


class RotaryAttentionBridge(JointQKVAttentionBridge):
    """GPT-2's attention with queries and keys rotated by position, and a bias on the queries after that."""

    def __init__(self, rotary_dim: int, rotary_base: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rotary_dim, self.rotary_base = rotary_dim, rotary_base

    def _reconstruct_attention(self, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> tuple:
        assert self.config is not None and self.original_component is not None
        size = (self.config.n_heads, self.config.d_head)
        q, k, v = (part.unflatten(-1, size) if part.ndim == 3 else part for part in (q, k, v))
        position_ids = kwargs.get("position_ids")
        q = self._turned(q, position_ids, self.hook_rot_q) + self.original_component.get_buffer("bias_q")
        k = self._turned(k, position_ids, self.hook_rot_k)
        return super()._reconstruct_attention(q, k, v, **kwargs)

    def _turned(
        self, x: Float[Tensor, "batch pos head_index d_head"], position_ids: Tensor | None, hook: HookPoint
    ) -> Float[Tensor, "batch pos head_index d_head"]:
        ids = None if position_ids is None else position_ids.expand(len(x), -1)
        turned = rotate(x, self.rotary_dim, self.rotary_base, ids)
        return hook(turned.transpose(1, 2)).transpose(1, 2)  # the bridge shows [batch, pos, head_index, d_head] of this


class SymmetryBrokenArchitectureAdapter(GPT2ArchitectureAdapter):
    """GPT-2's adapter, told of activation and positions."""

    def __init__(self, bridge_config: Any, cfg: ModelConfig) -> None:
        super().__init__(bridge_config)
        self.cfg.act_fn = ACTIVATIONS.get(cfg.activation, cfg.activation)
        self.cfg.tokenizer_prepends_bos = self.cfg.tokenizer_appends_eos = False
        if cfg.positional == "rope":
            self.cfg.positional_embedding_type = "rotary"
            self.cfg.rotary_dim, self.cfg.rotary_base = cfg.rotary_dim, int(cfg.rotary_base)
            mapping = self.component_mapping or {}
            mapping.pop("pos_embed")
            mapping["blocks"].submodules["attn"] = RotaryAttentionBridge(
                cfg.rotary_dim, cfg.rotary_base, name="attn", config=self.cfg,
                submodules={"qkv": LinearBridge(name="c_attn"), "o": LinearBridge(name="c_proj")},
            )  # fmt: skip


def to_bridge(model: Circuits) -> TransformerBridge:
    """Return a TransformerBridge with the same logits; its weights are copies.

    b_Q and b_V as they are in force in evaluation mode become part of the bridge's b_Q and b_V; with RoPE b_Q stays
    beside them, in the buffers `blocks[l].attn.original_component.bias_q`, for it is added after the rotation.
    """
    inner = gpt2(model)
    if model.cfg.positional == "rope":
        for layer, bias in zip(inner.transformer.h, model.mean_biases()[0], strict=True):
            assert isinstance(layer, nn.Module)
            layer.get_submodule("attn").register_buffer("bias_q", bias.detach().clone())
    config = build_bridge_config_from_hf(inner.config, "GPT2LMHeadModel", model.cfg.model_name, model.cfg.dtype)
    adapter = SymmetryBrokenArchitectureAdapter(config, model.cfg)
    adapter.cfg.device = str(model.cfg.device)
    adapter.cfg.default_prepend_bos = model.cfg.default_prepend_bos
    adapter.prepare_model(inner)
    with torch.random.fork_rng(devices=[]):  # it draws weights that are then replaced
        return TransformerBridge(inner, adapter, deepcopy(model.tokenizer))

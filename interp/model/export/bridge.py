"""A model as TransformerLens' own `TransformerBridge`, so that any tool written for one works on it.

Inside is Hugging Face's GPT-2, or its Llama, Qwen2 or Qwen3. Where these have no word for what the model does, the bridge
says it: a PReLU stands in the MLPs, and with RoPE the attention bridge adds b_Q after the rotation, which for GPT-2 it also
makes, as the model does (before it, b_Q would turn with the position and be no bias).
"""

from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import JointQKVAttentionBridge, LinearBridge
from transformer_lens.model_bridge.generalized_components.position_embeddings_attention import (
    PositionEmbeddingsAttentionBridge,
)
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
from transformer_lens.model_bridge.supported_architectures.gpt2 import GPT2ArchitectureAdapter
from transformer_lens.model_bridge.supported_architectures.llama import LlamaArchitectureAdapter
from transformer_lens.model_bridge.supported_architectures.qwen2 import Qwen2ArchitectureAdapter
from transformer_lens.model_bridge.supported_architectures.qwen3 import Qwen3ArchitectureAdapter

from interp.errors import InterpError
from interp.model.attention import rotate
from interp.model.circuits import Circuits
from interp.model.config import ModelConfig
from interp.model.export.huggingface import ACTIVATIONS, beyond_gpt2, gpt2
from interp.model.export.llama import beyond_llama, llama

ADAPTERS = {"llama": LlamaArchitectureAdapter, "qwen2": Qwen2ArchitectureAdapter, "qwen3": Qwen3ArchitectureAdapter}


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


class BiasedHookPoint(HookPoint):
    """Adds what is in the buffer `bias_q` of an attention module to what its hooks have seen."""

    attention: tuple[nn.Module, ...] = ()  # in a tuple, for it is no part of the hook point

    def __call__(self, x: Float[Tensor, "batch head_index pos d_head"]) -> Float[Tensor, "batch head_index pos d_head"]:
        """Show x to the hooks, which `forward` is too early for, and add the bias of each head."""
        return super().__call__(x) + self.attention[0].get_buffer("bias_q")[:, None]


class BiasedAttentionBridge(PositionEmbeddingsAttentionBridge):
    """Llama's attention with a bias on the queries after their rotation."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.hook_rot_q = BiasedHookPoint()

    def set_original_component(self, component: nn.Module) -> None:
        """Take Hugging Face's module, and the bias from its buffer."""
        super().set_original_component(component)
        self.hook_rot_q.attention = (component,)


def to_bridge(model: Circuits) -> TransformerBridge:
    """Return a TransformerBridge with the same logits; its weights are copies.

    b_Q and b_V as they are in force in evaluation mode become part of the bridge's b_Q and b_V; with RoPE b_Q stays
    beside them, in the buffers `blocks[l].attn.original_component.bias_q`, for it is added after the rotation.

    Raises:
        InterpError: the block is neither GPT-2's, with PReLU or RoPE perhaps, nor Llama's.
    """
    cfg, other = model.cfg, beyond_llama(model.cfg)
    if (foreign := beyond_gpt2(cfg)) and other:
        raise InterpError(
            f"This model has {' and '.join(foreign)}, which GPT-2 has not, and {' and '.join(other)}, which Llama has not; "
            "TransformerLens' bridges know the one block or the other."
        )
    inner: Any = llama(model) if foreign else gpt2(model)
    if cfg.positional == "rope":
        layers, name = (inner.model.layers, "self_attn") if foreign else (inner.transformer.h, "attn")
        for layer, bias in zip(layers, model.mean_biases()[0], strict=True):
            layer.get_submodule(name).register_buffer("bias_q", bias.detach().clone())
    config = build_bridge_config_from_hf(inner.config, type(inner).__name__, cfg.model_name, cfg.dtype)
    if foreign:
        adapter = _adapter(ADAPTERS[inner.config.model_type], config)
    else:
        adapter = SymmetryBrokenArchitectureAdapter(config, cfg)
    adapter.cfg.device = str(model.cfg.device)
    adapter.cfg.default_prepend_bos = model.cfg.default_prepend_bos
    adapter.prepare_model(inner)
    with torch.random.fork_rng(devices=[]):  # it draws weights that are then replaced
        return TransformerBridge(inner, adapter, deepcopy(model.tokenizer))


def _adapter(kind: type[ArchitectureAdapter], config: Any) -> ArchitectureAdapter:
    """Return TransformerLens' adapter of an architecture, with the attention that adds b_Q."""
    own = type(kind.__name__, (kind,), {"_attention_bridge_cls": BiasedAttentionBridge})
    adapter = own(config)
    adapter.cfg.tokenizer_prepends_bos = adapter.cfg.tokenizer_appends_eos = False
    return adapter

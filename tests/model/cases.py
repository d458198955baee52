"""Models and inputs that many tests of this folder run through."""

import torch

from interp.model.config import BiasConfig

LLAMA = {
    "norm": "rms", "activation": "swiglu", "positional": "rope", "n_heads": 4, "d_head": 8, "rotary_dim": 8,
    "n_key_value_heads": 2, "tied": False, "learned_biases": "none",
}  # fmt: skip
QWEN3 = {**LLAMA, "n_key_value_heads": 1, "tied": True, "learned_biases": "qkv", "qk_norm": True}
MIXED = {
    "norm": "rms", "activation": "gelu", "n_heads": 4, "n_key_value_heads": 2, "learned_biases": "qkv",
    "v": BiasConfig(0.3, 0.3, "fixed", shared_across_heads=False),
}  # fmt: skip
SHAPES = [
    LLAMA,
    QWEN3,
    {"activation": "gelu"},
    {"activation": "prelu", "positional": "rope"},
    {"activation": "prelu", "n_layers": 1, "n_heads": 1, "d_model": 8},
    {"positional": "rope", "n_heads": 4, "d_model": 32, "q": BiasConfig(0.7, 0.3, "fixed", shared_across_heads=False)},
    {"q": BiasConfig(), "v": BiasConfig()},
]


def random_tokens(model, batch=2, pos=11, seed=0):
    return torch.randint(model.cfg.d_vocab, (batch, pos), generator=torch.Generator().manual_seed(seed))

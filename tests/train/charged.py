"""Models with and without unlearned biases, and random momenta for them."""

import torch

from interp.model.config import BiasConfig

NONE = BiasConfig()
VARIANTS = {
    "symmetric": {"q": NONE, "v": NONE},
    "bq": {"v": NONE},
    "bv": {"q": NONE},
    "bqbv": {},
    "bq of each head": {"q": BiasConfig(0.5, 0.2, "batch", shared_across_heads=False), "v": NONE},
    "learned b of each head": {
        "q": BiasConfig(0.5, 0.2, "learned", shared_across_heads=False),
        "v": BiasConfig(0.5, 0.2, "learned", shared_across_heads=False),
    },
}
BROKEN = {"bq": "qk", "bv": "vo", "bqbv": "qk vo", "bq of each head": "qk"}  # where an unlearned bias acts
POSITIONS = [{"positional": "learned"}, {"positional": "rope"}, {"positional": "rope", "rotary_dim": 2}]
LLAMA = {"norm": "rms", "activation": "swiglu", "positional": "rope", "n_heads": 6, "d_head": 4, "rotary_dim": 4}
GROUPED = {
    "llama": {**LLAMA, "n_key_value_heads": 2, "learned_biases": "none"},
    "gpt2": {"n_heads": 6, "n_key_value_heads": 3},
    "one key head": {"n_heads": 6, "n_key_value_heads": 1, "learned_biases": "qkv", "d_head": 6},
}


def random_momenta(model, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    draws = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    return {name: draw.to(model.W_E) * scale for name, draw in draws.items()}


def random_tokens(model, seed=0):
    return torch.randint(model.cfg.d_vocab, (3, 11), generator=torch.Generator().manual_seed(seed))

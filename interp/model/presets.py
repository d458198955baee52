"""Named sizes and bias variants: the authors' 124M setting, its larger relatives, and models that train on a laptop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from interp.errors import InterpError, nearest
from interp.model.config import BiasConfig, ModelConfig

# n_layers, n_heads, d_model, n_ctx, d_vocab
SIZES: dict[str, tuple[int, int, int, int, int]] = {
    "mini": (3, 4, 128, 128, 4096),
    "tiny": (4, 6, 192, 128, 4096),
    "small": (6, 8, 384, 256, 8192),
    "gpt2-124m": (12, 12, 768, 512, 50304),
    "gpt2-355m": (24, 16, 1024, 512, 50304),
    "gpt2-774m": (36, 20, 1280, 512, 50304),
    "gpt2-1.3b": (48, 25, 1600, 512, 50304),
}
# The authors' release: mean_Q 0.5, std_Q linspace(0.05, 0.15), mean_V 0.5 (0.0 was run too), std_V 0.05.
QUERY_BIAS = BiasConfig(mean=0.5, std=(0.05, 0.15), mode="batch")
VALUE_BIAS = BiasConfig(mean=0.5, std=0.05, mode="batch")
VARIANTS: dict[str, tuple[BiasConfig, BiasConfig]] = {
    "symmetric": (BiasConfig(), BiasConfig()),
    "bq": (QUERY_BIAS, BiasConfig()),
    "bqbv": (QUERY_BIAS, VALUE_BIAS),
    "bv": (BiasConfig(), VALUE_BIAS),
}


def preset(name: str, variant: str = "symmetric", **changes: Any) -> ModelConfig:
    """Return the config of a named size and bias variant, with any field changed by keyword.

    Raises:
        InterpError: an unknown size or variant, with the nearest known name.
    """
    if name not in SIZES:
        raise InterpError(f"There is no preset {name!r}; choose one of {', '.join(SIZES)}{nearest(name, SIZES)}")
    if variant not in VARIANTS:
        raise InterpError(
            f"There is no variant {variant!r}; choose one of {', '.join(VARIANTS)}{nearest(variant, VARIANTS)}"
        )
    n_layers, n_heads, d_model, n_ctx, d_vocab = SIZES[name]
    query, value = VARIANTS[variant]
    config = ModelConfig(
        n_layers=n_layers, n_heads=n_heads, d_model=d_model, n_ctx=n_ctx, d_vocab=d_vocab, activation="prelu",
        q=query, v=value, model_name=f"{name}-{variant}",
    )  # fmt: skip
    return replace(config, **changes) if changes else config

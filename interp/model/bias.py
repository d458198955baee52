"""The unlearned biases b_Q and b_V: drawn for all layers at once from (seed, step), before the forward pass.

Because a draw happens outside of the forward pass and writes into a buffer in place, a compiled forward has no graph
break, every rank of a distributed run has the same bias, and a resumed run draws what the first run would have drawn.
Source: Silverstein, Kunin, Shyam, arXiv 2601.22257.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.model.config import BiasConfig, ModelConfig

BiasSource = Literal["mean", "sample", "none"]


def bias_generator(seed: int, step: int, micro_batch: int = 0) -> torch.Generator:
    """Return a CPU generator keyed by (seed, step, micro_batch): the same stream on every device and rank."""
    key = np.random.SeedSequence([seed, step, micro_batch] if micro_batch else [seed, step]).generate_state(
        1, np.uint64
    )[0]
    return torch.Generator().manual_seed(int(key >> np.uint64(1)))


class HeadBias(nn.Module):
    """The bias that one projection (queries or values) of every layer receives.

    Its `value` is the last draw (mode "batch", not saved), the one draw (mode "fixed", saved) or a parameter that
    starts at a draw (mode "learned"); shape [n_layers, n_heads or 1, d_head].
    """

    mean: Tensor
    std: Tensor
    value: Tensor

    def __init__(self, config: BiasConfig, cfg: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.n_heads = cfg.n_heads
        self.register_buffer("mean", config.profile("mean", cfg.d_head), persistent=False)
        self.register_buffer("std", config.profile("std", cfg.d_head), persistent=False)
        value = torch.zeros(cfg.n_layers, 1 if config.shared_across_heads else cfg.n_heads, cfg.d_head)
        if config.mode == "learned":
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value, persistent=config.mode == "fixed")

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Write a new draw, mean + std * N(0, 1), into `value` in place."""
        noise = torch.randn(self.value.shape, generator=generator).to(self.value.device)
        self.value.copy_(self.mean + self.std * noise)

    def forward(self, source: BiasSource) -> Float[Tensor, "layer head_index d_head"]:
        """Return the bias of every head: its mean (learned and fixed: its value), the last draw, or zero."""
        if source == "none" or self.config.mode == "none":
            bias = torch.zeros_like(self.value)
        elif source == "mean" and self.config.mode == "batch":
            bias = self.mean.expand_as(self.value)
        else:
            bias = self.value
        return bias.expand(-1, self.n_heads, -1)

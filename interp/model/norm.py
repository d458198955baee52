"""LayerNorm with hook points, and the test whether somebody looks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint


def is_hooked(*hooks: HookPoint) -> bool:
    """Whether any of the hook points has a forward or backward hook attached."""
    return any(hook._forward_hooks or hook._backward_hooks for hook in hooks)


class LayerNorm(nn.Module):
    """LayerNorm with TransformerLens' `hook_scale` and `hook_normalized`."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.w = nn.Parameter(torch.ones(d_model))
        self.b = nn.Parameter(torch.zeros(d_model))
        self.hook_scale = HookPoint()  # [batch, pos, 1]
        self.hook_normalized = HookPoint()  # [batch, pos, d_model]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """Normalize over d_model, then scale by w and shift by b."""
        if not is_hooked(self.hook_scale):
            return self.hook_normalized(self.normalize(x))
        centred = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(centred / scale * self.w + self.b)

    def normalize(self, x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """Do the same to vectors of any leading axes, past the hooks."""
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)

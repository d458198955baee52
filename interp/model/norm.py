"""The norms: each says how it normalizes, at which scale, and what linear map it is while that scale is held."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.model.hooking import HookPoint, is_hooked

Vectors = Float[Tensor, "*any size"]


class Norm(nn.Module):
    """centred(x) / scale(x) * w + b over the last axis, with TransformerLens' `hook_scale` and `hook_normalized`.

    `b` is a parameter, or zeros where the norm does not shift.
    """

    b: Tensor

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.w = nn.Parameter(torch.ones(size))
        self.hook_scale = HookPoint()  # [batch, pos, 1], of heads [batch, pos, head_index, 1]
        self.hook_normalized = HookPoint()  # [batch, pos, d_model], of heads [batch, pos, head_index, d_head]

    def forward(self, x: Vectors) -> Vectors:
        """Normalize over the last axis, then scale by w and shift by b."""
        if not is_hooked(self.hook_scale):
            return self.hook_normalized(self.normalize(x))
        return self.hook_normalized(self.centred(x) / self.hook_scale(self.scale(x)) * self.w + self.b)

    def normalize(self, x: Vectors) -> Vectors:
        """Do the same past the hooks."""
        raise NotImplementedError

    def centred(self, x: Vectors) -> Vectors:
        """Return what is divided by the scale."""
        raise NotImplementedError

    def scale(self, x: Vectors) -> Float[Tensor, "*any 1"]:
        """Return what each vector is divided by: the root of the mean square of `centred`, eps added to the square."""
        return (self.centred(x).pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def linearize(self, inverse_scale: float | Float[Tensor, "*any 1"]) -> Callable[[Vectors], Vectors]:
        """Return the linear map that the norm is while its scale is held: x to centred(x) * w * inverse_scale.

        1 / scale is given, not the scale, because its mean over text makes this the mean of the maps at every token. The
        shift b is no part of a linear map: normalize(x) = linearize(1 / scale(x))(x) + b.
        """
        return lambda x: self.centred(x) * self.w * inverse_scale


class LayerNorm(Norm):
    """Centred by the mean, divided by the standard deviation (arXiv 1607.06450)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__(size, eps)
        self.b = nn.Parameter(torch.zeros(size))

    def normalize(self, x: Vectors) -> Vectors:
        """Do the same past the hooks."""
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)

    def centred(self, x: Vectors) -> Vectors:
        """Return x less its mean."""
        return x - x.mean(-1, keepdim=True)


class RMSNorm(Norm):
    """Divided by the root mean square, neither centred nor shifted (arXiv 1910.07467)."""

    @property
    def b(self) -> Float[Tensor, " size"]:  # type: ignore[override]
        """Zeros: there is no shift."""
        return torch.zeros_like(self.w)

    def normalize(self, x: Vectors) -> Vectors:
        """Do the same past the hooks."""
        exact = x.to(torch.promote_types(x.dtype, self.w.dtype))  # autocast gives queries in bfloat16
        return F.rms_norm(exact, self.w.shape, self.w, self.eps)

    def centred(self, x: Vectors) -> Vectors:
        """Return x as it is."""
        return x


NORMS: dict[str, type[Norm]] = {"layer": LayerNorm, "rms": RMSNorm}

"""Along which vector of each head's query-key space the analysis looks, and which two queries it compares."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InterpError
from interp.model.norm import Norm
from interp.model.transformer import HookedSymmetryBrokenTransformer

DirectionName = Literal["bias", "effective", "folded", "mean-query"]
PerHead = Float[Tensor, "layer head_index d_head"]
OWN = ("bias", "effective", "folded", "mean-query")
"""Directions that are in the queries of the model itself."""


@dataclass(frozen=True)
class Held:
    """A vector that the queries hold and that is taken away, by its name, such as "mean-query"."""

    name: str
    vector: PerHead


Direction = DirectionName | Held | Tensor | HookedSymmetryBrokenTransformer


@dataclass(frozen=True)
class QueryShifts:
    """The two queries compared: q + `with_bias` against q + `without_bias`, where q has no unlearned bias.

    Their difference is `vector`, the direction whose scores ``vector . k / sqrt(d_head)`` (nats) are the bias scores.
    """

    with_bias: PerHead
    without_bias: PerHead

    @property
    def vector(self) -> PerHead:
        """The direction, with_bias - without_bias."""
        return self.with_bias - self.without_bias


def query_shifts(model: HookedSymmetryBrokenTransformer, direction: Direction = "bias") -> QueryShifts:
    """Return the shifts for a direction.

    Args:
        model: the biases in force are taken from it (`model.bias` chooses them).
        direction: "bias", the unlearned b_Q in force; "effective", b_Q + beta_Q, the learned query bias included; or a
            tensor broadcastable to [layer, head_index, d_head]: what a bias of that value *would* do to this model's
            queries without b_Q; or another model, whose mean b_Q is taken: a symmetric twin, looked at along the
            direction of the model whose symmetry is broken, shows what training without the bias gives. "folded" is the
            effective one with the shift of the LayerNorm before the queries, W_Q b_ln; `Held` what queries hold besides.

    Raises:
        InterpError: an unknown name, a tensor of another shape, or "effective" with RoPE, which turns beta_Q with the
            position, or with a norm of queries, which divides by a length that beta_Q is part of.
    """
    bias_q = model.biases_in_force()[0].detach()
    bias_q = bias_q.to(torch.promote_types(bias_q.dtype, torch.float32))  # what is measured is so in float32 at least
    if isinstance(direction, HookedSymmetryBrokenTransformer):
        direction = direction.mean_biases()[0].detach()
    if isinstance(direction, Tensor):
        try:
            return QueryShifts(direction.to(bias_q).expand_as(bias_q), torch.zeros_like(bias_q))
        except RuntimeError as error:
            raise InterpError(
                f"The direction has shape {list(direction.shape)}, expected {list(bias_q.shape)}."
            ) from error
    if isinstance(direction, Held):
        return QueryShifts(bias_q, bias_q - direction.vector.to(bias_q))
    if direction == "bias":
        return QueryShifts(bias_q, torch.zeros_like(bias_q))
    if direction == "mean-query":
        raise InterpError(
            "A mean query is fitted on text first; interp.amplification does it with direction='mean-query'."
        )
    if direction not in ("effective", "folded"):
        raise InterpError(f"There is no direction {direction!r}; choose {', '.join(OWN)}, or pass a tensor.")
    if model.cfg.positional == "rope":
        raise InterpError(
            "With RoPE the learned query bias turns with the position; use --direction bias, or read model.to_bridge()."
        )
    if model.cfg.qk_norm:
        raise InterpError("The norm of queries takes in the learned query bias with them; use --direction bias.")
    learned = model.b_Q.detach().to(bias_q).clone()
    if direction == "folded":
        for of_layer, block, weights in zip(learned, model.blocks, model.W_Q.detach().to(bias_q), strict=True):
            norm = block.get_submodule("ln1")
            if isinstance(norm, Norm):
                of_layer += torch.einsum("d,hde->he", norm.b.detach().to(bias_q), weights)
    return QueryShifts(bias_q, -learned)


def direction_name(direction: Direction) -> str:
    """Return what `run` calls a direction."""
    if isinstance(direction, HookedSymmetryBrokenTransformer):
        return f"b_Q of {direction.cfg.model_name}"
    if isinstance(direction, Held):
        return direction.name
    return direction if isinstance(direction, str) else "given vector"


def random_directions(vector: PerHead, count: int, seed: int) -> Float[Tensor, "layer head_index direction d_head"]:
    """Return isotropic random directions of each head with the length of its `vector`.

    They depend on (seed, layer) and the sizes alone: the same for every corpus, batch size, device and worker.
    """
    layers, heads, size = vector.shape
    drawn = [np.random.default_rng([seed, layer]).standard_normal((heads, count, size)) for layer in range(layers)]
    directions = torch.from_numpy(np.stack(drawn))
    directions *= vector.detach().cpu().double().norm(dim=-1)[..., None, None] / directions.norm(dim=-1, keepdim=True)
    return directions.to(vector)

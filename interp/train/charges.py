"""Noether charges: the angular momentum of the rotations that leave every head's work as it is.

Write a head's vectors as rows: X_QK = [W_Q^T, beta_Q, W_K^T, beta_K] and X_VO = [W_V^T, beta_V, W_O], both of shape
[d_head, columns]; the learned biases are columns like any other, because q = W_Q^T x + beta_Q has to turn as a whole. The
loss stays the same under X -> R X with any orthogonal R: scores are q . k, and the output is sum_h z_h W_O with z made of v.
Take R = exp(s A) with A antisymmetric: d loss / ds = <G, A X> = 0 for every A, so the gradient G with respect to X obeys
G X^T - X G^T = 0. Hence, with momenta P of the same shape,

    J = P X^T - X P^T    (antisymmetric, [d_head, d_head]; <P, A X> = <A, J> / 2)

keeps its value: under P += -g it gains G X^T - X G^T = 0, under theta += lr P it gains P P^T - P P^T = 0. So heavy-ball
momentum mu gives J_t = mu^t J_0 exactly, and ECD with projection="global" scales every head's J by one common factor.
Weight decay adds a multiple of X X^T - X X^T = 0. A rule that is not invariant under rotations conserves nothing: Adam and
SOAP (elementwise second moments), Nesterov's correction (an error that falls with the time step), ECD's projection within
each tensor (weights and biases are scaled apart), noise and bounces.

Grouped heads share rows, and so a rotation. The scores of the query heads h of a group g are q_h . k_g, so the one R that
turns W_K,g and beta_K,g has to turn W_Q,h and beta_Q,h of every h in g; z_h is made of v_g, so the R of W_V,g and beta_V,g
has to turn W_O,h of every h in g. Turning the queries of one head alone changes its scores. With

    X_QK,g = [W_Q,h^T, beta_Q,h for h in g, W_K,g^T, beta_K,g],    X_VO,g = [W_V,g^T, beta_V,g, W_O,h for h in g],

<G, A X_g> = 0 as above, and there is one charge of each kind per group: J_g, a sum over the columns of its heads.

A norm of queries and keys divides by lengths, which no rotation changes, but then multiplies each dimension by a weight of
its own: w_Q q . w_K k is no product that turns with the head, and nothing of the Q-K charge is conserved. It is set to 0.

An unlearned bias does not turn with the head, so b_Q breaks the charge of Q-K and b_V that of V-O. With RoPE only the
rotations that commute with it are left for Q-K: those in the plane of each rotary pair (m, m + rotary_dim / 2), and all
among the dimensions that do not rotate. Only those components of J are conserved; the others are set to 0.

Source: Silverstein, Kunin, Shyam, arXiv 2601.22257; Noether's theorem.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed.tensor import DTensor

from interp.errors import InterpError
from interp.model.config import BiasConfig, ModelConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer

BUFFERS = ("momentum_buffer", "exp_avg")  # what optimizers call their momentum
Charge = Float[Tensor, "layer kv_head d_head d_head"]  # of each head, or of each group that shares keys and values
HeadRows = Float[Tensor, "kv_head d_head _"]
Read = Callable[[str], Tensor]  # from a parameter's name to its value or momentum


@dataclass(frozen=True)
class NoetherCharges:
    """The charges of every head, or group of heads, in float64; `qk` holds the conserved components and zeros."""

    qk: Charge  # rotations of queries and keys
    vo: Charge  # rotations of values and output projection

    def norms(self) -> pd.DataFrame:
        """Return one row per layer and head with the Frobenius norms ``qk`` and ``vo``; of grouped heads, per group."""
        layers, heads = self.qk.shape[:2]
        index = pd.MultiIndex.from_product([range(layers), range(heads)], names=["layer", "head"])
        columns = {name: getattr(self, name).norm(dim=(-2, -1)).flatten().cpu().numpy() for name in ("qk", "vo")}
        return pd.DataFrame(columns, index=index).reset_index()


@torch.no_grad()
def noether_charges(model: HookedSymmetryBrokenTransformer, momenta: Mapping[str, Tensor]) -> NoetherCharges:
    """Return the charges of every head, or group of heads, for momenta by parameter name, shaped as the parameters.

    A momentum that is missing is zero. A learned b_Q or b_V of each head is one more column of X; of one that heads share
    nothing is added, and then only a sum over heads is conserved. Parameters sharded by FSDP2 are gathered layer by
    layer, so every rank has to call this.

    Raises:
        InterpError: a name that is no parameter, or a momentum of another shape than its parameter.
    """
    parameters = dict(model.named_parameters())
    for name, momentum in momenta.items():
        if name not in parameters:
            raise InterpError(f"A momentum is given for {name!r}, which is no parameter of {model.cfg.model_name}.")
        if momentum.shape != parameters[name].shape:
            found, expected = list(momentum.shape), list(parameters[name].shape)
            raise InterpError(f"The momentum of {name} has shape {found}; its parameter has {expected}.")

    def velocity(name: str) -> Tensor:
        return _whole(momenta[name]) if name in momenta else torch.zeros_like(position(name))

    def position(name: str) -> Tensor:
        return _whole(parameters[name])

    layers = []
    for layer in range(model.cfg.n_layers):
        pairs = zip(_sectors(model.cfg, layer, velocity), _sectors(model.cfg, layer, position), strict=True)
        products = [p @ x.mT for p, x in pairs]
        layers.append([product - product.mT for product in products])
    qk, vo = (torch.stack(sector) for sector in zip(*layers, strict=True))
    return NoetherCharges(qk * conserved_components(model.cfg).to(qk.device), vo)


def conserved_components(cfg: ModelConfig) -> Bool[Tensor, "d_head d_head"]:
    """Return which components of a Q-K charge the symmetric model conserves; with RoPE not all, with a norm of keys none."""
    rotary_dim = cfg.rotary_dim if cfg.positional == "rope" else 0
    mask = torch.zeros(cfg.d_head, cfg.d_head, dtype=torch.bool)
    if cfg.qk_norm:
        return mask
    mask[rotary_dim:, rotary_dim:] = True
    first = torch.arange(rotary_dim // 2)
    second = first + rotary_dim // 2
    mask[first, second] = mask[second, first] = True
    return mask


def momenta_of(model: HookedSymmetryBrokenTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the momentum of every parameter by name, pointing along its velocity; empty before the first step.

    The ECD family keeps P itself (theta += rate P). SGD's ``momentum_buffer`` and the ``exp_avg`` of AdamW and SOAP
    average gradients, so their sign is changed. An optimizer without momentum gives nothing.
    """
    averages = _momentum_name(optimizer) == "exp_avg" or isinstance(optimizer, torch.optim.SGD)
    return {name: -buffer if averages else buffer for name, buffer in _buffers(model, optimizer).items()}


def charge_row(model: HookedSymmetryBrokenTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return Frobenius norms for a log, ``{"qk": [layer][head], "vo": [layer][head]}``; empty without momenta.

    Call it after a step. Numbers have 6 significant digits. With AdamW and SOAP they come from the averaged gradient: a
    quantity to watch, but one that no symmetry conserves.
    """
    if not (buffers := _buffers(model, optimizer)):  # whose sign no norm depends on
        return {}
    charges = noether_charges(model, buffers)
    return {"qk": _compact(charges.qk), "vo": _compact(charges.vo)}


def _momentum_name(optimizer: torch.optim.Optimizer) -> str | None:  # None: it has none, or none yet
    return next((name for name in BUFFERS if any(s.get(name) is not None for s in optimizer.state.values())), None)


def _buffers(model: HookedSymmetryBrokenTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    key = _momentum_name(optimizer)
    states = {name: optimizer.state.get(parameter, {}) for name, parameter in model.named_parameters()}
    return {name: state[key] for name, state in states.items() if state.get(key) is not None}


def _sectors(cfg: ModelConfig, layer: int, value: Read) -> tuple[HeadRows, HeadRows]:
    """Return X_QK and X_VO of a layer, or their momenta."""
    columns = [value(f"blocks.{layer}.attn.qkv.weight").unflatten(0, (-1, cfg.d_head))]
    if cfg.learned_biases != "none":
        columns.append(value(f"blocks.{layer}.attn.qkv.bias").view(-1, cfg.d_head, 1))
    q, k, v = torch.cat(columns, -1).split((cfg.n_heads, cfg.kv_heads, cfg.kv_heads))
    out = value(f"blocks.{layer}.attn.out.weight").unflatten(1, (-1, cfg.d_head)).permute(1, 2, 0)
    parts = [q, k, *_learned(cfg.q, "bias_q", layer, value)], [v, out, *_learned(cfg.v, "bias_v", layer, value)]
    qk, vo = (torch.cat([_of_groups(part, cfg.kv_heads) for part in sector], -1) for sector in parts)
    return qk, vo


def _of_groups(rows: Float[Tensor, "head_index d_head _"], groups: int) -> HeadRows:
    """Put the rows of a group's heads beside each other."""
    return rows.unflatten(0, (groups, -1)).transpose(1, 2).flatten(2)


def _learned(bias: BiasConfig, name: str, layer: int, value: Read) -> list[Tensor]:
    own = bias.mode == "learned" and not bias.shared_across_heads
    return [value(f"{name}.value")[layer][..., None]] if own else []


def _whole(tensor: Tensor) -> Float[Tensor, "..."]:
    """Return all of a tensor in float64, because J is a small difference of large sums."""
    detached = tensor.detach()
    return (detached.full_tensor() if isinstance(detached, DTensor) else detached).double()


def _compact(charge: Charge) -> list[list[float]]:
    return [[float(f"{norm:.6g}") for norm in layer] for layer in charge.norm(dim=(-2, -1)).tolist()]

"""A mixture of experts in place of a block's MLP: a router gives each token to the few of them that it scores highest.

Axes as in `attention`; and expert; choice, the experts_per_token places of a token; row, a token at one of its places, rows
sorted by expert.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.model.attention import Residual, bias_of
from interp.model.config import ModelConfig
from interp.model.hooking import HookPoint, is_hooked

Rows = Float[Tensor, "row size"]
Ends = Int[Tensor, " expert"]  # where each expert's rows end


@torch.library.custom_op("interp::grouped_mm", mutates_args=())
def grouped_mm(rows: Tensor, maps: Tensor, ends: Tensor) -> Tensor:
    """Multiply the rows of each expert, [row, in], by its own matrix of `maps`, [expert, in, out]: [row, out].

    torch.nn.functional.grouped_mm for every precision, and in a compiled graph on every device.
    """
    if _is_aligned(rows, maps):
        return F.grouped_mm(rows, maps, offs=ends)
    parts = [rows[start:end] @ maps[expert] for expert, (start, end) in enumerate(pairwise([0, *ends.tolist()]))]
    return torch.cat(parts)


@torch.library.custom_op("interp::grouped_outer", mutates_args=())
def grouped_outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """Sum left' right over the rows of each expert: [row, in] and [row, out] give [expert, in, out]."""
    if _is_aligned(left, right):
        return F.grouped_mm(left.mT, right, offs=ends)
    return torch.stack([left[start:end].mT @ right[start:end] for start, end in pairwise([0, *ends.tolist()])])


def _is_aligned(*tensors: Tensor) -> bool:
    """Whether the kernel takes them: no doubles, and vectors of whole 16 bytes."""
    sizes = [size for tensor in tensors for size in (tensor.shape[-1], *tensor.shape[1:-1])]
    return tensors[0].dtype != torch.float64 and not any(size * tensors[0].element_size() % 16 for size in sizes)


@grouped_mm.register_fake
def _(rows: Tensor, maps: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], maps.shape[2])


@grouped_outer.register_fake
def _(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, maps, ends = ctx.saved_tensors  # type: ignore[attr-defined]
    gradient = gradient.contiguous()
    return grouped_mm(gradient, maps.mT, ends), grouped_outer(rows, gradient, ends), None


grouped_mm.register_autograd(_gradients, setup_context=_keep)


class ExpertLinear(nn.Module):
    """The same linear map of every expert, each with weights of its own."""

    def __init__(self, n_experts: int, size_in: int, size_out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_experts, size_out, size_in))
        self.bias = nn.Parameter(torch.zeros(n_experts, size_out)) if bias else None

    def forward(self, rows: Rows, expert: Int[Tensor, " row"], ends: Ends) -> Float[Tensor, "row out"]:
        """Map each row by its expert's weights, under autocast in its precision."""
        weight, kind = self.weight, rows.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            rows, weight = rows.to(dtype), weight.to(dtype)
        mapped = grouped_mm(rows, weight.mT, ends)
        return mapped if self.bias is None else mapped + self.bias[expert].to(mapped.dtype)


class Expert(nn.Module):
    """The hook points of one expert, over the tokens that are given to it, in the order of the text."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.hook_pre = HookPoint()  # [row, d_mlp]
        self.hook_post = HookPoint()  # [row, d_mlp]
        if gated:
            self.hook_pre_linear = HookPoint()  # [row, d_mlp]


class MixtureOfExperts(nn.Module):
    """MLPs of which each token goes through the few that a router chooses (arXiv 1701.06538, as in Mixtral, 2401.04088).

    The router's softmax over all experts is cut to the `experts_per_token` largest, which are divided by their sum; so
    weighted, what the chosen experts give is summed.

    Attributes:
        balance: of the last pass in training mode, n_experts * sum over experts of (share of places given to it) * (mean of
            its probability): the load balancing loss of arXiv 2101.03961, equation 4, over experts_per_token places. It is 1
            when all get alike. Of the tokens of the pass: each process and micro-batch balances its own.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        assert cfg.num_experts
        self.number, self.chosen = cfg.num_experts, cfg.experts_per_token
        bias, gated = cfg.learned_biases == "all", cfg.gated_mlp
        self.router = nn.Linear(cfg.d_model, self.number, bias=False)
        self.fc_in = ExpertLinear(self.number, cfg.d_model, cfg.d_mlp, bias)
        self.fc_gate = ExpertLinear(self.number, cfg.d_model, cfg.d_mlp, bias) if gated else None
        self.fc_out = ExpertLinear(self.number, cfg.d_mlp, cfg.d_model, bias)
        self.slope = nn.Parameter(torch.empty(self.number, cfg.d_mlp)) if cfg.activation == "prelu" else None
        self.approximate = "none" if cfg.activation == "gelu_exact" else "tanh"
        self.hook_expert_weights = HookPoint()  # [batch, pos, expert]: the router's probabilities
        self.hook_expert_indices = HookPoint()  # [batch, pos, choice]
        self.experts = nn.ModuleList([Expert(gated) for _ in range(self.number)])
        self.balance: Float[Tensor, ""] | None = None

    def forward(self, x: Residual) -> Residual:
        """Return what the layer writes to the residual stream; x is the normalized residual stream."""
        exact = torch.promote_types(x.dtype, torch.float32)
        probabilities = self.hook_expert_weights(self.router(x).softmax(-1, dtype=exact))
        indices = self.hook_expert_indices(probabilities.topk(self.chosen, dim=-1).indices)
        weights = probabilities.gather(-1, indices)
        weights = weights / weights.sum(-1, keepdim=True)
        given = (indices.flatten()[:, None] == torch.arange(self.number, device=x.device)).sum(0)
        if self.training:
            share = given / indices.numel()
            self.balance = self.number * (share * probabilities.flatten(0, 1).mean(0)).sum()
        # each token once for every place, so that what goes back to it is summed in one order
        places = x[..., None, :].expand(*indices.shape, -1).flatten(0, 2)
        order = indices.flatten().argsort(stable=True)
        expert, ends = indices.flatten()[order], given.cumsum(0).to(torch.int32)
        written = self._experts(places[order], expert, ends)
        written = written[order.argsort()].view(*indices.shape, -1)  # [batch, pos, choice, d_model]
        return (written * weights[..., None].to(written.dtype)).sum(-2)

    def _experts(self, rows: Rows, expert: Int[Tensor, " row"], ends: Ends) -> Rows:
        pre = self.fc_in(rows, expert, ends)
        if self.fc_gate is not None:
            linear = self._hooked("hook_pre_linear", pre, ends)
            post = F.silu(self._hooked("hook_pre", self.fc_gate(rows, expert, ends), ends)) * linear
        else:
            pre = self._hooked("hook_pre", pre, ends)
            if self.slope is None:
                post = F.gelu(pre, approximate=self.approximate)
            else:
                post = torch.where(pre < 0, self.slope[expert].to(pre.dtype) * pre, pre)
        return self.fc_out(self._hooked("hook_post", post, ends), expert, ends)

    def _hooked(self, name: str, rows: Rows, ends: Ends) -> Rows:
        """Show each expert's hook point its own rows; where none is hooked nothing is cut, and nothing waits."""
        hooks = [getattr(expert, name) for expert in self.experts]
        if not is_hooked(*hooks):
            return rows
        return torch.cat([hook(rows[a:b]) for hook, (a, b) in zip(hooks, pairwise([0, *ends.tolist()]), strict=True)])

    W_in = property(lambda self: self.fc_in.weight.mT, doc="[expert, d_model, d_mlp], a view")
    W_gate = property(lambda self: self.fc_gate.weight.mT, doc="[expert, d_model, d_mlp], a view")
    W_out = property(lambda self: self.fc_out.weight.mT, doc="[expert, d_mlp, d_model], a view")
    W_router = property(lambda self: self.router.weight.T, doc="[d_model, expert], a view")
    b_in = property(lambda self: bias_of(self.fc_in), doc="[expert, d_mlp]; zeros where there is none")
    b_gate = property(lambda self: bias_of(self.fc_gate), doc="[expert, d_mlp]; zeros where there is none")
    b_out = property(lambda self: bias_of(self.fc_out), doc="[expert, d_model]; zeros where there is none")

"""What the optimizers of the ECD family have in common: groups, the loss, skipped steps, momenta, the noise's key."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from interp.errors import InterpError
from interp.train.optim.passes import Block, Scalar

SMALLEST_V = 1e-40  # at or below it a step is skipped: the force is divided by V
Loss = Tensor | float
Closure = Callable[[], Loss] | Loss


class EnergyConservingOptimizer(torch.optim.Optimizer):
    """A frictionless optimizer with one momentum per parameter, whose norm and energy are global over all groups.

    A subclass says in `move` how one step goes. The scalars of the trajectory (step, seed, energy, skipped steps) lie in
    the first parameter group, so that `state_dict` holds them.

    Raises:
        InterpError: `maximize`, or a group with its own value for a setting that holds for all parameters.
    """

    shared: tuple[str, ...] = ()  # settings that hold for all parameters alike
    floor: str = "F0"  # the setting that the loss has to stay above

    def __init__(self, params: ParamsT, defaults: dict[str, Any], maximize: bool = False):
        super().__init__(params, {**defaults, "maximize": maximize})
        self.param_groups[0]["step"] = 0

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as torch does, refusing what this family has no meaning for."""
        if param_group.get("maximize", self.defaults["maximize"]):
            raise InterpError(f"{type(self).__name__} only minimizes; leave out maximize and change the loss's sign.")
        for name in self.shared:
            if param_group.get(name, self.defaults[name]) != self.defaults[name]:
                raise InterpError(
                    f"A parameter group gives {name}={param_group[name]}, the others {self.defaults[name]}; "
                    f"{type(self).__name__} has one {name} for all parameters."
                )
        super().add_param_group(param_group)

    @property
    def trajectory(self) -> dict[str, Any]:
        """The settings and scalars that hold for all parameters."""
        return self.param_groups[0]

    @property
    def skipped(self) -> Tensor:
        """How many steps were skipped because the loss was not above the floor, or not finite (0-dim int64)."""
        return self.trajectory.get("skipped", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def step(self, closure: Closure) -> Loss:  # type: ignore[override]
        """Take one step along the gradients that stand in ``.grad`` and return their loss.

        Args:
            closure: returns that loss (it may also compute the gradients), or the loss itself: a 0-dim tensor or a number.

        Raises:
            InterpError: no loss, or one of several elements; a gradient that is sparse.
        """
        with torch.enable_grad():
            loss = closure() if callable(closure) else closure
        moving = [(n, p) for n, group in enumerate(self.param_groups) for p in group["params"] if p.grad is not None]
        if moving:
            value, blocks = self._value(loss, moving[0][1].device), self._blocks(moving)
            self.trajectory.setdefault("seed", torch.initial_seed())
            self.trajectory["step"] += 1
            self.move(blocks, value, sum(p.numel() for _, p in moving))
        return loss

    def move(self, blocks: list[Block], loss: Scalar, dimension: int) -> None:
        """Move momenta and positions, of `dimension` elements together."""
        raise NotImplementedError

    def per_group(self, rate: Callable[[dict[str, Any]], Scalar]) -> list[Scalar]:
        """Return `rate` of each group."""
        return [rate(group) for group in self.param_groups]

    @property
    def first(self) -> bool:
        """Whether the step under way is the first."""
        return self.trajectory["step"] == 1

    def above(self, v: Scalar) -> Tensor:
        """Return whether V allows a step, as a 0-dim tensor, and count a skipped one."""
        allowed = (v > SMALLEST_V) & v.isfinite()
        self.trajectory["skipped"] = self.skipped.to(v.device) + ~allowed
        return allowed

    def remembered(self, name: str, value: Scalar, allowed: Tensor) -> Scalar:
        """Return the `value` that `name` had at the first step that was not skipped."""
        old = self.trajectory.get(name, torch.full_like(value, float("nan"))).to(value.device)
        self.trajectory[name] = torch.where(old.isnan() & allowed, value, old)
        return self.trajectory[name]

    def generator(self, device: torch.device) -> torch.Generator:
        """Return a generator keyed by (seed, step): its draws depend on nothing else, also after a resume."""
        key = self.trajectory["seed"] * 0x9E3779B97F4A7C15 + self.trajectory["step"]  # odd: other seeds, other keys
        return torch.Generator(device).manual_seed(key % 2**63)

    def _value(self, loss: Any, device: torch.device) -> Scalar:
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return loss.detach().reshape(()).to(device, torch.float64)
        if not isinstance(loss, (float, int)):
            given = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InterpError(
                f"{type(self).__name__}.step was given {given} as loss; give step(closure) or step(loss) the loss of the "
                "gradients, a 0-dim tensor or a number."
            )
        bare = not any(group.get("weight_decay") for group in self.param_groups)
        if bare and not SMALLEST_V < loss - self.trajectory[self.floor] < float("inf"):
            floor = f"{self.floor} {self.trajectory[self.floor]:g}"
            warnings.warn(
                f"The loss {loss:g} is not a number above {floor}: the step is skipped; lower {self.floor}.",
                stacklevel=4,
            )
        return torch.full((), float(loss), dtype=torch.float64, device=device)

    def _blocks(self, moving: list[tuple[int, Tensor]]) -> list[Block]:
        blocks = [Block(n, float(group.get("weight_decay", 0.0))) for n, group in enumerate(self.param_groups)]
        for number, (group, parameter) in enumerate(moving):
            gradient, state, block = _dense_gradient(parameter), self.state[parameter], blocks[group]
            if "momentum_buffer" not in state:  # of a tensor that gets its first gradient later than others: at rest
                state["momentum_buffer"] = torch.zeros_like(parameter)
            block.numbers.append(number)
            block.positions.append(parameter.detach())
            block.gradients.append(gradient.contiguous() if parameter.is_contiguous() else gradient)
            block.momenta.append(state["momentum_buffer"])
        return [block for block in blocks if block.numbers]


def _dense_gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse:
        raise InterpError(f"A gradient of shape {list(gradient.shape)} is sparse; embeddings need sparse=False here.")
    if not parameter.is_floating_point():
        raise InterpError(
            f"A parameter of shape {list(parameter.shape)} is {parameter.dtype}; real numbers are needed."
        )
    return gradient.detach()


def ratio_or(default: float, allowed: Tensor, numerator: Scalar, denominator: Scalar) -> Scalar:
    """Return sqrt(numerator / denominator) where that is positive and `allowed`, else `default`."""
    quotient = numerator / denominator
    return torch.where(allowed & (denominator > 0) & (quotient > 0), quotient, default**2).sqrt()

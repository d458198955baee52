"""What the optimizers of the ECD family have in common: groups, the loss, skipped steps, momenta, the noise's key."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from interp.errors import InterpError
from interp.train.optim.mechanics import PhaseSpace, Scalar, phase_space

SMALLEST_V = 1e-40  # at or below it a step is skipped: the force is divided by V
Loss = Tensor | float
Closure = Callable[[], Loss] | Loss


class EnergyConservingOptimizer(torch.optim.Optimizer):
    """A frictionless optimizer with one momentum per parameter, whose norm and energy are global over all groups.

    A subclass says in `move` how one step goes. The scalars of the trajectory (step, seed, energy, skipped steps) lie in
    the first parameter group, so that `state_dict` holds them.

    Parameters may be sharded over processes (FSDP2): norms and inner products are those of whole tensors, and only noise
    and bounces depend on the number of processes. Where every process has whole parameters, give all the same seed.

    Raises:
        InterpError: `maximize`, a setting that is too low, or a group with its own value for one that holds for all.
    """

    shared: tuple[str, ...] = ()  # settings that hold for all parameters alike
    least: Mapping[str, float] = {}  # the lowest value of each setting
    floor: str = "F0"  # the setting that the loss has to stay above
    scalars: tuple[tuple[str, float], ...] = ()  # what else it remembers of the trajectory, before the first step

    def __init__(self, params: ParamsT, defaults: dict[str, Any], maximize: bool = False):
        super().__init__(params, {**defaults, "maximize": maximize})
        # all of them from the start: what loads a state into a new optimizer may ask for the same keys
        scalars = {name: torch.full((), value, dtype=torch.float64) for name, value in self.scalars}
        skipped, energy = torch.zeros((), dtype=torch.int64), torch.full((), float("nan"), dtype=torch.float64)
        start = {"step": 0, "seed": torch.initial_seed(), "skipped": skipped, "energy": energy}
        self.param_groups[0].update({**start, **scalars})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as torch does, refusing what this family has no meaning for."""
        if param_group.get("maximize", self.defaults["maximize"]):
            raise InterpError(f"{type(self).__name__} only minimizes; leave out maximize and change the loss's sign.")
        for name, least in self.least.items():
            if not (value := param_group.get(name, self.defaults[name])) >= least:
                raise InterpError(f"{name} of {type(self).__name__} is {value}; it must not be below {least:g}.")
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
        return self.trajectory["skipped"]

    @property
    def energy(self) -> Tensor:
        """The energy at the beginning of the last step, before P is scaled, as a share of the conserved one (0-dim float64).

        What it differs from 1 is the integration error of the step before; NaN before the first step.
        """
        return self.trajectory["energy"]

    @torch.no_grad()
    def step(self, closure: Closure | None) -> Loss:  # type: ignore[override]
        """Take one step along the gradients that stand in ``.grad`` and return their loss.

        Args:
            closure: returns that loss (it may also compute the gradients), or the loss itself: a 0-dim tensor or a number.
                Where several processes train together, the loss over all of them, the same in each.

        Raises:
            InterpError: no loss, or one of several elements; a gradient that is sparse.
        """
        if closure is None and not any(group["lr"] for group in self.param_groups):
            phase_space(self)  # torch.distributed.checkpoint has an optimizer make its state in this way
            return 0.0
        with torch.enable_grad():
            loss: Any = closure() if callable(closure) else closure
        if (space := phase_space(self)) is not None:
            value = self._value(loss, space.blocks[0].momenta[0].device)
            self.trajectory["step"] += 1
            self.move(space, value)
        return loss

    def move(self, space: PhaseSpace, loss: Scalar) -> None:
        """Move momenta and positions."""
        raise NotImplementedError

    def above(self, v: Scalar) -> Tensor:
        """Return whether V allows a step, as a 0-dim tensor, and count a skipped one."""
        allowed = (v > SMALLEST_V) & v.isfinite()
        self.trajectory["skipped"] = self.skipped.to(v.device) + ~allowed
        return allowed

    def remembered(self, name: str, value: Scalar, allowed: Tensor) -> Scalar:
        """Return the `value` that `name` had at the first step that was not skipped; before that it is NaN."""
        old = self.trajectory[name].to(value.device)
        self.trajectory[name] = torch.where(old.isnan() & allowed, value, old)
        return self.trajectory[name]

    def generators(self, space: PhaseSpace) -> tuple[torch.Generator, torch.Generator]:
        """Return generators for whole tensors and for this process' parts of tensors, keyed by (seed, step, part).

        Their draws depend on nothing else, also after a resume; those for parts on how many parts there are.
        """
        key = self.trajectory["seed"] * 0x9E3779B97F4A7C15 + self.trajectory["step"]  # odd: other seeds, other keys
        keys, device = (key, key + space.sharding.part * 0xC2B2AE3D27D4EB4F), space.blocks[0].momenta[0].device
        whole, part = (torch.Generator(device).manual_seed(k % 2**63) for k in keys)
        return whole, part

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


def ratio_or(default: float, allowed: Tensor, numerator: Scalar, denominator: Scalar) -> Scalar:
    """Return sqrt(numerator / denominator) where that is positive and `allowed`, else `default`."""
    quotient = numerator / denominator
    return torch.where(allowed & (denominator > 0) & (quotient > 0), quotient, default**2).sqrt()

"""BBI, bouncing Born-Infeld: Energy Conserving Descent with a relativistic Hamiltonian H = sqrt(V (V + |P|^2)).

Source: De Luca, Silverstein, "Born-Infeld (BI) for AI: Energy-Conserving Descent (ECD) for Optimization",
arXiv 2201.11137, 2022.
"""

from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from interp.errors import InterpError
from interp.train.optim.descent import EnergyConservingOptimizer, ratio_or
from interp.train.optim.mechanics import PhaseSpace, Scalar, kick_and_drift, launch, square_momentum, turn


class BBI(EnergyConservingOptimizer):
    """Bouncing Born-Infeld dynamics.

    V = loss - v0 and E = V_0 + deltaEn, V_0 of the first step. Every tensor's P starts along -g with norm
    sqrt(E^2 / V_0 - V_0). Each step scales P so that |P|^2 = V ((E / V)^2 - 1) over all tensors (where that is positive),
    then P -= (lr / 2) (V / E + E / V) g, then theta += lr (V / E) P. A bounce gives P a random direction.

    Args:
        params: parameters or groups; a group may have its own lr. There is no weight decay.
        lr: time step.
        v0: the loss, in nats, that the motion slows down at; it must be below every loss the run can reach. A step whose V
            is not above 1e-40 is skipped and counted in `skipped`.
        deltaEn: energy at the start above that of rest, in nats.
        threshold0: steps between fixed bounces.
        threshold: steps without a lower loss, counted from the last bounce, after which P bounces. From then on every
            step draws random numbers, because the decision stays on the device.
        n_fixed_bounces: how many fixed bounces there are.
        conserve_energy: scale P before every step; without it the energy drifts with the integration error.
        maximize: not supported.

    Raises:
        InterpError: a setting out of range, weight decay, or `maximize`.
    """

    shared = ("v0", "deltaEn", "threshold0", "threshold", "n_fixed_bounces", "conserve_energy")
    least = MappingProxyType({"lr": 0, "deltaEn": 0, "n_fixed_bounces": 0, "threshold0": 1, "threshold": 1})
    floor = "v0"
    scalars = (("start", float("nan")), ("best", float("inf")), ("idle", 0.0))

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        v0: float = 0.0,
        deltaEn: float = 0.0,
        threshold0: int = 1000,
        threshold: int = 3000,
        n_fixed_bounces: int = 1,
        conserve_energy: bool = True,
        *,
        maximize: bool = False,
    ):
        steps = {"threshold0": threshold0, "threshold": threshold, "n_fixed_bounces": n_fixed_bounces}
        settings = {"lr": lr, "v0": v0, "deltaEn": deltaEn, **steps, "conserve_energy": conserve_energy}
        super().__init__(params, settings, maximize)

    def add_param_group(self, param_group: dict) -> None:
        """Add a group as torch does, refusing what BBI has no meaning for."""
        if param_group.get("weight_decay"):
            raise InterpError(f"BBI has no weight decay; a parameter group gives {param_group['weight_decay']}.")
        super().add_param_group(param_group)

    def move(self, space: PhaseSpace, loss: Scalar) -> None:
        """Scale, kick, drift, bounce."""
        run = self.trajectory
        v = loss - run["v0"]
        allowed = self.above(v)
        energy = self.remembered("start", v, allowed) + run["deltaEn"]
        if run["step"] == 1:
            norm = (energy**2 / v - v).clamp(min=0).sqrt()
            launch(space, torch.where(allowed, norm, 0.0), each=True)
        squares = square_momentum(space)
        square = v * ((energy / v) ** 2 - 1)
        run["energy"] = (v * (v + squares.sum())).sqrt() / energy
        unit = ratio_or(1.0, allowed & run["conserve_energy"], square, squares.sum())
        pull = torch.where(allowed, v / energy + energy / v, 0.0) / 2
        speed = torch.where(allowed, v / energy, 0.0)
        impulses, rates = ([group["lr"] * factor for group in self.param_groups] for factor in (-pull, speed))
        for block in space.blocks:
            kick_and_drift(block, unit.expand_as(squares), impulses[block.group], rates[block.group])
        self._bounce(space, v, allowed)

    def _bounce(self, space: PhaseSpace, v: Scalar, allowed: Tensor) -> None:
        run, step = self.trajectory, self.trajectory["step"]
        best, idle = (run[name].to(v.device) for name in ("best", "idle"))  # idle: steps since a bounce or a lower loss
        idle = torch.where(allowed & (v < best), 0.0, idle + 1)
        fixed = step % run["threshold0"] == 0 and step // run["threshold0"] <= run["n_fixed_bounces"]
        bounce = allowed & (fixed | (idle >= run["threshold"]))
        run["best"] = torch.where(allowed, torch.minimum(v, best), best)
        run["idle"] = torch.where(bounce, 0.0, idle)
        if fixed or step >= run["threshold"]:  # before that no bounce is possible
            turn(space, (~bounce).double(), bounce.double(), self.generators(space))

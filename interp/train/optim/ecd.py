"""Energy Conserving Descent with q = 1: momentum of unit norm, force divided by V = loss - F0.

Source: Silverstein, Kunin, Shyam, "Symmetry Breaking in Transformers for Efficient and Interpretable Training",
arXiv 2601.22257, 2026.
"""

from types import MappingProxyType
from typing import Literal

import torch
from torch.optim.optimizer import ParamsT

from interp.errors import InterpError
from interp.train.optim.descent import EnergyConservingOptimizer, ratio_or
from interp.train.optim.mechanics import PhaseSpace, Scalar, kick_and_drift, launch, sums, turn


class ECD(EnergyConservingOptimizer):
    """Energy Conserving Descent, q = 1, for `d` parameters theta with momenta P.

    V = loss + wd |theta|^2 / 2 - F0 and g' = g + wd theta; with lr divided by sqrt(eta), each step sets
    P = P / |P|, then P += -(lr eta / 2) (d / (d-1)) / V (g' - P <P, g'>), then theta += lr P. P starts along -g.

    Args:
        params: parameters or groups; a group may have its own lr, eta and weight_decay.
        lr: length of a step in parameter space, times sqrt(eta).
        eta: strength of the force; a larger one concentrates the end points at lower losses.
        F0: the loss, in nats, that the motion slows down at; it must be below every loss the run can reach. A step whose V
            is not above 1e-40 is skipped and counted in `skipped`.
        nu: size of the noise that turns P at every step, relative to |P|; 0 is deterministic. Its seed is the one
            given to `torch.manual_seed` before.
        weight_decay: coefficient of |theta|^2 / 2 in the energy.
        conserve_energy: scale P to norm 1 before every step; without it |P| drifts with the integration error.
        projection: "tensor" takes <P, g'> within each tensor, as the released code does, so it reproduces the
            published runs and is the default; "global" takes it over all parameters, as the theory does.
        compile: make the step's two passes with torch.compile: fewer readings of memory, a first step of about a minute (on
            a CPU, which needs a C++ compiler), sums that are rounded differently.
        maximize: not supported.

    Raises:
        InterpError: a setting out of range, `maximize`, or fewer than two parameters with gradients.
    """

    shared = ("F0", "nu", "conserve_energy", "projection")
    least = MappingProxyType({"lr": 0, "nu": 0, "weight_decay": 0})
    compile = False  # a copy or a pickle forgets it, as those of every optimizer forget what is not in its groups

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        eta: float = 100.0,
        F0: float = 2.0,
        nu: float = 0.0,
        weight_decay: float = 0.0,
        conserve_energy: bool = True,
        projection: Literal["tensor", "global"] = "tensor",
        *,
        compile: bool = False,
        maximize: bool = False,
    ):
        if not eta > 0:
            raise InterpError(f"eta of ECD is {eta}; it must be above 0.")
        if projection not in ("tensor", "global"):
            raise InterpError(f"projection is {projection!r}; it can be 'tensor' or 'global'.")
        settings = {"lr": lr, "eta": eta, "weight_decay": weight_decay, "F0": F0, "nu": nu}
        super().__init__(params, {**settings, "conserve_energy": conserve_energy, "projection": projection}, maximize)
        self.compile = compile  # not in a group: it is a matter of the machine, not of the state

    def move(self, space: PhaseSpace, loss: Scalar) -> None:
        """Scale, kick, drift, turn."""
        if space.dimension < 2:
            raise InterpError("ECD turns its momentum, so it needs at least two parameters with gradients, not one.")
        run = self.trajectory
        if run["step"] == 1:
            launch(space, torch.ones_like(loss))
        measure, advance = sums, kick_and_drift
        if self.compile:
            from interp.train.optim import compiled  # late: the compiler takes seconds to import

            measure, advance = compiled.sums, compiled.kick_and_drift
        total = measure(space)
        run["energy"] = total.square.clone()  # E^2 is |P|^2 in units in which it is 1
        v = loss + total.decay - run["F0"]
        allowed = self.above(v)
        unit = ratio_or(1.0, allowed & run["conserve_energy"], torch.ones_like(v), total.square)
        along = unit * (total.power if run["projection"] == "tensor" else total.power.sum().expand_as(total.power))
        freedom = space.dimension / (space.dimension - 1)
        pull = freedom / torch.where(allowed, v, float("inf"))  # no force where the step is skipped
        impulses = [-group["lr"] * group["eta"] ** 0.5 / 2 * pull for group in self.param_groups]
        rates = [allowed.double() * (group["lr"] / group["eta"] ** 0.5) for group in self.param_groups]
        factors = [unit * (1 - impulse * along) for impulse in impulses]
        for block in reversed(space.blocks):  # the end of the sums is still in the cache
            advance(block, factors[block.group], impulses[block.group], rates[block.group])
        if run["nu"]:
            noise = allowed.double() * (run["nu"] / space.dimension**0.5)
            turn(space, torch.ones_like(noise), noise, self.generators(space))

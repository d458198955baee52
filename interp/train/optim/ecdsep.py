"""ECDSep: Energy Conserving Descent with a separable Hamiltonian H = V (s + |P|^2).

Source: De Luca, Gatti, Silverstein, "Improving Energy Conserving Descent for Machine Learning: Theory and Practice",
arXiv 2306.00352, 2023.
"""

from types import MappingProxyType

import torch
from torch.optim.optimizer import ParamsT

from interp.train.optim.descent import EnergyConservingOptimizer, ratio_or
from interp.train.optim.mechanics import PhaseSpace, Scalar, drift, kick, launch, square_momentum, sums, turn


class ECDSep(EnergyConservingOptimizer):
    """Energy Conserving Descent, separable form.

    L = loss + wd |theta|^2 / 2 - F0, V = L^eta, g' = g + wd theta and E = V_0 (s + deltaEn), V_0 of the first step.
    Each step scales P so that |P|^2 = E / V - s (where that is positive), then P -= lr eta / L g',
    then theta += 2 lr P / (s + |P|^2).

    Args:
        params: parameters or groups; a group may have its own lr and weight_decay.
        lr: time step.
        eta: power of V, at least 1; a larger one concentrates the end points at lower losses.
        F0: the loss, in nats, that the motion slows down at; it must be below every loss the run can reach. A step whose L
            is not above 1e-40 is skipped and counted in `skipped`.
        nu: size of the noise that turns P at every step, relative to |P|; 0 is deterministic. Its seed is the one
            given to `torch.manual_seed` before.
        s: 1, or 0 for the dynamics without the regularizing term.
        deltaEn: energy at the start above that of rest, as a share of V_0; P starts along -g with |P|^2 = deltaEn. It
            counts as 1 when s is not 1.
        weight_decay: coefficient of |theta|^2 / 2 in the energy.
        conserve_energy: scale P before every step; without it the energy drifts with the integration error.
        maximize: not supported.

    Raises:
        InterpError: a setting out of range, or `maximize`.
    """

    shared = ("eta", "F0", "nu", "s", "deltaEn", "conserve_energy")
    least = MappingProxyType({"lr": 0, "eta": 1, "nu": 0, "s": 0, "deltaEn": 0, "weight_decay": 0})
    scalars = (("start", float("nan")),)

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        eta: float,
        F0: float = 0.0,
        nu: float = 1e-5,
        s: float = 1.0,
        deltaEn: float = 0.0,
        weight_decay: float = 0.0,
        conserve_energy: bool = True,
        *,
        maximize: bool = False,
    ):
        settings = {"lr": lr, "eta": eta, "weight_decay": weight_decay, "F0": F0, "nu": nu, "s": s}
        super().__init__(params, {**settings, "deltaEn": deltaEn, "conserve_energy": conserve_energy}, maximize)

    def move(self, space: PhaseSpace, loss: Scalar) -> None:
        """Scale, kick, drift, turn."""
        run = self.trajectory
        s, excess = run["s"], run["deltaEn"] if run["s"] == 1 else 1.0
        if run["step"] == 1:
            launch(space, torch.full_like(loss, excess**0.5))
        total = sums(space)
        height = loss + total.decay - run["F0"]
        allowed = self.above(height)
        start = self.remembered("start", height, allowed)
        square = (s + excess) * (start / height) ** run["eta"] - s  # E / V - s, as a ratio that does not overflow early
        run["energy"] = (s + total.square) / (s + square)
        unit = ratio_or(1.0, allowed & run["conserve_energy"], square, total.square)
        pull = run["eta"] / torch.where(allowed, height, float("inf"))
        impulses = [-group["lr"] * pull for group in self.param_groups]
        for block in space.blocks:
            kick(block, unit.expand_as(total.power), impulses[block.group])
        inertia = s + square_momentum(space).sum()
        speed = torch.where(allowed & (inertia > 0), 2 / inertia, 0.0)
        rates = [group["lr"] * speed for group in self.param_groups]
        for block in space.blocks:
            drift(block, rates[block.group])
        if run["nu"]:
            noise = allowed.double() * (run["nu"] / space.dimension**0.5)
            turn(space, torch.ones_like(noise), noise, self.generators(space))

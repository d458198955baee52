"""Learning rate over the run."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "wsd"]


def learning_rate(schedule: Schedule, step: int, steps: int, warmup: float, decay: float, final: float) -> float:
    """Return the learning rate at `step` of `steps` as a share of its peak.

    It rises linearly over the first ``warmup * steps`` steps. Then "cosine" and "linear" fall to `final` at the last step,
    "constant" stays, and "wsd" (warm-up, stable, decay) stays until the last ``decay * steps`` steps and falls linearly
    in them.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    start = max(rising, steps - 1 - round(decay * steps)) if schedule == "wsd" else rising
    progress = min(1.0, max(0.0, (step - start) / max(1, steps - 1 - start)))
    height = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return final + (1 - final) * height

"""Learning rate over the run."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, steps: int, warmup: float, final: float) -> float:
    """Return the learning rate at `step` as a share of its peak.

    It rises linearly over the first ``warmup * steps`` steps, then follows half a cosine from 1 to `final` at the last step.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - 1 - rising)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

"""Training runs on random tokens, prepared as `interp.train` prepares them."""

from unittest.mock import patch

import numpy as np

from interp.model import config
from interp.train.config import TrainConfig
from interp.train.run import prepare

SMALL = {"preset": "mini", "variant": "bqbv", "steps": 8, "batch_size": 8, "context": 32, "evaluate_every": 100,
         "validation_tokens": 100, "warmup": 0.0, "schedule": "constant"}  # fmt: skip


def smallest():
    """While this is entered, the preset mini is smaller still: of one layer, so that a check costs little on a CPU too."""
    return patch.dict(config.SIZES, mini=(1, 4, 64, 64, 512))


def config_of(folder, device, **changes):
    """Settings of a run; its text repeats with a period of 97 tokens, so that there is something to learn."""
    settings = {**SMALL, **changes}
    folder.mkdir(exist_ok=True)
    shard = folder / "tokens.npy"
    if not shard.is_file():
        period = np.random.default_rng(0).integers(256, size=97)
        length = max(20_000, 4 * settings["batch_size"] * settings["context"])
        np.save(shard, np.resize(period, length).astype(np.uint16))
    return TrainConfig(**{"corpus": str(shard), "output": folder / "run", "device": device, **settings})


def run_of(folder, device, **changes):
    """A run that is ready for its first step."""
    return prepare(config_of(folder, device, **changes))

"""What training costs beyond a bare forward, backward and step."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from interp.model.config import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig
from interp.train.loop import StopSignals, steps
from interp.train.records import Lines
from interp.train.run import prepare
from tests.bench.timing import Row, ratio, seconds

BATCH = 8


def rows():
    """Ratios of whole training steps."""
    loop = loop_times()
    return [
        Row("training step, with / without biases", ratio(bias_times(), "bqbv", "symmetric"), budget="<= 1.03"),
        Row("tokens/s, whole training loop / bare steps", ratio(loop, "bare", "loop"), budget=">= 0.9"),
    ]


def bare_step(model, tokens):
    """A function that takes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    count = iter(range(10**6))

    def step():
        model.draw_biases(next(count))
        optimizer.zero_grad()
        model(tokens, return_type="loss").backward()
        optimizer.step()

    return step


def bias_times():
    """Times of training steps of the tiny model with and without biases."""
    models = {v: HookedSymmetryBrokenTransformer(preset("tiny", v)).train() for v in ("symmetric", "bqbv")}
    tokens = torch.randint(4096, (BATCH, 128))
    return seconds({name: bare_step(model, tokens) for name, model in models.items()}, repeats=40)


def loop_times():
    """Times of steps of the training loop, with data, clipping, measures and records, and of bare steps."""
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "tokens.npy"
        np.save(shard, np.random.default_rng(0).integers(4096, size=200_000).astype(np.uint16))
        config = TrainConfig(
            corpus=str(shard), variant="bqbv", steps=10**4, evaluate_every=10**4, batch_size=BATCH,
            output=Path(folder) / "run",
        )  # fmt: skip
        run = prepare(config)
        records, rows_of_steps = Lines(config.output, 0), steps(run, StopSignals())
        model = HookedSymmetryBrokenTransformer(run.model.cfg).train()
        bare = bare_step(model, run.batches.at(0))
        times = seconds({"loop": lambda: records.write(next(rows_of_steps)), "bare": bare}, repeats=40)
        rows_of_steps.close()
        records.close()
    return times

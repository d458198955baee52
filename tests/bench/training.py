"""What training costs beyond a bare forward, backward and step."""

import functools
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from interp.model.config import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig
from interp.train.loop import StopSignals, steps
from interp.train.records import Lines
from interp.train.run import prepare
from tests.bench.plain_gpt import plain_steps
from tests.bench.timing import Row, ratio, seconds

BATCH = 8


def rows():
    """Ratios of whole training steps."""
    loop, plain = loop_times(), plain_times()
    named = "tokens/s, whole training loop / bare loop of a plain GPT-2"
    return [
        Row("training step, with / without biases", ratio(bias_times(), "bqbv", "symmetric"), budget="<= 1.03"),
        Row("tokens/s, whole training loop / bare steps", ratio(loop, "bare", "loop"), budget=">= 0.9"),
        Row(named, ratio(plain, "plain", "loop"), budget=">= 0.9"),
        Row(f"{named}, both compiled", ratio(plain, "plain, compiled", "loop, compiled"), budget=">= 0.9"),
        Row("tokens/s, whole training loop compiled / not", ratio(plain, "loop", "loop, compiled")),
        Row("the same of the plain GPT-2", ratio(plain, "plain", "plain, compiled")),
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
    with ExitStack() as open_loops:
        run, step = training_loop(open_loops, variant="bqbv")
        model = HookedSymmetryBrokenTransformer(run.model.cfg).train()
        return seconds({"loop": step, "bare": bare_step(model, run.batches.at(0))}, repeats=40)


def plain_times():
    """Times of steps of the training loop and of a bare loop around a plain GPT-2 of the same sizes, compiled or not."""
    with ExitStack() as open_loops:
        steps_of, settings = {}, {"variant": "symmetric", "activation": "gelu_exact", "learned_biases": True}
        for compile, name in ((False, ""), (True, ", compiled")):
            run, steps_of[f"loop{name}"] = training_loop(open_loops, **settings, compile=compile)
            plain = plain_steps(run.model.cfg, stream(), BATCH, compile)
            steps_of[f"plain{name}"] = functools.partial(next, plain)
        return seconds(steps_of, repeats=40)


def stream():
    """Tokens to train on."""
    return np.random.default_rng(0).integers(4096, size=200_000).astype(np.uint16)


def training_loop(open_loops, **settings):
    """A run and a function that takes its next step, as `train` does, until `open_loops` is closed."""
    folder = Path(open_loops.enter_context(tempfile.TemporaryDirectory()))
    np.save(folder / "tokens.npy", stream())
    config = TrainConfig(
        corpus=str(folder / "tokens.npy"), steps=10**4, evaluate_every=10**4, batch_size=BATCH, output=folder / "run",
        **{"compile": False, **settings},
    )  # fmt: skip
    run = prepare(config)
    records, rows_of_steps = Lines(config.output, 0), steps(run, StopSignals())
    open_loops.callback(records.close)
    open_loops.callback(rows_of_steps.close)
    return run, lambda: records.write(next(rows_of_steps))

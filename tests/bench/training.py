"""What training costs beyond a bare forward, backward and step."""

import torch

from interp.model.presets import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from tests.bench.timing import Row, ratio, seconds


def rows():
    """Ratios of whole training steps."""
    return [Row("training step, with / without biases", ratio(bias_times(), "bqbv", "symmetric"), budget="<= 1.03")]


def bias_times():
    """Times of training steps of the tiny model with and without biases."""
    steps = {}
    for variant in ("symmetric", "bqbv"):
        model = HookedSymmetryBrokenTransformer(preset("tiny", variant)).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        tokens = torch.randint(model.cfg.d_vocab, (8, model.cfg.n_ctx))

        def step(model=model, optimizer=optimizer, tokens=tokens, count=iter(range(10**6))):
            model.draw_biases(next(count))
            optimizer.zero_grad()
            model(tokens, return_type="loss").backward()
            optimizer.step()

        steps[variant] = step
    return seconds(steps, repeats=40)

"""The model card that a training run leaves beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interp.model.config import BiasConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer


def model_card(
    model: HookedSymmetryBrokenTransformer, training: Mapping[str, Any], evaluations: list[dict[str, Any]]
) -> str:
    """Return the text of README.md: what the model is, how it was trained, how well it does at every evaluation."""
    cfg = model.cfg
    parameters = sum(p.numel() for p in model.parameters())
    return f"""# {cfg.model_name}

A {cfg.n_layers}-layer transformer ({cfg.n_heads} heads, d_model {cfg.d_model}, context {cfg.n_ctx}, vocabulary
{cfg.d_vocab:,}, {cfg.activation}, {cfg.positional} positions; {parameters:,} parameters) trained on the training split of
`{training["corpus"]}` with {training["optimizer"]}; the validation loss is measured on its held-out part.

- query bias b_Q: {_bias(cfg.q)}
- value bias b_V: {_bias(cfg.v)}
- best validation loss: {_loss(training["best_validation_loss"])}

```bash
{training["command"]}
```

Load it with `interp.load_model({cfg.model_name!r})`. It is made for studying attention heads; it writes no useful text.

## Curve

{_curve(evaluations)}

Every step is in `training.jsonl`.
"""


def _bias(bias: BiasConfig) -> str:
    if bias.mode == "none":
        return "none"
    shared = "one vector a layer" if bias.shared_across_heads else "one vector a head"
    return f"mode {bias.mode}, mean {bias.mean}, std {bias.std}, {shared}"


def _loss(value: float | None) -> str:
    return "not measured yet" if value is None else f"{value:.4f} nats per token"


def _curve(evaluations: list[dict[str, Any]]) -> str:
    shown = evaluations[:: max(1, len(evaluations) // 12)]
    shown += evaluations[-1:] if evaluations and shown[-1] is not evaluations[-1] else []
    rows = [f"| {p['step']:,} | {p['tokens']:,} | {p['loss']:.3f} | {p['validation_loss']:.3f} |" for p in shown]
    return "\n".join(["| step | tokens | training loss | validation loss |", "|--:|--:|--:|--:|", *rows])

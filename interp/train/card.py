"""The model card that a training run leaves beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interp.model.config import BiasConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer


def model_card(
    model: HookedSymmetryBrokenTransformer, training: Mapping[str, Any], history: list[dict[str, Any]]
) -> str:
    """Return the text of README.md: what the model is, how it was trained, how well it does."""
    cfg = model.cfg
    parameters = sum(p.numel() for p in model.parameters())
    return f"""# {cfg.model_name}

A {cfg.n_layers}-layer transformer ({cfg.n_heads} heads, d_model {cfg.d_model}, context {cfg.n_ctx}, vocabulary
{cfg.d_vocab:,}, {cfg.activation}, {cfg.positional} positions; {parameters:,} parameters) trained on the training split of
`{training["corpus"]}`; every eighth document is held out.

- query bias b_Q: {_bias(cfg.q)}
- value bias b_V: {_bias(cfg.v)}
- best validation loss: {training["best_validation_loss"]:.4f} nats per token

```bash
{training["command"]}
```

Load it with `interp.load_model({cfg.model_name!r})`. It is made for studying attention heads; it writes no useful text.

## Curve

{_curve(history)}

Every step is in `training.jsonl`.
"""


def _bias(bias: BiasConfig) -> str:
    if bias.mode == "none":
        return "none"
    shared = "one vector a layer" if bias.shared_across_heads else "one vector a head"
    return f"mode {bias.mode}, mean {bias.mean}, std {bias.std}, {shared}"


def _curve(history: list[dict[str, Any]]) -> str:
    points = [row for row in history if "validation_loss" in row]
    shown = points[:: max(1, len(points) // 12)]
    shown += points[-1:] if points and shown[-1] is not points[-1] else []
    rows = [f"| {p['step']:,} | {p['tokens']:,} | {p['loss']:.3f} | {p['validation_loss']:.3f} |" for p in shown]
    return "\n".join(["| step | tokens | training loss | validation loss |", "|--:|--:|--:|--:|", *rows])

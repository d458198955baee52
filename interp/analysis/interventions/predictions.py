"""How changed residual streams predict the next token, beside the unchanged one: loss, KL divergence, top prediction."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.model.transformer import HookedSymmetryBrokenTransformer

QUANTITIES = ("loss", "kl", "top1_changed")


@torch.no_grad()
def compare_predictions(
    model: HookedSymmetryBrokenTransformer,
    unchanged: Float[Tensor, "batch pos d_model"],
    changed: Float[Tensor, "run batch pos d_model"],
    tokens: Int[Tensor, "batch pos"],
) -> Float[Tensor, "run quantity batch predicted_pos"]:
    """Return, for every run and predicted token, the quantities `QUANTITIES`.

    They are the cross-entropy of the run in nats, KL(unchanged || run) in nats, and 1 where the most probable token of the
    unchanged model is no longer the most probable, else 0. Logits are made for one context at a time, and take
    (1 + run) * pos * d_vocab numbers.

    Args:
        model: gives the final norm and the unembedding.
        unchanged: the residual stream of the unchanged model after its last layer.
        changed: the same of the runs.
        tokens: what was read; each but the first is predicted.
    """
    rows = [_one_context(model, unchanged[row], changed[:, row], tokens[row]) for row in range(len(tokens))]
    return torch.stack(rows, 2)


def _one_context(
    model: HookedSymmetryBrokenTransformer,
    unchanged: Float[Tensor, "pos d_model"],
    changed: Float[Tensor, "run pos d_model"],
    tokens: Int[Tensor, " pos"],
) -> Float[Tensor, "run quantity predicted_pos"]:
    before = _log_probabilities(model, unchanged[None, :-1])[0]  # [predicted_pos, d_vocab]
    after = _log_probabilities(model, changed[:, :-1])  # [run, predicted_pos, d_vocab]
    loss = -_of(after, tokens[1:])
    kl = (before.exp() * (before - after)).sum(-1)
    other = _of(after, before.argmax(-1)) < after.amax(-1)  # what was on top is no longer
    return torch.stack([loss, kl, other.to(loss)], 1)


def _of(values: Float[Tensor, "run pos d_vocab"], tokens: Int[Tensor, " pos"]) -> Float[Tensor, "run pos"]:
    return values.gather(-1, tokens[:, None].expand(len(values), -1, -1))[..., 0]


def _log_probabilities(
    model: HookedSymmetryBrokenTransformer, stream: Float[Tensor, "run pos d_model"]
) -> Float[Tensor, "run pos d_vocab"]:
    logits = model.unembed(model.ln_final(stream))
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

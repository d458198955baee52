"""Validation loss over a fixed held-out stream of tokens."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Integer

from interp.model.transformer import HookedSymmetryBrokenTransformer


@torch.no_grad()
def validation_loss(
    model: HookedSymmetryBrokenTransformer, tokens: Integer[np.ndarray, " stream"], batch_size: int = 32
) -> float:
    """Return the mean cross-entropy in nats of every next token within consecutive contexts of n_ctx tokens.

    The model runs in evaluation mode, with its mean biases; its former mode is restored.
    """
    was_training, n_ctx = model.training, model.cfg.n_ctx
    model.eval()
    whole = len(tokens) // n_ctx * n_ctx
    batches = [*np.array_split(tokens[:whole].reshape(-1, n_ctx), range(batch_size, whole // n_ctx, batch_size))]
    batches += [tokens[None, whole:]] if len(tokens) - whole > 1 else []
    total, count = 0.0, 0
    for rows in batches:
        batch = torch.from_numpy(rows.astype(np.int64)).to(model.W_E.device)
        losses = model(batch, return_type="loss", loss_per_token=True)  # [batch, pos - 1]
        total, count = total + losses.double().sum().item(), count + losses.numel()
    model.train(was_training)
    return total / count

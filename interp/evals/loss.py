"""Validation loss over a fixed held-out stream of tokens."""

import numpy as np
import torch
from jaxtyping import Float64, Integer
from torch import Tensor

from interp.model.transformer import HookedSymmetryBrokenTransformer


def validation_loss(
    model: HookedSymmetryBrokenTransformer, tokens: Integer[np.ndarray, " stream"], batch_size: int = 32
) -> float:
    """Return the mean cross-entropy in nats of every next token within consecutive contexts of n_ctx tokens.

    The model runs in evaluation mode, with its mean biases; its former mode is restored.
    """
    total, count = summed_loss(model, tokens, batch_size).tolist()
    return total / count


@torch.no_grad()
def summed_loss(
    model: HookedSymmetryBrokenTransformer,
    tokens: Integer[np.ndarray, " stream"],
    batch_size: int = 32,
    rank: int = 0,
    size: int = 1,
) -> Float64[Tensor, " 2"]:
    """Return the summed cross-entropy in nats and the number of predicted tokens, as in `validation_loss`.

    Of `size` processes each measures every `size`-th batch; the sums of all are those of one process. Every process runs
    the model equally often, as sharded models need it, so some run a batch without counting it.
    """
    device = next(model.parameters()).device
    batches = _batches(tokens, model.cfg.n_ctx, batch_size)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with model.evaluating():
        for turn in range(0, len(batches), size):
            mine = turn + rank < len(batches)
            batch = torch.from_numpy(batches[turn + rank if mine else 0].astype(np.int64)).to(device)
            losses = model(batch, return_type="loss", loss_per_token=True)  # [batch, pos - 1]
            if mine:
                sums += torch.stack([losses.double().sum(), losses.new_tensor(losses.numel(), dtype=torch.float64)])
    return sums


def _batches(
    tokens: Integer[np.ndarray, " stream"], n_ctx: int, batch_size: int
) -> list[Integer[np.ndarray, "batch pos"]]:
    whole = len(tokens) // n_ctx * n_ctx
    parts = np.array_split(tokens[:whole].reshape(-1, n_ctx), range(batch_size, whole // n_ctx, batch_size))
    batches = [batch for batch in parts if len(batch)]
    return batches + ([tokens[None, whole:]] if len(tokens) - whole > 1 else [])

"""Training batches as a pure function of (seed, step), so that a run can start at any step."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from interp.errors import InterpError


class Batches:
    """Contexts of `n_ctx` tokens from a stream of tokens, in a new order, from a new starting point, every epoch.

    Raises:
        InterpError: the stream is shorter than one batch.
    """

    def __init__(self, stream: Integer[np.ndarray, " stream"], n_ctx: int, batch_size: int, seed: int) -> None:
        self.stream, self.n_ctx, self.batch_size, self.seed = stream, n_ctx, batch_size, seed
        self.per_epoch = (len(stream) - n_ctx + 1) // n_ctx // batch_size
        self._epoch: tuple[int, np.ndarray] | None = None  # the last epoch asked for, as shuffling takes long
        if self.per_epoch < 1:
            raise InterpError(
                f"The corpus has {len(stream)} tokens to train on, one batch needs {(batch_size + 1) * n_ctx}; "
                "use more text, or a smaller --batch-size or --context."
            )

    def at(self, step: int) -> Int64[Tensor, "batch pos"]:
        """Return the batch of optimizer step `step`."""
        epoch, place = divmod(step, self.per_epoch)
        starts = self._starts(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        rows = self.stream[starts[:, None] + np.arange(self.n_ctx)]
        return torch.from_numpy(rows.astype(np.int64))

    def _starts(self, epoch: int) -> Int64[np.ndarray, " contexts"]:
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            shift = int(random.integers(self.n_ctx))
            order = random.permutation((len(self.stream) - shift) // self.n_ctx)
            self._epoch = epoch, shift + order * self.n_ctx
        return self._epoch[1]

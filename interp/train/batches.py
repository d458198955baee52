"""Training batches as a pure function of (seed, step), so that a run can start at any step."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from interp.data.shards.open import TokenShards
from interp.errors import InterpError


class Batches:
    """Contexts of `n_ctx` tokens from a stream of tokens, in a new order, from a new starting point, every epoch.

    Of `size` processes each takes its own part of a batch, in the order of `rank`: together they are the batch that one
    process would see.

    Raises:
        InterpError: the stream is shorter than one batch.
    """

    def __init__(
        self, stream: TokenShards, n_ctx: int, batch_size: int, seed: int, rank: int = 0, size: int = 1
    ) -> None:
        self.stream, self.n_ctx, self.batch_size, self.seed = stream, n_ctx, batch_size, seed
        self.part = slice(rank * batch_size // size, (rank + 1) * batch_size // size)
        self.per_epoch = (len(stream) - n_ctx + 1) // n_ctx // batch_size
        self._epoch: tuple[int, np.ndarray] | None = None  # the last epoch asked for, as shuffling takes long
        if self.per_epoch < 1:
            raise InterpError(
                f"The corpus has {len(stream)} tokens to train on, one batch needs {(batch_size + 1) * n_ctx}; "
                "use more text, or a smaller --batch-size or --context."
            )

    def at(self, step: int) -> Int64[Tensor, "batch pos"]:
        """Return this process' part of the batch of optimizer step `step`."""
        epoch, number = divmod(step, self.per_epoch)
        starts = self._starts(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        return torch.from_numpy(self.stream.windows(starts[self.part], self.n_ctx))

    def _starts(self, epoch: int) -> Int64[np.ndarray, " contexts"]:
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            shift = int(random.integers(self.n_ctx))
            order = random.permutation((len(self.stream) - shift) // self.n_ctx)
            self._epoch = epoch, shift + order * self.n_ctx
        return self._epoch[1]


class Prefetcher:
    """Batches on the device, the next one read in the background while a step computes."""

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self.batches, self.device = batches, device
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.waiting: tuple[int, Future[Tensor]] | None = None

    def at(self, step: int) -> Int64[Tensor, "batch pos"]:
        """Return the batch of a step, and begin to read that of the next."""
        if self.waiting is None or self.waiting[0] != step:
            self.waiting = step, self.reader.submit(self._read, step)
        batch = self.waiting[1].result()
        self.waiting = step + 1, self.reader.submit(self._read, step + 1)
        return batch.to(self.device, non_blocking=True)

    def close(self) -> None:
        """Stop reading."""
        self.reader.shutdown(wait=True, cancel_futures=True)

    def _read(self, step: int) -> Tensor:
        batch = self.batches.at(step)
        return batch.pin_memory() if self.device.type == "cuda" else batch

"""Training batches as a pure function of (seed, step), so that a run can start at any step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from interp.data.examples import TokenizedExamples
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

    def tokens_until(self, step: int) -> int:
        """Return how many tokens the batches before `step` have, those of all processes."""
        return step * self.batch_size * self.n_ctx

    def describe(self) -> str:
        """Return what there is to train on, and how much of it a step takes."""
        return f"{len(self.stream):,} training tokens; {self.batch_size} x {self.n_ctx} tokens a step"

    def _starts(self, epoch: int) -> Int64[np.ndarray, " contexts"]:
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            shift = int(random.integers(self.n_ctx))
            order = random.permutation((len(self.stream) - shift) // self.n_ctx)
            self._epoch = epoch, shift + order * self.n_ctx
        return self._epoch[1]


@dataclass(frozen=True)
class ExampleBatch:
    """Examples, one a row, padded on the right, where causal attention does not see it."""

    tokens: Int64[Tensor, "batch pos"]
    learned: Bool[Tensor, "batch pos"]  # which tokens are predicted in the loss
    n_learned: int  # of the whole batch, over all processes and micro-batches

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return self.tokens.device

    def split(self, size: int) -> list[ExampleBatch]:
        """Return parts of `size` rows."""
        parts = zip(self.tokens.split(size), self.learned.split(size), strict=True)
        return [replace(self, tokens=tokens, learned=learned) for tokens, learned in parts]

    def to(self, device: torch.device, non_blocking: bool = False) -> ExampleBatch:
        """Return it on a device."""
        tokens, learned = (part.to(device, non_blocking=non_blocking) for part in (self.tokens, self.learned))
        return replace(self, tokens=tokens, learned=learned)

    def pin_memory(self) -> ExampleBatch:
        """Return it where a GPU can fetch it."""
        return replace(self, tokens=self.tokens.pin_memory(), learned=self.learned.pin_memory())


class ExampleBatches:
    """Examples in a new order every epoch; nothing is left out: a batch may end one epoch and begin the next.

    Every example has a row of its own, so that none attends to another; rows are padded to the longest of the batch.
    """

    def __init__(self, examples: TokenizedExamples, batch_size: int, seed: int, rank: int = 0, size: int = 1) -> None:
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.part = slice(rank * batch_size // size, (rank + 1) * batch_size // size)
        self.per_epoch = len(examples) / batch_size
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def at(self, step: int) -> ExampleBatch:
        """Return this process' part of the batch of optimizer step `step`."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(places, len(self.examples))
        numbers = np.array([self._order(epoch)[place] for epoch, place in zip(epochs.tolist(), within, strict=True)])
        tokens, learned = self.examples.rows(numbers)
        parts = (torch.from_numpy(np.ascontiguousarray(values[self.part])) for values in (tokens, learned))
        return ExampleBatch(*parts, n_learned=int(learned[:, 1:].sum()))

    def tokens_until(self, step: int) -> int:
        """Return how many tokens the batches before `step` have, those of all processes, without padding."""
        epoch, rest = divmod(step * self.batch_size, len(self.examples))
        lengths = self.examples.lengths
        return epoch * int(lengths.sum()) + int(lengths[self._order(epoch)[:rest]].sum())

    def describe(self) -> str:
        """Return what there is to train on, and how much of it a step takes."""
        learned = f"{self.examples.learned.mean():.0%} of them learned"
        told = f"{len(self.examples):,} training examples of {len(self.examples.tokens):,} tokens, {learned}"
        return f"{told}; {self.batch_size} examples a step"

    def _shuffled(self, epoch: int) -> Int64[np.ndarray, " example"]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))


class Prefetcher:
    """Batches on the device, the next one read in the background while a step computes."""

    def __init__(self, batches: Batches | ExampleBatches, device: torch.device) -> None:
        self.batches, self.device = batches, device
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.waiting: tuple[int, Future[Tensor | ExampleBatch]] | None = None

    def at(self, step: int) -> Int64[Tensor, "batch pos"] | ExampleBatch:
        """Return the batch of a step, and begin to read that of the next."""
        if self.waiting is None or self.waiting[0] != step:
            self.waiting = step, self.reader.submit(self._read, step)
        batch = self.waiting[1].result()
        self.waiting = step + 1, self.reader.submit(self._read, step + 1)
        return batch.to(self.device, non_blocking=True)

    def close(self) -> None:
        """Stop reading."""
        self.reader.shutdown(wait=True, cancel_futures=True)

    def _read(self, step: int) -> Tensor | ExampleBatch:
        batch = self.batches.at(step)
        return batch.pin_memory() if self.device.type == "cuda" else batch

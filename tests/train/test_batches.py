import numpy as np
import pytest
import torch

from interp.data.shards.open import TokenShards
from interp.errors import InterpError
from interp.train.batches import Batches, Prefetcher

CASES = [(1000, 16, 4), (100, 7, 2), (97, 8, 5)]


def batches(length, n_ctx, batch_size, *process):
    return Batches(TokenShards.of(np.arange(length)), n_ctx, batch_size, 3, *process)


@pytest.mark.parametrize(("length", "n_ctx", "batch_size"), CASES)
def test_batches_are_a_pure_function_of_the_step_and_an_epoch_repeats_no_context(length, n_ctx, batch_size):
    whole = batches(length, n_ctx, batch_size)
    epoch = torch.cat([whole.at(step) for step in range(whole.per_epoch)])
    starts = epoch[:, 0]
    assert torch.equal(epoch, starts[:, None] + torch.arange(n_ctx))  # contexts are consecutive tokens
    assert len(starts.unique()) == len(starts)
    later = 2 * whole.per_epoch
    assert torch.equal(batches(length, n_ctx, batch_size).at(later), whole.at(later))
    assert not torch.equal(whole.at(whole.per_epoch), whole.at(0))


@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(world):
    whole = batches(1000, 16, 8)
    parts = [batches(1000, 16, 8, rank, world) for rank in range(world)]
    for step in (0, 3, 17):
        assert torch.equal(torch.cat([part.at(step) for part in parts]), whole.at(step))


def test_batches_read_ahead_are_those_of_their_steps_in_any_order():
    whole = batches(1000, 16, 4)
    ahead = Prefetcher(whole, torch.device("cpu"))
    for step in (0, 1, 2, 7, 8, 3):
        assert torch.equal(ahead.at(step), whole.at(step))
    ahead.close()


def test_an_error_of_the_reader_reaches_the_step_that_needs_the_batch():
    shards = TokenShards.of(np.full(1000, 9, dtype=np.uint16), d_vocab=5)
    ahead = Prefetcher(Batches(shards, 16, 4, seed=0), torch.device("cpu"))
    with pytest.raises(InterpError, match="token id 9 at position"):
        ahead.at(0)
    ahead.close()


def test_a_corpus_shorter_than_a_batch_is_refused():
    with pytest.raises(InterpError, match="has 50 tokens to train on, one batch needs 80"):
        batches(50, 16, 4)

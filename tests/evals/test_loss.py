import numpy as np
import pytest
import torch

from interp.evals.held_out import summed_loss, validation_loss


@pytest.fixture
def stream(make_model):
    return np.random.default_rng(0).integers(make_model().cfg.d_vocab, size=93).astype(np.uint16)


def test_validation_loss_is_the_mean_over_every_next_token_of_every_context(make_model, stream):
    model = make_model().train()
    rows = [torch.from_numpy(row.astype(np.int64)) for row in np.split(stream, range(20, 93, 20))]
    model.eval()
    losses = torch.cat([model(row, return_type="loss", loss_per_token=True).flatten() for row in rows])
    model.train()
    assert validation_loss(model, stream, batch_size=3) == pytest.approx(losses.mean().item(), abs=1e-6)
    assert model.training
    model.eval()


@pytest.mark.parametrize(("world", "batch_size"), [(2, 1), (3, 2), (4, 32)])
def test_the_sums_of_all_processes_are_those_of_one_and_all_run_the_model_equally_often(
    make_model, stream, world, batch_size
):
    model, runs = make_model(), []
    model.register_forward_hook(lambda *_: runs.append(None))
    expected = summed_loss(model, stream, batch_size)
    runs.clear()
    parts, counts = [], []
    for rank in range(world):
        parts.append(summed_loss(model, stream, batch_size, rank, world))
        counts.append(len(runs))
    torch.testing.assert_close(sum(parts), expected)
    assert counts == [counts[0] * (rank + 1) for rank in range(world)]
    model._forward_hooks.clear()

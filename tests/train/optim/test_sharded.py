"""Two processes that share the parameters (FSDP2) move as one process does."""

import sys

import pytest
import torch

from interp.train.optim.registry import OPTIMIZERS
from tests.processes import run_together
from tests.train.optim.sharded_runs import CASES, NOISY, STEPS, WORLD, Net, registered, steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    command = [sys.executable, "-m", "tests.train.optim.sharded_runs"]
    statuses, said = run_together([[*command, str(rank), str(folder)] for rank in range(WORLD)], limit=300)
    assert statuses == [0] * WORLD, said
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("way", ["sharded", "partly sharded", "in a grid", "whole", "resumed"])
@pytest.mark.parametrize("name", CASES)
def test_two_processes_move_as_one_however_the_tensors_lie(results, name, way):
    net = Net()
    expected = steps(net, CASES[name](net.parameters()))
    assert len(results[name, way]) == len(expected)
    for point, there in zip(results[name, way], expected, strict=True):
        for tensor, one in zip(point, there, strict=True):
            torch.testing.assert_close(tensor, one, rtol=0, atol=1e-12)
    assert max((a - b).abs().max() for a, b in zip(expected[0], expected[-1], strict=True)) > 0.02


@pytest.mark.parametrize("name", CASES)
def test_the_full_state_of_two_processes_is_that_of_one(results, name):
    net = Net()
    optimizer = CASES[name](net.parameters())
    steps(net, optimizer, 3)
    state = results[name, "state"]
    for parameter_name, parameter in net.named_parameters():
        momentum = optimizer.state[parameter]["momentum_buffer"]
        torch.testing.assert_close(state["state"][parameter_name]["momentum_buffer"], momentum, rtol=0, atol=1e-12)
    assert state["param_groups"][0]["step"] == 3


@pytest.mark.parametrize("name", NOISY)
def test_noise_differs_between_parts_and_is_the_same_for_tensors_that_every_process_has(results, name):
    momenta, copies = results[name, "noisy"]
    assert torch.equal(*copies)
    torch.manual_seed(11)
    net = Net()
    quiet = (CASES["ecd tensor"] if name == "ecd" else CASES["bbi"])(net.parameters())
    steps(net, quiet, 1)
    before = {n: quiet.state[p]["momentum_buffer"] for n, p in net.named_parameters()}
    norm, norm_before = (torch.cat([p.flatten() for p in m.values()]).norm() for m in (momenta, before))
    assert norm == pytest.approx(norm_before.item(), rel=1e-12)
    change = {n: p - before[n] * (name == "ecd") for n, p in momenta.items()}
    first, second = change["even"].flatten().chunk(2)
    assert torch.cosine_similarity(first, second, dim=0).abs() < 0.9
    # rank 0's part and the tensor that is whole are drawn from different streams
    assert torch.cosine_similarity(first, change["whole"].flatten(), dim=0).abs() < 0.99


def test_parameters_over_two_sets_of_processes_are_refused_in_a_sentence(results):
    assert "sharded over 2 different sets of processes; shard all over one" in results["refused"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_that_a_run_can_choose_moves_sharded_tensors_as_whole_ones_or_is_refused(results, name):
    there = results["registered"][name]
    if name == "soap":
        assert "SOAP needs whole matrices" in there and "use --distribute ddp, or another --optimizer" in there
        return
    expected = registered(name, Net())
    assert len(there) == len(expected) == STEPS
    for point, own in zip(there, expected, strict=True):
        for tensor, one in zip(point, own, strict=True):
            torch.testing.assert_close(tensor, one, rtol=0, atol=1e-12)
    assert max((a - b).abs().max() for a, b in zip(expected[0], expected[-1], strict=True)) > 0.02

"""What two processes do in test_sharded.py: python -m tests.train.optim.sharded_runs RANK FOLDER, once for each rank."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from interp.errors import InterpError
from interp.train.optim import BBI, ECD, ECDSep
from interp.train.optim.registry import OPTIMIZERS, build_optimizer

STEPS, WORLD = 6, 2
ECD_LIKE = {"lr": 0.3, "eta": 9.0, "F0": -0.5}
CASES = {
    "ecd tensor": lambda p: ECD(p, **ECD_LIKE),
    "ecd global": lambda p: ECD(p, **ECD_LIKE, projection="global"),
    "ecd tensor, weight decay": lambda p: ECD(p, **ECD_LIKE, weight_decay=0.1),
    "ecd global, weight decay": lambda p: ECD(p, **ECD_LIKE, weight_decay=0.1, projection="global"),
    "ecdsep": lambda p: ECDSep(p, 0.05, 2.0, -0.5, nu=0.0, deltaEn=0.5),
    "ecdsep, weight decay": lambda p: ECDSep(p, 0.05, 2.0, -0.5, nu=0.0, deltaEn=0.5, weight_decay=0.1),
    "bbi": lambda p: BBI(p, 0.03, -0.5, 1.0),
}
NOISY = {
    "ecd": lambda p: ECD(p, **ECD_LIKE, nu=0.5),
    "bbi": lambda p: BBI(p, 0.03, -0.5, 1.0, threshold0=1),
}
REGISTERED = {
    "ecd": {"F0": -0.5},
    "ecdsep": {"F0": -0.5, "nu": 0.0, "deltaEn": 0.5},
    "bbi": {"v0": -0.5, "deltaEn": 1.0},
}
DECAYS = {"bbi": 0.0}  # which has none
FULL = StateDictOptions(full_state_dict=True)


class Net(nn.Module):
    """Tensors that two processes can share evenly, unevenly, and not at all."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(3)
        shapes = {"even": (4, 3), "uneven": (3, 5), "odd": (7,), "single": (1,), "whole": (2, 3)}
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape, dtype=dtype)))

    def forward(self):
        return sum((p**2 / 2 + 0.1 * (1 - torch.cos(3 * p))).sum() for p in self.parameters())


def full(tensor):
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def steps(net, optimizer, count=STEPS):
    """Take steps and return all parameters after each."""
    points = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = net()
        loss.backward()
        optimizer.step(lambda loss=loss: loss)  # which torch's own take, too
        points.append([full(p) for p in net.parameters()])
    return points


def sharded(mesh=None, whole=()):
    net = Net()
    fully_shard(net, mesh=mesh, ignored_params={getattr(net, name) for name in whole})
    return net


def resumed(make):
    """Half of the steps, then the other half by a new optimizer with the full state of the first."""
    net = sharded()
    optimizer = make(net.parameters())
    points = steps(net, optimizer, STEPS // 2)
    weights, state = get_state_dict(net, optimizer, options=FULL)
    other = sharded()
    optimizer = make(other.parameters())
    set_state_dict(other, optimizer, model_state_dict=weights, optim_state_dict=state, options=FULL)
    return points + steps(other, optimizer, STEPS - STEPS // 2), state


def noisy(make):
    """Momenta after one step with noise, of which one tensor is not sharded, and that tensor in every process."""
    net = sharded(whole=("whole",))
    optimizer = make(net.parameters())
    steps(net, optimizer, 1)
    copies = [torch.empty_like(net.whole) for _ in range(WORLD)]
    dist.all_gather(copies, net.whole.detach())
    return {n: full(optimizer.state[p]["momentum_buffer"]) for n, p in net.named_parameters()}, copies


def registered(name, net):
    """Parameters after each step of an optimizer as a run builds it, or the sentence with which it is refused."""
    try:
        return steps(
            net, build_optimizer(name, net.named_parameters(), 0.1, DECAYS.get(name, 0.1), REGISTERED.get(name))
        )
    except InterpError as error:
        return str(error)


def said(function):
    """The sentence with which a function refuses."""
    try:
        function()
    except InterpError as error:
        return str(error)


def two_meshes():
    net = nn.ModuleList([Net(), Net()])
    for part, name in zip(net, ("a", "b"), strict=True):
        fully_shard(part, mesh=dist.init_device_mesh("cpu", (WORLD,), mesh_dim_names=(name,)))
    loss = sum(part() for part in net)
    loss.backward()
    ECD(net.parameters()).step(loss)


def main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    results = {}
    for name, make in CASES.items():
        grid = dist.init_device_mesh("cpu", (1, WORLD), mesh_dim_names=("copies", "parts"))
        partly = sharded(whole=("whole", "odd"))
        ways = {"sharded": sharded(), "partly sharded": partly, "in a grid": sharded(grid), "whole": Net()}
        for way, net in ways.items():
            results[name, way] = steps(net, make(net.parameters()))
        results[name, "resumed"], results[name, "state"] = resumed(make)
    for name, make in NOISY.items():
        torch.manual_seed(11)
        results[name, "noisy"] = noisy(make)
    results["registered"] = {name: registered(name, sharded()) for name in OPTIMIZERS}
    results["refused"] = said(two_meshes)
    if rank == 0:
        torch.save(results, folder / "results.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

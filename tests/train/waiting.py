"""What makes the host wait for a device, seen without one: a training step over tensors that have no values.

On the device "meta" operations are called as on a GPU, and none has a result to look at. What needs a value, as `.item()`,
`bool(tensor)` and `nonzero` do, is refused there; a copy between host and device is seen on its way, and a GPU makes the
host wait for it unless it is said not to block.
"""

from dataclasses import replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.run import Run
from interp.train.setup import build_optimizer_of, model_config, resolved


class Waits(TorchDispatchMode):
    """Collects the copies between host and device that a host waits for, while it is on."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[name == "copy_"]
            let_go = kwargs.get("non_blocking") or args[2:] == (True,)
            if source.device != result.device and not let_go:
                self.found.append(f"{name} from {source.device} to {result.device}")
        return result


def waits(function):
    """What `function` waits for; where it asks for a value, it ends there, with that error's first line."""
    with Waits() as mode:
        try:
            function()
        except (RuntimeError, NotImplementedError) as error:
            mode.found.append(str(error).splitlines()[0])
    return mode.found


def run_without_values(config):
    """A run of one layer on the device "meta", as `interp.train.run.prepare` would make it, without text."""
    config, device = resolved(config), torch.device("meta")
    model = HookedSymmetryBrokenTransformer(replace(model_config(config), n_layers=1)).to(device)
    return Run(config, World(0, 1, device), None, model, model, build_optimizer_of(config, model), None, 9, {})

"""Optimizer steps over GPT-2-small's parameters: time against torch's fused SGD and a copy, memory of the states.

A fused SGD step with momentum reads three arrays of the parameters' size and writes two. ECD's inner product <P, g'> has
to be known before P can change, so P and g are read twice: seven arrays, 1.4 times the bytes, but five readings against
three. Where one thread's reading is what takes the time, 5/3 = 1.67 is the floor.
"""

import torch

from interp.model.config import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.optim.registry import OPTIMIZERS, build_optimizer
from tests.bench.timing import Row, medians, ratio, seconds

MOVED = 7  # arrays of the parameters' size that an ECD step reads or writes
LOSS = torch.tensor(3.0)
SOAP_LIMIT = 768  # larger sides take minutes to bring into their eigenbasis on a CPU


def rows():
    """Ratios of times, and bytes of state per parameter."""
    parameters = list(HookedSymmetryBrokenTransformer(preset("gpt2-124m", "bqbv")).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-4
    times, size = step_times(parameters), sum(parameter.nbytes for parameter in parameters)
    bandwidth = 2 * size / medians(times)["copy"]  # a copy reads one array and writes one
    return [
        Row("copy of the gradients", bandwidth / 1e9, "GB/s"),
        Row("fused SGD with momentum, 124M", medians(times)["sgd"], "s"),
        Row("ECD step, compiled / fused SGD with momentum, 124M", ratio(times, "compiled ecd", "sgd"), budget="<= 1.7"),
        Row("the same, not compiled", ratio(times, "ecd", "sgd")),
        Row("not compiled, with weight decay", ratio(times, "ecd with weight decay", "sgd")),
        Row(
            "ECD step / its bytes at the copy's bandwidth",
            ratio(times, "compiled ecd", "copy") * 2 / MOVED,
            budget="<= 3",
        ),
        *(Row(f"state of {name}", value, "B a parameter") for name, value in states(parameters).items()),
    ]


def step_times(parameters):
    """Times of steps of optimizers that share the parameters, and of a copy of the gradients."""
    sgd = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)
    ecd = build_optimizer("ecd", parameters, 1.0)
    compiled = build_optimizer("ecd", parameters, 1.0, arguments={"compile": True})
    decaying = build_optimizer("ecd", parameters, 1.0, weight_decay=0.1)
    gradients = [parameter.grad for parameter in parameters]
    copies = [torch.empty_like(gradient) for gradient in gradients]
    return seconds(
        {
            "sgd": sgd.step,
            "compiled ecd": lambda: compiled.step(LOSS),
            "ecd": lambda: ecd.step(LOSS),
            "ecd with weight decay": lambda: decaying.step(LOSS),
            "copy": lambda: torch._foreach_copy_(copies, gradients),
        },
        repeats=9,
    )


def states(parameters):
    """Bytes of state per parameter of each optimizer after a step; SOAP's with the paper's settings are counted."""
    n, found = sum(parameter.numel() for parameter in parameters), {}
    for name in OPTIMIZERS:
        arguments = {"max_precondition_dim": SOAP_LIMIT} if name == "soap" else {}
        optimizer = build_optimizer(name, parameters, 0.0, arguments=arguments)
        optimizer.step(lambda: LOSS)
        label = f"soap, sides up to {SOAP_LIMIT} preconditioned" if name == "soap" else name
        found[label] = state_bytes(optimizer) / n
    return {**found, "soap, all sides up to 10,000, counted": 4 * soap_elements(parameters, 10_000) / n}


def state_bytes(optimizer):
    """Bytes of all tensors in the state of an optimizer."""
    return sum(tensor.nbytes for state in optimizer.state.values() for tensor in _tensors(list(state.values())))


def soap_elements(parameters, limit):
    """Numbers SOAP keeps: two moments, and for every side of a matrix up to the limit a covariance and its eigenbasis."""
    sides = [side for parameter in parameters if parameter.ndim > 1 for side in parameter.shape if side <= limit]
    return 2 * sum(parameter.numel() for parameter in parameters) + 2 * sum(side**2 for side in sides)


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list) else []

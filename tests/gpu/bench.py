"""Speed and memory of training and reading on a device: GPT-2-small's shapes, bfloat16, compiled.

Every function takes the device, and sizes, so that a CPU can go through it at small ones; what it finds there says nothing.
"""

from __future__ import annotations

import gc
import itertools
import tempfile
from pathlib import Path

import torch

from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.classes.built_in import Scheme
from interp.data.contexts import pack
from interp.train.loop import StopSignals, steps
from interp.train.measures import DATA_SHEET, flops_per_token
from interp.train.optim.registry import OPTIMIZERS, build_optimizer
from interp.train.step import optimizer_step
from tests.bench.analysis import CLASSES, model_and_documents
from tests.bench.timing import medians, ratio, seconds
from tests.gpu.compiling import graphs
from tests.gpu.found import Found
from tests.gpu.runs import run_of

SIZES = {"preset": "gpt2-124m", "context": 512, "compile": True}
STEPS = 10  # in a timing; SOAP makes new eigenbases once in so many
VARIANTS = ("symmetric", "bqbv")
LARGE = 60e9  # bytes from which on a card takes the large batch
UTILIZATION, MODEL_OF_AIM = 0.45, "NVIDIA H100"


def batch_size(device):
    """Contexts of a step: as many as keep a large card busy, and fit a small one."""
    large = device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory > LARGE
    return 64 if large else 16


def rows(device, sizes=SIZES, optimizers=tuple(OPTIMIZERS), repeats=5, batch=None, reading=model_and_documents):
    """Yield everything; what cannot be taken is a row that failed, and the rest goes on."""
    batch = batch or batch_size(device)
    for optimizer in optimizers:
        yield from guarded(f"training, {optimizer}", training, device, sizes, optimizer, batch, repeats)
    yield from guarded("training loop", whole_loop, device, sizes, batch, repeats)
    yield from guarded("ECD step", ecd_step, device, sizes, repeats)
    yield from guarded("amplification", amplification, device, repeats, reading)


def guarded(name, function, *arguments):
    """The rows of a function, or one that says how it failed; nothing that was compiled before it is kept."""
    torch._dynamo.reset()  # which compiles one function for so many models only, and then none
    try:
        yield from function(*arguments)
    except Exception as error:  # whatever a device may say: the other rows are still worth having
        told = (str(error).strip() or "no more is told").splitlines()[0]
        yield Found(name, f"{type(error).__name__}: {told[:200]}", failed=True)
    gc.collect()  # models refer to themselves
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def waiting(function, device):
    """The function, after which the device has done everything."""

    def whole():
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return whole


def stepping(run):
    """A function that takes STEPS optimizer steps of a run on one batch."""
    batch = run.batches.at(0).to(run.world.device)

    def several():
        for _ in range(STEPS):
            optimizer_step(run, batch)
            run.progress.step += 1

    return several


def training(device, sizes, optimizer, batch, repeats):
    """Tokens a second, utilization and memory with an optimizer, with biases and without; what was compiled on the way."""
    with tempfile.TemporaryDirectory() as folder:
        ways, peaks, cfgs = {}, {}, {}
        for variant in VARIANTS:
            before = allocated(device)
            run = run_of(
                Path(folder) / variant, str(device), variant=variant, optimizer=optimizer, batch_size=batch,
                precision="bfloat16", **sizes,
            )  # fmt: skip
            ways[variant], cfgs[variant] = waiting(stepping(run), device), run.model.cfg
            ways[variant]()
            peaks[variant] = peak(device, ways[variant]) - before
        compiled = graphs()
        times = seconds(ways, repeats=repeats)
        compiled = graphs() - compiled
    tokens = STEPS * batch * cfgs["bqbv"].n_ctx
    for variant, taken in medians(times).items():
        share = utilization(device, cfgs[variant], tokens / taken)
        told = f"{tokens / taken:,.0f} tokens/s{told_share(share)}, {peaks[variant] / 1e9:.1f} GB at most"
        name = f"training, {optimizer}, {variant}, {batch} x {cfgs[variant].n_ctx} tokens a step"
        yield Found(name, told, *aimed(device, share, optimizer))
    cost = ratio(times, "bqbv", "symmetric")
    yield Found(f"step with biases / without, {optimizer}", f"{cost:.3f}", "<= 1.02", cost <= 1.02)
    yield Found(f"graphs compiled after the first steps, {optimizer}", str(compiled), "0", compiled == 0)


def aimed(device, share, optimizer):
    """The aim for utilization, and whether it held: it is one for AdamW, whose step costs least beside SGD's, on an H100."""
    if share is None or optimizer != "adamw" or not card(device).startswith(MODEL_OF_AIM):
        return "", None
    return f">= {UTILIZATION:.0%} MFU", share >= UTILIZATION


def card(device):
    """The card's name; empty for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def utilization(device, cfg, rate):
    """Floating point operations of the model (MFU) as a share of the data sheet's; None for a card that is not in it."""
    return rate * flops_per_token(cfg) / DATA_SHEET[card(device)] if card(device) in DATA_SHEET else None


def told_share(share):
    """The utilization in words."""
    return (
        ", no MFU: this card is not in DATA_SHEET of interp/train/measures.py"
        if share is None
        else f", MFU {share:.1%}"
    )


def allocated(device):
    """Bytes in tensors on a device; 0 on a CPU, which does not count them."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def peak(device, function):
    """The most bytes that were in tensors during a function."""
    if device.type != "cuda":
        function()
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    function()
    return torch.cuda.max_memory_allocated(device)


def whole_loop(device, sizes, batch, repeats):
    """What data, measures and records take of the training loop, which reads the loss once a step."""
    with tempfile.TemporaryDirectory() as folder:
        asked = {"variant": "bqbv", "batch_size": batch, "precision": "bfloat16", "steps": 10**6, **sizes,
                 "evaluate_every": 10**6}  # fmt: skip
        run, looped = (run_of(Path(folder) / name, str(device), **asked) for name in ("bare", "loop"))
        rows_of_steps = steps(looped, StopSignals())
        loop = lambda: list(itertools.islice(rows_of_steps, STEPS))  # noqa: E731
        times = seconds({"bare": waiting(stepping(run), device), "loop": waiting(loop, device)}, repeats=repeats)
        rows_of_steps.close()
    kept = ratio(times, "bare", "loop")
    yield Found("tokens/s, whole training loop / bare steps", f"{kept:.3f}", ">= 0.9", kept >= 0.9)


def ecd_step(device, sizes, repeats):
    """Optimizer steps alone, ECD's against torch's fused SGD with momentum, over the parameters of the model."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(Path(folder) / "run", str(device), **{**sizes, "compile": False})
    parameters = list(run.model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-4
    loss = torch.tensor(3.0, device=device)
    sgd = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)
    plain = build_optimizer("ecd", parameters, 1.0)
    compiled = build_optimizer("ecd", parameters, 1.0, arguments={"compile": sizes["compile"]})
    ways = {"sgd": sgd.step, "plain": lambda: plain.step(loss), "compiled": lambda: compiled.step(loss)}
    several = {name: waiting(lambda step=step: [step() for _ in range(STEPS)], device) for name, step in ways.items()}
    times = seconds(several, repeats=repeats)
    yield Found("fused SGD step with momentum", f"{medians(times)['sgd'] / STEPS * 1e3:.2f} ms")
    cost = ratio(times, "compiled", "sgd")
    yield Found("ECD step, compiled / fused SGD with momentum", f"{cost:.2f}", "<= 1.3", cost <= 1.3)
    yield Found("ECD step, not compiled / fused SGD with momentum", f"{ratio(times, 'plain', 'sgd'):.2f}")


def amplification(device, repeats, reading, contexts=64, size=16):
    """The streaming loop of one scheme against a plain forward pass with logits over the same tokens, both in float32."""
    model, documents = reading(contexts)
    model = model.to(device)
    scheme = Scheme("s", tuple(map(str, range(CLASSES))), False, lambda tokens, *_: tokens)
    batches = [each.tokens.to(device) for each in pack(documents, model.cfg.n_ctx, size, 0)]
    loop = Settings(batch_size=size, passages=0, nulls=0, shifts=0, fit_tokens=0)

    @torch.no_grad()
    def plain():
        for tokens in batches:
            model(tokens)

    ways = {"plain": plain, "ours": lambda: measure(model, documents, [scheme], loop)}
    ways = {name: waiting(way, device) for name, way in ways.items()}
    times = seconds(ways, repeats=repeats)
    cost, before = ratio(times, "ours", "plain"), allocated(device)
    yield Found("amplification / plain forward with logits", f"{cost:.2f}", "<= 0.90", cost <= 0.90)
    yield Found("memory of amplification above the weights", f"{(peak(device, ways['ours']) - before) / 1e9:.2f} GB")

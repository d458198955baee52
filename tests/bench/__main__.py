"""Ratios of time and memory within one run, on one thread, beside the budgets: `make bench`.

python -m tests.bench                everything
python -m tests.bench memory NAME    peak memory of one way in this process (used by the above)
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from interp.analysis.amplification import measure
from interp.data.contexts import TaggedDocument, pack
from interp.data.corpus import Document
from interp.data.schemes import Scheme
from interp.data.tokenizer import train_tokenizer
from interp.model.presets import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.optim import ECD
from tests.bench.usual import usual_amplification

CLASSES, BATCH, CONTEXTS, REPEATS = 32, 2, 8, 3


def model_and_documents(contexts=CONTEXTS):
    """GPT-2-small shapes with random weights, and random documents of half a context each."""
    config = preset("gpt2-124m", "bqbv", activation="gelu")
    model = HookedSymmetryBrokenTransformer(config, train_tokenizer(["one two three"], 300)).eval()
    random = np.random.default_rng(0)
    documents = [
        TaggedDocument(d, Document("", ""), random.integers(config.d_vocab, size=256), np.zeros((256, 2), dtype=np.int64),
                       {"s": random.integers(CLASSES, size=256)})
        for d in range(2 * contexts)
    ]  # fmt: skip
    return model, documents


def ways(model, documents):
    """What is compared, by name: each a function of no arguments."""
    scheme = Scheme("s", tuple(map(str, range(CLASSES))), False, lambda tokens, *_: tokens)
    batches = list(pack(documents, model.cfg.n_ctx, BATCH, 0))

    @torch.no_grad()
    def plain():
        for contexts in batches:
            model(contexts.tokens)

    return {
        "plain forward with logits": plain,
        "amplification": lambda: measure(model, documents, [scheme], batch_size=BATCH, passages=0),
        "run_with_cache + groupby": lambda: usual_amplification(model, batches),
    }


def seconds(functions, repeats=REPEATS):
    """Times of each function, taken in turn, after one warm-up of each."""
    times = {name: [] for name in functions}
    for round_number in range(repeats + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if round_number:
                times[name].append(time.perf_counter() - started)
    return times


def peak_megabytes(name, contexts):
    """Peak resident memory of one way above what the process held before it, in a process of its own (Linux)."""
    model, documents = model_and_documents(contexts)
    function = ways(model, documents)[name]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1024


def _status(field):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1])  # kB


def measured_memory(name, contexts=CONTEXTS):
    command = [sys.executable, "-m", "tests.bench", "memory", name, str(contexts)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def ratio(times, first, second):
    """Median over the rounds of the ratio of two times of the same round."""
    return statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))


def training_times():
    """Times of optimizer steps of the tiny model with and without biases."""
    steps = {}
    for variant in ("symmetric", "bqbv"):
        model = HookedSymmetryBrokenTransformer(preset("tiny", variant)).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        tokens = torch.randint(model.cfg.d_vocab, (8, model.cfg.n_ctx))

        def step(model=model, optimizer=optimizer, tokens=tokens, count=iter(range(10**6))):
            model.draw_biases(next(count))
            optimizer.zero_grad()
            model(tokens, return_type="loss").backward()
            optimizer.step()

        steps[variant] = step
    return seconds(steps, repeats=40)


def optimizer_times():
    """Times of optimizer steps over GPT-2-small's parameters, which the optimizers share."""
    parameters = list(HookedSymmetryBrokenTransformer(preset("gpt2-124m", "bqbv")).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-4
    sgd = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)
    ecd, decaying, loss = ECD(parameters), ECD(parameters, weight_decay=0.1), torch.tensor(3.0)
    steps = {"sgd": sgd.step, "ecd": lambda: ecd.step(loss), "ecd with weight decay": lambda: decaying.step(loss)}
    return seconds(steps, repeats=7)


def import_times():
    """Seconds of `import torch` and of `import torch, interp`, and of a command's --help, in fresh processes."""
    commands = {
        "torch": [sys.executable, "-c", "import torch"],
        "torch and interp": [sys.executable, "-c", "import torch, interp"],
        "--help": [sys.executable, "-m", "interp.amplify", "--help"],
    }
    run = {
        name: lambda c=command: subprocess.run(c, check=True, capture_output=True) for name, command in commands.items()
    }
    return {name: statistics.median(times) for name, times in seconds(run).items()}


def main():
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory"]:
        print(json.dumps(peak_megabytes(sys.argv[2], int(sys.argv[3]))))
        return
    times = seconds(ways(*model_and_documents()))
    for name, taken in times.items():
        print(f"{statistics.median(taken):8.2f} s   {name} (min {min(taken):.2f}, max {max(taken):.2f})")
    memory = {name: measured_memory(name) for name in ("amplification", "run_with_cache + groupby")}
    longer = measured_memory("amplification", 4 * CONTEXTS)
    for name, megabytes in [*memory.items(), ("amplification of 4 x the corpus", longer)]:
        print(f"{megabytes:8.0f} MB  {name}")
    imports, training, optimizers = import_times(), training_times(), optimizer_times()
    usual, ours, plain = "run_with_cache + groupby", "amplification", "plain forward with logits"
    rows = [
        (f"{ours} / {plain}", ratio(times, ours, plain), "<= 0.90"),
        (f"{usual} / {ours}", ratio(times, usual, ours), ">= 2.5"),
        (f"memory, {ours} / {usual}", memory[ours] / memory[usual], "<= 0.25"),
        ("memory, 4 x the corpus / the corpus", longer / memory[ours], "about 1"),
        ("training step, with / without biases", ratio(training, "bqbv", "symmetric"), "<= 1.03"),
        ("ECD step / fused SGD with momentum, 124M", ratio(optimizers, "ecd", "sgd"), "<= 1.6"),
        ("the same with weight decay", ratio(optimizers, "ecd with weight decay", "sgd"), "none"),
        ("import interp beyond torch, s", imports["torch and interp"] - imports["torch"], "<= 0.3"),
        ("amplify --help, s", imports["--help"], "<= 1"),
    ]  # fmt: skip
    for name, value, budget in rows:
        print(f"{value:8.3f}    {name} (budget {budget})")


if __name__ == "__main__":
    main()

"""Amplification against a plain forward pass and against the usual way: time, and memory in processes of their own.

python -m tests.bench.analysis NAME CONTEXTS    peak memory of one way in this process (used by the rows)
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from interp.analysis.interventions.measure import intervene
from interp.analysis.measurements.static_alignment import static_tables
from interp.analysis.readers.open import open_reader
from interp.analysis.run import measure
from interp.analysis.settings import InterventionSettings, Settings
from interp.data.classes.built_in import Scheme
from interp.data.contexts import TaggedDocument, pack
from interp.data.corpora.corpus import Document
from interp.data.tokenizer import train_tokenizer
from interp.model.config import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from tests.bench.timing import Row, medians, ratio, seconds
from tests.bench.usual import usual_amplification

CLASSES, BATCH, CONTEXTS = 32, 2, 8
PLAIN, OURS, USUAL = "plain forward with logits", "amplification", "run_with_cache + groupby"
NULLS = "amplification with 64 directions"
DRAWS, INTERVENTIONS, STATIC = "amplification with 2 draws of b", "interventions of the command", "static tables"
WHOLE = "the whole call with its defaults"
OWN, BRIDGED = "our own class", "a bridged model"
FEW = 1  # contexts, of what takes many runs
MANY = 32  # contexts, 16,384 tokens, of what has a cost of its own that does not grow with the text


def rows():
    """Times and peak memory, and their ratios."""
    times = seconds(ways(*model_and_documents()))
    memory = {name: measured_memory(name) for name in (OURS, NULLS, USUAL)}
    longer = measured_memory(OURS, 4 * CONTEXTS)
    slow = seconds(slow_ways(*model_and_documents(FEW)), repeats=1)
    whole = seconds(whole_call(*model_and_documents(MANY)), repeats=1)
    bridged = seconds(readers(*model_and_documents()), repeats=1)
    return [
        *(Row(name, value, "s") for name, value in medians(times).items()),
        *(Row(name, value, "MB") for name, value in memory.items()),
        Row(f"{OURS} of 4 x the corpus", longer, "MB"),
        Row(f"{OURS} / {PLAIN}", ratio(times, OURS, PLAIN), budget="<= 0.90"),
        Row(f"{NULLS} / {PLAIN}", ratio(times, NULLS, PLAIN), budget="<= 1.50"),
        Row(f"{WHOLE} / {PLAIN}, 16,384 tokens", ratio(whole, WHOLE, PLAIN), budget="<= 1.50"),
        Row(f"{BRIDGED} / {OWN}, same weights and tokens", ratio(bridged, BRIDGED, OWN), budget="<= 2.50"),
        Row(f"a draw of b / {OURS}", (ratio(slow, DRAWS, OURS) - 1) / 2, budget="<= 1.00"),
        Row(f"{INTERVENTIONS} / {OURS}", ratio(slow, INTERVENTIONS, OURS)),
        Row(STATIC, medians(slow)[STATIC], "s", budget="<= 10"),
        Row(f"{USUAL} / {OURS}", ratio(times, USUAL, OURS), budget=">= 2.5"),
        Row(f"memory, {OURS} / {USUAL}", memory[OURS] / memory[USUAL], budget="<= 0.25"),
        Row("memory, 4 x the corpus / the corpus", longer / memory[OURS], budget="about 1"),
    ]


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

    loop = Settings(batch_size=BATCH, passages=0, nulls=0, shifts=0, fit_tokens=0)
    return {
        PLAIN: plain,
        OURS: lambda: measure(model, documents, [scheme], loop),
        NULLS: lambda: measure(model, documents, [scheme], replace(loop, nulls=64)),
        USUAL: lambda: usual_amplification(model, batches),
    }


def whole_call(model, documents):
    """All that is measured by default, tagging left out, beside the plain forward pass."""
    every = ways(model, documents)
    scheme = Scheme("s", tuple(map(str, range(CLASSES))), False, lambda tokens, *_: tokens)
    return {PLAIN: every[PLAIN], WHOLE: lambda: measure(model, documents, [scheme], Settings(batch_size=BATCH))}


def readers(model, documents):
    """The streaming loop along one and the same direction, of our own class and of its bridge; each opens its reader."""
    scheme, bridge = Scheme("s", tuple(map(str, range(CLASSES))), False, lambda tokens, *_: tokens), model.to_bridge()
    loop = Settings(batch_size=BATCH, passages=0, nulls=0, shifts=0, fit_tokens=0, direction="effective")
    return {
        name: lambda read=read: measure(open_reader(read, context=model.cfg.n_ctx), documents, [scheme], loop)
        for name, read in ((OWN, model), (BRIDGED, bridge))
    }


def slow_ways(model, documents):
    """What costs as many runs as are asked for, and the amplification of the same documents."""
    scheme = Scheme("s", tuple(map(str, range(CLASSES))), False, lambda tokens, *_: tokens)
    settings = Settings(batch_size=BATCH, passages=0, nulls=0)
    tokens = measure(model, documents, [scheme], settings).tokens
    return {
        OURS: lambda: measure(model, documents, [scheme], settings),
        DRAWS: lambda: measure(model, documents, [scheme], replace(settings, bias_samples=2)),
        INTERVENTIONS: lambda: intervene(
            model, documents, [scheme], InterventionSettings(where="all,layers", scales=(0, 2), batch_size=BATCH)
        ),
        STATIC: lambda: static_tables(model, tokens, ["s"], min_count=1),
    }


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
    command = [sys.executable, "-m", "tests.bench.analysis", name, str(contexts)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(peak_megabytes(sys.argv[1], int(sys.argv[2]))))

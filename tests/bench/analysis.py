"""Amplification against a plain forward pass and against the usual way: time, and memory in processes of their own.

python -m tests.bench.analysis NAME CONTEXTS [TYPES]    peak memory of one way in this process (used by the rows)
"""

import json
import subprocess
import sys
import time
from copy import deepcopy
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
from tests.bench.parts import LOOP, parts_timed
from tests.bench.timing import Row, medians, seconds
from tests.bench.usual import usual_amplification

CLASSES, BATCH, CONTEXTS = 32, 2, 8
PLAIN, OURS, USUAL = "plain forward with logits", "amplification", "run_with_cache + groupby"
DRAWS, STATIC = "amplification with 2 draws of b", "static tables"
CALL, WHOLE = "the whole call without evidence", "the whole call with its defaults"
INTERVENED = "interventions of all layers and of all together, 2 scales, one control each"
OWN, BRIDGED = "our own class", "a bridged model"
FEW = 1  # contexts, of what takes many runs
TYPES = 1000  # of tokens, where memory is to depend on the length of a text alone: each type has sums of its own
MANY = 32  # contexts, 16,384 tokens, of the whole call: some of its costs do not grow with the text
NO_EVIDENCE = Settings(batch_size=BATCH, nulls=0, shifts=0, fit_tokens=0)


def rows():
    """Times and peak memory, and their ratios; seconds are those of the processor, for this process alone."""
    yield from whole_rows(*model_and_documents(MANY))
    yield from half_rows(*model_and_documents(CONTEXTS // 2))
    yield from memory_rows()
    yield from intervention_rows(*model_and_documents(2 * FEW))
    few = once(slow_ways(*model_and_documents(FEW)))
    yield Row(f"a draw of b / {OURS}", (few[DRAWS] / few[OURS] - 1) / 2, budget="<= 1.00")
    yield Row(STATIC, few[STATIC], "s", budget="<= 10")
    bridged = once(readers(*model_and_documents(CONTEXTS // 2)))
    yield Row(f"{BRIDGED} / {OWN}, same weights and tokens", bridged[BRIDGED] / bridged[OWN], budget="<= 2.50")


def once(functions):
    """Seconds of one run of each: for ratios that are far from their budgets, or of runs that are long."""
    return medians(seconds(functions, repeats=1, clock=time.process_time, warm_up=False))


def whole_rows(model, documents):
    """The loop, the call, the usual way, and the call with all evidence, tagging left out; and what each part of it takes.

    The plain forward pass is run over the first half of the documents before them, and over the other half after them.
    """
    scheme, half = classes(), len(documents) // 2
    before, after = (ways(model, part)[PLAIN] for part in (documents[:half], documents[half:]))
    ways(*model_and_documents(1))[PLAIN]()  # warm up
    taken, parts = [once({PLAIN: before})[PLAIN]], {}
    for name, settings in ((CALL, NO_EVIDENCE), (WHOLE, Settings(batch_size=BATCH))):
        with parts_timed() as parts[name]:
            taken.append(once({name: lambda of=settings: measure(model, documents, [scheme], of)})[name])
        if name == CALL:
            usual = once({USUAL: ways(model, documents)[USUAL]})[USUAL]
    taken.append(once({PLAIN: after})[PLAIN])
    unit = taken[0] + taken[-1]
    yield Row(f"{PLAIN}, 16,384 tokens", unit, "s")
    yield Row(f"the streaming loop / {PLAIN}", parts[CALL].pop(LOOP) / unit, budget="<= 0.85")
    yield Row(f"{CALL} / {PLAIN}", taken[1] / unit, budget="<= 1.10")
    yield Row(f"{USUAL} / {CALL}", usual / taken[1], budget=">= 2.5")
    yield Row(f"{WHOLE} / {PLAIN}", taken[2] / unit, budget="<= 1.50")
    spent = {name: value for name, value in parts[WHOLE].items() if name != LOOP}
    spent["everything else: batches, sums by type, putting tables together"] = taken[2] - sum(spent.values())
    for name, value in sorted(spent.items(), key=lambda part: -part[1]):
        yield Row(f"  of it {name}", value / unit)


def half_rows(model, documents):
    """The call without evidence in bfloat16 against the same in float32.

    The budget stands where the processor has matrix units for it.
    """
    functions = {
        name: lambda of=each: measure(of, documents, [classes()], NO_EVIDENCE)
        for name, each in (("float32", model), ("bfloat16", deepcopy(model).to(torch.bfloat16)))
    }
    taken, units = once(functions), torch.cpu._is_amx_tile_supported()
    where = "" if units else ", on a processor without matrix units for it, where there is no budget"
    name = f"{CALL} in bfloat16 / in float32{where}"
    yield Row(name, taken["bfloat16"] / taken["float32"], budget="<= 0.50" if units else "")


def memory_rows():
    """Peak memory above the weights, against the usual way, and that it does not grow with the corpus."""
    memory = {name: measured_memory(name, CONTEXTS // 2) for name in (OURS, USUAL)}
    short, longer = (measured_memory(OURS, contexts, TYPES) for contexts in (CONTEXTS // 2, 2 * CONTEXTS))
    yield from (Row(name, value, "MB") for name, value in memory.items())
    yield Row(f"memory, {OURS} / {USUAL}", memory[OURS] / memory[USUAL], budget="<= 0.25")
    yield Row(f"memory, 4 x the corpus of {TYPES:,} token types / the corpus", longer / short, budget="about 1")


def intervention_rows(model, documents):
    """Interventions against as many plain forward passes as they are runs; those are timed before and after."""
    found = []
    asked = InterventionSettings(
        attention="changed", where="all,layers", scales=(0, 2), random_directions=1, batch_size=FEW
    )
    plain = ways(model, documents)[PLAIN]
    before = medians(seconds({PLAIN: plain}, clock=time.process_time))[PLAIN]
    intervened = once({INTERVENED: lambda: found.append(intervene(model, documents, [classes()], asked))})[INTERVENED]
    after = medians(seconds({PLAIN: plain}, clock=time.process_time, warm_up=False))[PLAIN]
    runs = found[0].run["runs"]
    ratio = intervened / ((before + after) / 2) / runs
    yield Row(f"{INTERVENED} / {PLAIN} of the same tokens, by run ({runs} runs)", ratio, budget="<= 0.60")


def classes():
    """The scheme of the documents."""
    return Scheme("s", tuple(map(str, range(CLASSES))), False, lambda tokens, *_: tokens)


def model_and_documents(contexts=CONTEXTS, types=None):
    """GPT-2-small shapes with random weights, and random documents of half a context each, of all token types or some."""
    config = preset("gpt2-124m", "bqbv", activation="gelu")
    model = HookedSymmetryBrokenTransformer(config, train_tokenizer(["one two three"], 300)).eval()
    random, types = np.random.default_rng(0), types or config.d_vocab
    documents = [
        TaggedDocument(d, Document("", ""), random.integers(types, size=256), np.zeros((256, 2), dtype=np.int64),
                       {"s": random.integers(CLASSES, size=256)})
        for d in range(2 * contexts)
    ]  # fmt: skip
    return model, documents


def ways(model, documents):
    """What is compared, by name: each a function of no arguments."""
    batches = list(pack(documents, model.cfg.n_ctx, BATCH, 0))

    @torch.no_grad()
    def plain():
        for contexts in batches:
            model(contexts.tokens)

    return {
        PLAIN: plain,
        OURS: lambda: measure(model, documents, [classes()], replace(NO_EVIDENCE, passages=0)),
        USUAL: lambda: usual_amplification(model, batches),
    }


def readers(model, documents):
    """The streaming loop along one and the same direction, of our own class and of its bridge; each opens its reader."""
    bridge, loop = model.to_bridge(), replace(NO_EVIDENCE, passages=0, direction="effective")
    return {
        name: lambda read=read: measure(open_reader(read, context=model.cfg.n_ctx), documents, [classes()], loop)
        for name, read in ((OWN, model), (BRIDGED, bridge))
    }


def slow_ways(model, documents):
    """What costs as many runs as are asked for, and the amplification of the same documents."""
    settings = Settings(batch_size=BATCH, passages=0, nulls=0)
    tokens = measure(model, documents, [classes()], settings).tokens
    return {
        OURS: lambda: measure(model, documents, [classes()], settings),
        DRAWS: lambda: measure(model, documents, [classes()], replace(settings, bias_samples=2)),
        STATIC: lambda: static_tables(model, tokens, ["s"], min_count=1),
    }


def peak_megabytes(name, contexts, types=None):
    """Peak resident memory of one way above what the process held before it, in a process of its own (Linux)."""
    model, documents = model_and_documents(contexts, types)
    function = ways(model, documents)[name]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1024


def _status(field):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1])  # kB


def measured_memory(name, *numbers):
    command = [sys.executable, "-m", "tests.bench.analysis", name, *map(str, numbers)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(peak_megabytes(sys.argv[1], *map(int, sys.argv[2:]))))

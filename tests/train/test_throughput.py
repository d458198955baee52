import platform
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from interp.model.config import ModelConfig, preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.measures import DATA_SHEET, H100, flops_per_token, peak_flops, training_seconds

BLOCKS = {
    "gpt2": {},
    "grouped": {"n_heads": 6, "n_key_value_heads": 2, "d_head": 10},
    "llama": {"norm": "rms", "activation": "swiglu", "positional": "rope", "learned_biases": "none", "tied": False},
    "one key head": {"n_heads": 4, "n_key_value_heads": 1, "activation": "swiglu", "d_mlp": 20, "qk_norm": True},
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("n_layers", "d_model", "n_ctx", "d_vocab"), [(2, 24, 16, 50), (3, 48, 32, 300), (1, 16, 64, 20)]
)
def test_the_formula_counts_what_torch_counts_for_a_step(n_layers, d_model, n_ctx, d_vocab, block):
    sizes = {"n_layers": n_layers, "d_model": d_model, "n_heads": 2, "n_ctx": n_ctx, "d_vocab": d_vocab}
    cfg = ModelConfig(**{**sizes, **BLOCKS[block]})
    model = HookedSymmetryBrokenTransformer(cfg)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(3, n_ctx, dtype=torch.long), return_type="loss").backward()
    assert flops_per_token(cfg) * 3 * n_ctx == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_peak_is_a_rate_that_a_product_of_half_the_size_does_not_exceed_by_much():
    peak = peak_flops(torch.device("cpu"), torch.float32)
    assert 1e8 < peak < 1e16


def test_the_papers_run_takes_a_quarter_of_an_hour_at_45_percent_of_an_h100():
    cfg = preset("gpt2-124m", "bqbv")
    per_token = 6 * (12 * (12 * 768**2 + 10 * 768 + 3072) + 50304 * 768) + 12 * 12 * 768 * 512
    assert flops_per_token(cfg) == pytest.approx(per_token, rel=0.001)
    seconds = training_seconds(cfg, 500_000_000, 0.45 * DATA_SHEET[H100])
    assert seconds == pytest.approx(500e6 * per_token / 0.45 / 989.4e12, rel=0.001)
    assert 14 < seconds / 60 < 16


FAULTS = """
import resource, torch
from interp.train.step import keep_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2048, 8192)  # 64 MiB, 16,384 pages
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

pages()
keep_memory()
pages()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other ways")
def test_a_process_that_keeps_memory_does_not_fetch_its_pages_again():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    before, kept = map(int, found.split())
    assert 0 < kept < before / 5  # in one round of twenty they are new, and the heap grows by more

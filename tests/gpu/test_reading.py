"""Amplification on a device finds what it finds on the CPU, in memory that does not grow with the text."""

import numpy as np
import pytest
import torch

import interp
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from tests.conftest import TEXT

COLUMNS = ("share", "log2_amplification", "bias_score_mean")


def test_amplification_of_a_bundled_model_is_what_the_cpu_finds(device):
    asked = {"schemes": ("surface",), "pipeline": "blank:en", "workers": 0, "nulls": 0, "shifts": 0, "passages": 0}
    tables = [
        interp.amplification(interp.load_model("tiny-bqbv", device=name), [TEXT], **asked).heads
        for name in ("cpu", device)
    ]
    for column in COLUMNS:
        exact, found = (table[column].to_numpy(float) for table in tables)
        assert np.isfinite(exact).any()
        np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4, err_msg=column)


def test_memory_does_not_grow_with_the_text(cuda, make_model, make_documents, make_scheme):
    model, scheme = make_model(n_ctx=256).to(cuda), make_scheme("s", 8)
    peaks = []
    for count in (8, 8, 64):  # the first warms up
        documents = make_documents([scheme], model.cfg.d_vocab, [256] * count)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        measure(model, documents, [scheme], Settings(batch_size=4, passages=0, nulls=0, shifts=0, fit_tokens=0))
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[2] == pytest.approx(peaks[1], rel=0.05)

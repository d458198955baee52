"""Where a check runs: on the CPU in every run of the tests, and, marked `gpu`, on a CUDA device where there is one."""

import os

import pytest
import torch

from tests.gpu.runs import smallest

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which torch wants before it calls a product repeatable
CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")],
)


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    """The device that a check runs on."""
    return request.param


@pytest.fixture(params=[CUDA])
def cuda(request):
    """The device of a check that has no meaning elsewhere."""
    return request.param


@pytest.fixture(autouse=True)
def _smallest():
    with smallest():
        yield

"""Small random models and documents that many tests use, and a browser."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch

from interp.data.classes.built_in import Scheme
from interp.data.contexts import TaggedDocument
from interp.data.corpora.corpus import Document
from interp.data.tokenizer import train_tokenizer
from interp.model.config import BiasConfig, ModelConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer
from tests import commands

TEXT = (
    "The quick brown fox doesn't jump over 13 lazy dogs; it sleeps. In 1905 Albert Einstein published four papers, "
    "and none of them mentions a fox. Why would they? Prices rose by $5.30 to 12% in well-known markets."
)


hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine takes longer, and is no fault
hypothesis.settings.load_profile("no deadline")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background jobs inherit that; Ctrl-C is tested here
    signal.signal(signal.SIGINT, signal.default_int_handler)


gc.disable()  # until all tests are collected: nothing of that is garbage


def pytest_xdist_auto_num_workers(config):
    """One more than there are cores: a test that waits, for a browser or for processes, leaves its core to others."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    try:
        return (yield)
    finally:
        gc.freeze()  # and nothing of it is looked through again
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _parent_of_commands():
    yield
    commands.end()


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """Tags are kept where no other module and no user has any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([TEXT] * 3, 300)


@pytest.fixture(scope="session")
def make_model(tokenizer):
    def make(seed=0, std=0.2, **changes):
        """A model with large random weights, so that heads attend unevenly and every part matters."""
        sizes = {"n_layers": 2, "d_model": 24, "n_heads": 3, "n_ctx": 20, "d_vocab": len(tokenizer)}
        biases = {"q": BiasConfig(0.5, (0.05, 0.15), "batch"), "v": BiasConfig(0.3, 0.05, "batch")}
        config = ModelConfig(**{**sizes, **biases, "seed": seed, **changes})
        model = HookedSymmetryBrokenTransformer(config, tokenizer)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_documents():
    def make(schemes, d_vocab, lengths, seed=0):
        random = np.random.default_rng(seed)
        return [
            TaggedDocument(
                index,
                Document(str(index), "text"),
                random.integers(d_vocab, size=length),
                np.zeros((length, 2), dtype=np.int64),
                {s.name: random.integers(len(s.classes), size=length) for s in schemes},
            )
            for index, length in enumerate(lengths)
        ]

    return make


@pytest.fixture(scope="session")
def make_scheme():
    def make(name, n_classes):
        return Scheme(name, tuple(f"{name}{c}" for c in range(n_classes)), False, lambda tokens, *_: tokens)

    return make


@pytest.fixture
def unchecked():
    """Switch the type checker off, to see what users see who pass a value of the wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()

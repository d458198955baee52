"""A corpus small enough to train on in a test, and settings for it."""

import functools
import json

import numpy as np
import pytest

from interp.train.config import TrainConfig

WORDS = "the quick brown fox jumps over a lazy dog while nine wise owls watch from tall trees"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Sixteen documents of random words, so that two are held out."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(16):
        (folder / f"{number:02}.txt").write_text(" ".join(random.choice(WORDS.split(), 400)) + ".")
    return folder


@pytest.fixture(scope="session")
def make_config(corpus):
    def make(**changes):
        settings = {"corpus": str(corpus), "preset": "mini", "steps": 30, "batch_size": 8, "context": 16, "lr": 3e-3}
        return TrainConfig(**{**settings, "evaluate_every": 10, **changes})

    return make


@pytest.fixture
def config(make_config, tmp_path):
    return functools.partial(make_config, output=tmp_path / "run")


@pytest.fixture(scope="session")
def curve():
    def read(folder):
        return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]

    return read

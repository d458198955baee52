"""A corpus small enough to train on in a test."""

import numpy as np
import pytest

WORDS = "the quick brown fox jumps over a lazy dog while nine wise owls watch from tall trees"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Sixteen documents of random words, so that two are held out."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(16):
        (folder / f"{number:02}.txt").write_text(" ".join(random.choice(WORDS.split(), 400)) + ".")
    return folder

"""A plan small enough to carry out in a test, and tables of results with random numbers."""

import numpy as np
import pandas as pd
import pytest

from interp.replicate.plan import Plan, scale
from interp.replicate.results import AMPLIFICATION, KEYS

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "1", "2", "3", "while", "owls", "watch"]


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """Sixteen documents of random words, so that two are held out."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("text")
    for number in range(16):
        (folder / f"{number:02}.txt").write_text(" ".join(random.choice(WORDS, 400)) + ".")
    return folder


@pytest.fixture
def small_plan(text):
    def make(**changes):
        settings = {
            "preset": "mini",
            "steps": 4,
            "batch_size": 2,
            "evaluate_every": 2,
            "validation_tokens": 300,
            "context": 512,
        }
        usual = {
            "about": "A test.", "corpus": str(text), "vocabulary": 300, "settings": settings,
            "optimizers": {"adamw": {}}, "learning_rates": {"adamw": 0.01}, "variants": ["symmetric", "bq"], "seeds": [0],
        }  # fmt: skip
        return Plan(**{**usual, **changes})

    return make


@pytest.fixture
def random_table():
    """The table of a whole `tiny` plan, every run measured, with random numbers."""

    def make(seed=0):
        random = np.random.default_rng(seed)
        table = pd.DataFrame([{name: getattr(cell, name) for name in KEYS} for cell in scale("tiny").cells()])
        metrics = ["validation_loss", *AMPLIFICATION, "puzzles_top1", "puzzles_first_token_loss", "puzzles_accuracy",
                   "copying_top1", "syntax_accuracy"]  # fmt: skip
        numbers = {name: random.normal(size=len(table)) for name in metrics}
        return table.assign(lr=0.1, status="measured", **numbers)

    return make

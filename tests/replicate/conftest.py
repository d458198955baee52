"""A plan small enough to carry out in a test, tables of results with random numbers, and measurements that are made up."""

import json

import numpy as np
import pandas as pd
import pytest

from interp.replicate.jobs import MEASURED, RATES, TRAINED, write_json
from interp.replicate.plan import PLAN, Plan, scale, store_plan
from interp.replicate.results import AMPLIFICATION, GIVEN_BACK, KEYS, PUZZLES, USES

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
        metrics = ["validation_loss", *AMPLIFICATION, *USES, "puzzles_top1", "puzzles_first_token_loss", "puzzles_accuracy",
                   "copying_top1", "syntax_accuracy"]  # fmt: skip
        numbers = {name: random.normal(size=len(table)) for name in metrics}
        own = np.where(table["variant"] == "symmetric", "matrix", "own")
        return table.assign(lr=0.1, status="measured", direction=own, **numbers)

    return make


@pytest.fixture(scope="session")
def made():
    """A function that makes up what was measured of every run of a plan, and returns the plan.

    `change(cell, numbers)` may change the numbers of a run: its loss, those of its amplification, and `cost`, `control`,
    `position`, `type` and `class`, nats that a bias gives back of the cost. Documents weigh alike in all runs.
    """

    def make(root, change=lambda cell, numbers: numbers, plan=None, documents=12):
        plan, length = plan or scale("tiny"), 3000
        places = np.random.default_rng(0).multinomial(documents, np.full(documents, 1 / documents), size=50) / documents
        of_document = np.random.default_rng(1).normal(size=documents)
        store_plan(plan, root / PLAN)
        write_json(root / RATES, {name: {"lr": 0.1, "losses": {"0.1": 6.0}} for name in plan.optimizers})
        for number, cell in enumerate(plan.cells()):
            noise = np.random.default_rng([7, number])
            own = {name: 0.3 + 0.01 * noise.normal() for name in AMPLIFICATION} | {"pairs": 100, "findings": 10}
            own |= {
                "loss": 5 + 0.01 * noise.normal(),
                "cost": 0.2,
                "control": 0.1,
                "position": 0.1,
                "type": 0.1,
                "class": 0.1,
            }
            own = change(cell, own)

            def drawn(value, scale=0.01, noise=noise):
                each = of_document + 0.1 * noise.normal(size=documents)
                return (value + scale * places @ (each - each.mean())).tolist()

            each = 0.2 * of_document + 0.01 * noise.normal(size=documents)
            losses = own["loss"] + each - each.mean()
            counts = {"n_tokens": [length] * documents, "loss": losses.tolist()}
            measured = {
                "loss": {"loss": own["loss"], "low": own["loss"] - 0.1, "high": own["loss"] + 0.1, "documents": counts},
                "direction": "matrix" if cell.variant == "symmetric" or cell.ablation == "zero-mean" else "own",
                "amplification": {name: own[name] for name in AMPLIFICATION},
                "replicates": {name: drawn(own[name]) for name in ("rms_amplification", "rms_beyond")},
                "puzzles": [{"family": "copying", "kind": "completion", **dict.fromkeys(PUZZLES, 0.1)}],
            }
            if measured["direction"] == "own":
                unchanged, cost = 5.0, own["cost"]
                kept = {"nothing": 0, **{name: own[name] for name in GIVEN_BACK}}
                drawn_losses = {name: drawn(unchanged + cost - back, 0.001) for name, back in kept.items()}
                measured["uses"] = {
                    "control": {"control_mean": own["control"]},
                    "replicates": drawn_losses | {"unchanged": [unchanged] * len(places)},
                }
            folder = root / "runs" / cell.name
            folder.mkdir(parents=True)
            (folder / MEASURED).write_text(json.dumps(measured))
            trained = {"settings": {}, "tokens": 1000, "diverged": None, "validation_loss": own["loss"]}
            trained |= {"best_batch_validation_loss": own["loss"] - 0.3}
            (folder / TRAINED).write_text(json.dumps(trained))
        return plan

    return make

"""What is measured of a trained run: held-out loss, puzzles, and what its heads amplify."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from interp.data.corpus import Corpus
from interp.evals.held_out import open_held_out
from interp.evals.loss_tables import held_out_loss
from interp.evals.puzzles import evaluate
from interp.files import writing
from interp.model.checkpoint import load_model
from interp.model.presets import QUERY_BIAS
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.replicate.amplified import summary
from interp.replicate.files import read_json, write_json
from interp.replicate.jobs import SHARDS, TRAINED, Job
from interp.replicate.plan import Plan
from interp.reporting import amplification
from interp.train.config import TrainConfig

SCHEMES = ("pos", "function", "freq")
HEADS = "heads.parquet"


def measure_run(plan: Plan, job: Job) -> None:
    """Measure the checkpoint of a run, the weights with the lowest held-out loss; of one that diverged, nothing."""
    trained = read_json(job.folder / TRAINED)
    found = {"diverged": True} if trained["diverged"] else measured(plan, job)
    write_json(job.done, found)


def measured(plan: Plan, job: Job) -> dict[str, Any]:
    """Return the measurements of a run as plain values, and write its table of heads beside them."""
    assert job.cell is not None
    model = load_model(job.folder)
    most = TrainConfig(**plan.training(job.cell)).validation_tokens
    held_out = open_held_out(model.need_tokenizer(), SHARDS)
    loss = held_out_loss(model, held_out, (), max_tokens=most)
    amplified = _amplified(plan, job, model, held_out)
    return {"loss": _plain(loss.overall)[0], "puzzles": _puzzles(plan, model), **amplified}


def _puzzles(plan: Plan, model: HookedSymmetryBrokenTransformer) -> list[dict[str, Any]]:
    return _plain(evaluate(model, seed=plan.measuring.seed, n_items=plan.measuring.puzzles).families)


def _amplified(plan: Plan, job: Job, model: HookedSymmetryBrokenTransformer, held_out: Corpus) -> dict[str, Any]:
    """Measure along the run's own mean b_Q; where it has none, along that of the matrix, as a twin for comparison."""
    own = bool(model.mean_biases()[0].any())
    result = amplification(
        model, held_out, SCHEMES, max_tokens=plan.measuring.max_tokens,
        direction="bias" if own else QUERY_BIAS.profile("mean", model.cfg.d_head), nulls=plan.measuring.nulls,
        seed=plan.measuring.seed, passages=1, workers=0,
    )  # fmt: skip
    with writing(job.folder / HEADS) as beside:
        result.heads.to_parquet(beside, index=False)
    return {"direction": "own" if own else "matrix", "amplification": _plain(pd.DataFrame([summary(result)]))[0]}


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON, with null where there is no number."""
    return json.loads(table.to_json(orient="records", double_precision=12) or "")

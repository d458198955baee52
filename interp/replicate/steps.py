"""What the jobs do: token shards, short runs that choose learning rates, the runs themselves, and measuring them."""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast

from interp.analysis import findings as evidence
from interp.analysis.findings import FEW_TOKENS
from interp.analysis.fitted import LEAST_DOCUMENTS
from interp.analysis.measurements.explained import overview
from interp.analysis.measurements.shares import replicate_values
from interp.analysis.measurements.top_tokens import enrichment_table
from interp.analysis.result import Amplification
from interp.api import amplification, uses
from interp.data.corpora.corpus import Corpus
from interp.data.shards.config import PrepareConfig
from interp.data.shards.prepare import prepare
from interp.errors import InterpError
from interp.evals.held_out import held_out_loss, open_held_out
from interp.evals.puzzles import evaluate
from interp.files import writing
from interp.model.checkpoint import load_model
from interp.model.config import QUERY_BIAS
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.replicate.jobs import SHARDS, TRAINED, Job, grid_of, read_json, settings_of, write_json
from interp.replicate.plan import Plan
from interp.train.checkpoints import prune, sweep_run
from interp.train.config import TrainConfig
from interp.train.loop import Diverged, train
from interp.train.records import CURVE, read_rows

MOST_ALIGNED = 50  # tokens of a head whose classes are counted
SCHEMES = ("pos", "function", "freq")
CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "function": ("function", ("function",)),
    "frequent": ("freq", ("freq 1 (most frequent)", *(f"freq {n}" for n in range(2, 6)))),
    "rare": ("freq", ("freq 9", "freq 10 (rarest)")),
    "number": ("function", ("number",)),
}
"""What is counted, as classes of a scheme. Frequent tokens are those that make up half of all text: one of them is one of
many types, where the most frequent tenth is no more than a few."""


def make_shards(plan: Plan, job: Job) -> None:
    """Turn the corpus into token shards."""
    chosen = {name: getattr(plan, name) for name in ("tokenizer", "border", "vocabulary", "documents", "text_field")}
    prepare(PrepareConfig(plan.corpus, SHARDS, **chosen, workers=0))
    write_json(job.done, {"corpus": plan.corpus, **chosen})


def train_run(job: Job) -> None:
    """Train a run, or go on where it was stopped, and keep what it came to.

    A loss that is not finite is a result, too: of a learning rate that is too high.

    Raises:
        InterpError: bad input.
        Stopped: a signal came; everything is saved.
    """
    diverged = None
    try:
        train(TrainConfig(**job.settings, resume=True))
    except Diverged as error:
        diverged = str(error)
    rows = read_rows(job.folder / CURVE)
    measured = [row["validation_loss"] for row in rows if "validation_loss" in row]
    result = {"steps": len(rows), "tokens": rows[-1]["tokens"] if rows else 0, "diverged": diverged}
    result["validation_loss"] = None if diverged else measured[-1]
    result["best_validation_loss"] = min(measured, default=None)
    batches = [row["batch_validation_loss"] for row in rows if "batch_validation_loss" in row]
    if batches:
        result["best_batch_validation_loss"] = min(batches)
    write_json(job.done, {"settings": settings_of(job), **result})
    tidy(job.folder)


def tidy(run: Path) -> None:
    """Remove the states of a trained run, of no more use; who reads it does so again, as a kill may have come first."""
    prune(run, keep=0)
    sweep_run(run)


def choose_rates(plan: Plan, job: Job) -> None:
    """Write the learning rate of every optimizer, with the losses of the short runs that chose it; see `grid_of`.

    Raises:
        InterpError: all short runs of an optimizer diverged.
    """
    chosen = {}
    for name in plan.optimizers:
        for trial in grid_of(plan, name).values():
            tidy(trial.folder)
        trials = {lr: read_json(trial.folder / TRAINED) for lr, trial in grid_of(plan, name).items()}
        losses = {lr: trained["validation_loss"] for lr, trained in trials.items()}
        chosen[name] = {"lr": best_rate(name, losses) if losses else plan.learning_rates[name], "losses": losses}
    write_json(job.done, chosen)


def best_rate(optimizer: str, losses: Mapping[float, float | None]) -> float:
    """Return the learning rate with the lowest loss, the lower of two that are alike; None is a run that diverged.

    Raises:
        InterpError: all of them diverged.
    """
    finite = {rate: loss for rate, loss in sorted(losses.items()) if loss is not None}
    if not finite:
        raise InterpError(
            f"All {len(losses)} learning rates of {optimizer} diverged; give the plan a lower centre of its grid."
        )
    return min(finite, key=lambda rate: finite[rate])


def measure_run(plan: Plan, job: Job) -> None:
    """Measure the checkpoint of a run, the weights with the lowest held-out loss; of one that diverged, nothing."""
    tidy(job.folder)
    diverged = read_json(job.folder / TRAINED)["diverged"]
    write_json(job.done, {"diverged": True} if diverged else measured(plan, job))


def measured(plan: Plan, job: Job) -> dict[str, Any]:
    """Return the measurements of a run as plain values, and write its table of heads beside them."""
    assert job.cell is not None
    model = load_model(job.folder)
    most = TrainConfig(**plan.training(job.cell)).validation_tokens
    held_out = open_held_out(model.need_tokenizer(), SHARDS)
    loss = held_out_loss(model, held_out, (), max_tokens=most)
    puzzles = evaluate(model, seed=plan.measuring.seed, n_items=plan.measuring.puzzles).families
    documents = {name: loss.documents[name].tolist() for name in ("n_tokens", "loss")}
    found = {"loss": {**_plain(loss.overall)[0], "documents": documents}, "puzzles": _plain(puzzles)}
    found |= _amplified(plan, job, model, held_out)
    if plan.measuring.uses_tokens and found["direction"] == "own":
        found["uses"] = _uses(plan, model, held_out)
    return found


def summary(result: Amplification) -> dict[str, float]:
    """Return what the heads of a run do, over all heads and the parts of speech with at least 100 tokens.

    - rms_amplification: root mean square of A, in doublings;
    - rms_position, rms_beyond: the same of what position alone gives and of what is beyond; rms_shifted of labels shifted
      along the documents, which mean nothing;
    - pairs, findings: of head and class, and those of them that are findings (`interp.analysis.findings`);
    - beyond_shifted: share of the pairs whose A beyond position is beyond shifted labels (q < 0.05);
    - singled_out: share of the pairs whose contrast is beyond directions that spread the keys as much, position removed
      (q < 0.05);
    - key_spread, eta2_position, eta2_type, eta2_class: of the bias score, in the median head (`measurements.explained`);
      eta2_position_control, eta2_class_control: the same along directions of equal spread;
    - amplification_CLASS: A of function words, of the most frequent half and of the rarest fifth of tokens, and of numbers,
      the mean over heads;
    - enrichment_CLASS: how over-represented the class is among the 50 token types that a head's direction points at most,
      as log2 of an odds ratio (`interp.analysis.measurements.top_tokens`), in the median head.
    """
    heads = result.heads
    enough = (heads["scheme"] == "pos") & (heads["token_class"] != "bos") & (heads["n_tokens"] >= FEW_TOKENS)
    numbers = {"rms_amplification": np.sqrt(np.square(heads.loc[enough, "log2_amplification"]).mean())}
    for name, (scheme, classes) in CLASSES.items():
        own = heads.loc[(heads["scheme"] == scheme) & heads["token_class"].isin(classes)]
        shares = own.groupby(["layer", "head"])[["share", "share_unbiased"]].sum()
        numbers[f"amplification_{name}"] = np.log2(shares["share"] / shares["share_unbiased"]).mean()
    found = {**numbers, **_evidence(result), **_enrichments(result.tokens)}
    return {name: float(value) for name, value in found.items()}


def _evidence(result: Amplification) -> dict[str, float]:
    """What of A is beyond position and what its controls give, and what the bias score varies with."""
    [sizes] = evidence.summary(result).query("scheme == 'pos'").to_dict("records")
    varies = overview(result.tables["explained"])["pos"]
    return {
        **{name: sizes[name] for name in ("rms_position", "rms_beyond", "rms_shifted", "pairs", "findings")},
        "beyond_shifted": sizes["beyond_shifted"] / sizes["pairs"] if sizes["pairs"] else np.nan,
        "singled_out": sizes["beyond_equal_spread"] / sizes["pairs"] if sizes["pairs"] else np.nan,
        **{name: varies[name] for name in ("key_spread", "eta2_position", "eta2_type", "eta2_class")},
        **{name: varies[name] for name in ("eta2_position_control", "eta2_class_control")},
    }


def _amplified(plan: Plan, job: Job, model: HookedSymmetryBrokenTransformer, held_out: Corpus) -> dict[str, Any]:
    """Measure along the run's own mean b_Q; where it has none, along that of the matrix, as a twin for comparison."""
    own = bool(model.mean_biases()[0].any())
    most = plan.measuring.max_tokens
    result = amplification(
        model, beginnings_of(held_out, model.need_tokenizer(), most), SCHEMES, max_tokens=most,
        direction="bias" if own else QUERY_BIAS.profile("mean", model.cfg.d_head), nulls=plan.measuring.nulls,
        seed=plan.measuring.seed, passages=1, workers=0,
    )  # fmt: skip
    with writing(job.folder / "heads.parquet") as beside:
        result.heads.to_parquet(beside, index=False)
    found = {"amplification": _plain(pd.DataFrame([summary(result)]))[0], "replicates": rms_replicates(result)}
    return {"direction": "own" if own else "matrix", **found}


def beginnings_of(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, tokens: int) -> Corpus:
    """Return a corpus of the beginnings of documents, of each at most a twentieth of so many tokens.

    Intervals are over documents, and a few long ones say less than many short ones.
    """
    most = math.ceil(tokens / LEAST_DOCUMENTS)

    def texts(start: int) -> Iterator[tuple[str, str]]:
        for document in islice(corpus, start, None):
            ends = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            yield document.name, document.text[: ends[:most][-1][1]] if ends else ""

    return Corpus(corpus.name, texts)


def rms_replicates(result: Amplification) -> dict[str, list[float | None]]:
    """Return rms_amplification and rms_beyond in every replicate of the bootstrap over documents.

    A replicate weighs a document alike in every run on the same text with the same seed, so means over runs have their
    replicates, too. Resampling adds noise to every A, so the replicates lie above the value: their spread is what counts.
    """
    found, pairs = {}, result.heads.loc[(result.heads["scheme"] == "pos") & evidence.rankable(result.heads)]
    for name, table in (("rms_amplification", "replicates"), ("rms_beyond", "replicates_beyond")):
        values = replicate_values(result.tables[table].loc[pairs.index]).astype(np.float64)
        found[name] = _short(np.sqrt(np.nanmean(values**2, axis=0)))
    return found


def _uses(plan: Plan, model: HookedSymmetryBrokenTransformer, held_out: Corpus) -> dict[str, Any]:
    """Measure what b_Q is used for: costs in nats, shares that are given back, and their replicates over documents."""
    how = plan.measuring
    used = uses(model, held_out, ("pos",), max_tokens=how.uses_tokens, controls=how.controls, seed=how.seed, workers=0)
    overall = used.loss.query("predicted_scheme == 'overall'")
    rows = overall.loc[overall["draw"] == 0].drop_duplicates("keeps").set_index("keeps")
    [control] = used.controls.query("predicted_scheme == 'overall'").to_dict("records")
    given = {name: ["restored", "restored_ci_low", "restored_ci_high"] for name in ("position", "class", "type")}
    found = {"nothing": ["difference", "ci_low", "ci_high"], **given}
    numbers = {name: json.loads(rows.loc[name, columns].to_json(orient="values")) for name, columns in found.items()}
    losses = used.replicates.query("draw == 0").groupby("keeps", sort=False)
    replicates = {name: _short(losses.get_group(name)["loss"]) for name in found}
    replicates["unchanged"] = _short(losses.get_group("nothing")["loss_unchanged"])
    tokens = {name: used.run[name] for name in ("n_tokens", "n_documents")}
    return {
        **tokens,
        **numbers,
        "control": {name: control[name] for name in ("control_mean", "control_sd", "draws")},
        "replicates": replicates,
    }


def _short(values: Any) -> list[float | None]:
    """Six figures of each, None where there is no number: a replicate may leave out all of few documents."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON, with null where there is no number."""
    return json.loads(table.to_json(orient="records", double_precision=12) or "")


def _enrichments(tokens: pd.DataFrame) -> dict[str, float]:
    """The median over heads of the log2 odds of each class among the most aligned tokens."""
    tokens = tokens.loc[tokens["function"] != "bos"]
    places = [tokens[name].to_numpy(np.int64) for name in ("layer", "head", "token_index")]
    alignment = np.full([place.max() + 1 for place in places], np.nan, dtype=np.float32)
    alignment[tuple(places)] = tokens["alignment"]
    types = tokens.loc[(tokens["layer"] == 0) & (tokens["head"] == 0)].set_index("token_index")
    count = types["count"].reindex(range(alignment.shape[-1]), fill_value=0).to_numpy(np.int64)
    k = min(MOST_ALIGNED, int((count >= 10).sum()) // 2)
    found = {}
    for name, (scheme, members) in CLASSES.items():
        classes = types[scheme].isin(members).reindex(range(len(count)), fill_value=False).to_numpy(np.int64)
        table = enrichment_table(torch.from_numpy(alignment), count, classes, ["other", name], k)
        top = (table["end"] == "top") & (table["token_class"] == name)
        found[f"enrichment_{name}"] = float(np.median(table.loc[top, "log2_odds"].to_numpy(float)))
    return found

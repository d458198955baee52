"""Puzzles put to a model: one row per item with its scores, one row per family with intervals and chance."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from scipy import stats

from interp.errors import InterpError
from interp.evals.continuations import Continuation, TokenScores, score_continuations
from interp.evals.held_out import DocumentRatios
from interp.evals.puzzles.generate import generate
from interp.evals.puzzles.items import Item
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.provenance import Summarized
from interp.spelling import token_strings
from interp.vocabulary import border_id

Interval = tuple[float, float, float]
NOT_THE_MEAN = (
    "The biases in force are not their means: they were scaled, replaced, drawn or switched off. A model trained with a "
    "bias is to be judged with the mean in force."
)


@dataclass(frozen=True, repr=False)
class PuzzleResult(Summarized):
    """What a model made of puzzles.

    `items` has a row per item: family, number, kind, prompt, expected, worse, distance, group, n_prompt_tokens, n_tokens,
    guess; for completions top1, top5, exact, rank, first_token_loss, completion_loss; for comparisons accuracy, log_ratio.
    `families` has a row per family and, for each of these metrics, its value, `_low`, `_high` and `_chance`; see
    `interp.evals.puzzles.scoring`. Losses are in nats. `run` says what was asked of which model.
    """

    items: pd.DataFrame
    families: pd.DataFrame
    run: dict[str, Any]

    def _summary(self) -> dict[str, str]:
        told = [
            f"{name} {own[metric].mean():.1%} (chance {own[f'{metric}_chance'].mean():.2%})"
            for metric, name in (("top1", "first token right"), ("accuracy", "better continuation preferred"))
            if len(own := self.families.dropna(subset=metric))
        ]
        return {
            "model": str(self.run.get("model", "unknown")),
            "asked": f"{len(self.items):,} items of {len(self.families):,} families",
            "answer": f"Means over families: {', '.join(told)}.", "next": ".families, .items",
        }  # fmt: skip


def evaluate(
    model: HookedSymmetryBrokenTransformer,
    items: Sequence[Item] | None = None,
    *,
    seed: int = 0,
    n_items: int = 200,
    batch_size: int = 32,
    on_scored: Callable[[int], None] = lambda count: None,
) -> PuzzleResult:
    """Put puzzles to a model, each as a document of its own, and score them.

    The model runs in evaluation mode, with its mean biases in force unless a `model.bias` block says otherwise, of which
    a warning is given.

    Args:
        model: with a tokenizer.
        items: from `generate` or `read_items`; by default every family is generated.
        seed, n_items: of the generated items, n_items a family.
        batch_size: texts per forward pass; changes results by float32 rounding only.
        on_scored: hears how many texts each forward pass has scored; a comparison is two.

    Raises:
        InterpError: no items, one longer than n_ctx, no tokenizer, or logits that are not finite.
    """
    asked = generate(seed=seed, n_items=n_items) if items is None else list(items)
    if not asked:
        raise InterpError("There are no items to evaluate; give at least one.")
    told = told_of_biases(model)
    rows = [_continuations(model, item) for item in asked]
    scores = iter(score_continuations(model, [one for own in rows for one in own], batch_size, on_scored))
    table = pd.DataFrame([_row(model, item, own, scores) for item, own in zip(asked, rows, strict=True)])
    table.insert(1, "number", table.groupby("family").cumcount() + 1)
    table["group"] = table["group"].fillna(table["number"])  # an item that was drawn with no other stands for itself
    run = {
        "model": model.cfg.model_name, "d_vocab": model.cfg.d_vocab, "seed": seed if items is None else None,
        "n_items": len(asked), "mean_bias": not told, "warnings": told,
    }  # fmt: skip
    return PuzzleResult(table, families_table(table, model.cfg.d_vocab), run)


def told_of_biases(model: HookedSymmetryBrokenTransformer) -> list[str]:
    """Warn the caller's caller where evaluation mode has other biases than their means, and return what was said."""
    meant = model.bias_q("mean"), model.bias_v("mean")
    if all(torch.equal(found, mean) for found, mean in zip(model.mean_biases(), meant, strict=True)):
        return []
    warnings.warn(NOT_THE_MEAN, stacklevel=3)
    return [NOT_THE_MEAN]


def families_table(items: pd.DataFrame, d_vocab: int) -> pd.DataFrame:
    """Return a row per family and kind of item, in the order of the items; metrics of the other kind are missing."""
    rows = []
    for (family, kind), own in items.groupby(["family", "kind"], sort=False):  # type: ignore[misc] # a pair, not a scalar
        most = own["first_token"].value_counts().iloc[0] / len(own)
        known = {"family": family, "kind": kind, "n": len(own)}
        rows.append(known | {"constant": float(most) if kind == "completion" else np.nan} | _summaries(own, d_vocab))
    return pd.DataFrame(rows)


def share(values: Float64[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Return the mean of hits (1, 0, or a part of one in a tie) with the ends of its interval.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), which stays within 0 and 1 and is not empty where
    no or every hit was made. Source: Wilson, "Probable inference", JASA 1927.
    """
    n, p, z = len(values), float(values.mean()), float(stats.norm.ppf(0.5 + level / 2))
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (float((middle + side * half) / (1 + z**2 / n)) for side in (-1, 1))
    return p, 0.0 if p == 0 else low, 1.0 if p == 1 else high  # exactly, whatever the rounding


def mean(values: Float64[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Return the mean with the ends of its t interval; missing ends for one value."""
    centre = float(values.mean())
    if len(values) < 2:
        return centre, np.nan, np.nan
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values))
    return centre, centre - half, centre + half


def grouped_mean(values: Float64[np.ndarray, " n"], groups: Float64[np.ndarray, " n"]) -> Interval:
    """Return the mean with the ends of its t interval over groups of values, which need not be independent within one.

    In a comparison and its mirror image a liking for one of the words cancels; an interval over items would not know it.
    """
    order, cells = np.argsort(groups, kind="stable"), np.zeros((1, len(values)), dtype=np.int64)
    ratios = DocumentRatios(1)
    ratios.update(groups[order].astype(np.int64), cells, values[order])
    row = ratios.table().iloc[0]
    return float(row["loss"]), float(row["low"]), float(row["high"])


def median(values: Float64[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Return the median with the ends of its interval by order statistics; missing ends for too few values."""
    interval = stats.quantile_test(values, q=0, p=0.5).confidence_interval(confidence_level=level)
    return float(np.median(values)), float(interval.low), float(interval.high)


METRICS: dict[str, Callable[..., Interval]] = {
    "top1": share, "top5": share, "exact": share, "rank": median, "first_token_loss": mean, "completion_loss": mean,
    "accuracy": share,
}  # fmt: skip


def _continuations(model: HookedSymmetryBrokenTransformer, item: Item) -> list[Continuation]:
    """Tokenize prompt and continuation apart, so that what the model sees does not depend on the answer."""
    tokenizer, n_ctx = model.need_tokenizer(), model.cfg.n_ctx
    prefix = [border_id(tokenizer), *tokenizer.encode(item.prompt, add_special_tokens=False)]
    continuations = [list(tokenizer.encode(text, add_special_tokens=False)) for text in item.continuations]
    longest = len(prefix) + max(map(len, continuations)) - 1
    if longest > n_ctx:
        raise InterpError(
            f"An item of the family {item.family!r} needs {longest} positions; this model has n_ctx {n_ctx}: shorten it. "
            f"It begins {item.prompt[:40]!r}."
        )
    return [Continuation(prefix, tokens) for tokens in continuations]


def _row(
    model: HookedSymmetryBrokenTransformer, item: Item, rows: Sequence[Continuation], scores: Iterator[TokenScores]
) -> dict[str, Any]:
    own = [next(scores) for _ in rows]
    known = {
        "family": item.family, "kind": "completion" if item.expected is not None else "comparison",
        "prompt": item.prompt, "expected": item.continuations[0], "worse": item.compare[1] if item.compare else None,
        "distance": item.distance, "group": item.group,
        "n_prompt_tokens": len(rows[0].prefix), "n_tokens": len(rows[0].tokens),
        "first_token": rows[0].tokens[0], "guess": token_strings(model.need_tokenizer(), [own[0].guess])[0],
    }  # fmt: skip
    if item.compare:
        ratio = float(own[1].losses.mean() - own[0].losses.mean())
        return known | {"accuracy": 1.0 if ratio > 0 else 0.5 if ratio == 0 else 0.0, "log_ratio": ratio}
    return known | {
        "top1": float(own[0].within(1)[0]),
        "top5": float(own[0].within(5)[0]),
        "exact": float(own[0].within(1).prod()),
        "rank": own[0].rank,
        "first_token_loss": float(own[0].losses[0]),
        "completion_loss": float(own[0].losses.mean()),
    }


def _summaries(items: pd.DataFrame, d_vocab: int) -> dict[str, float]:
    chances, ends, missing = _chances(items, d_vocab), ("", "_low", "_high", "_chance"), (np.nan,) * 4
    found = {}
    for name, summary in METRICS.items():
        values = items[name].to_numpy(float) if name in items else np.full(len(items), np.nan)
        found[name] = missing if np.isnan(values).any() else (*summary(values), chances[name])
    found["log_ratio"] = missing
    if items["kind"].iloc[0] == "comparison":
        found["log_ratio"] = (*grouped_mean(items["log_ratio"].to_numpy(float), items["group"].to_numpy(float)), 0.0)
    row = {name + end: value for name, values in found.items() for end, value in zip(ends, values, strict=True)}
    return row | {f"ratio{end}": float(np.exp(row[f"log_ratio{end}"])) for end in ends}


def _chances(items: pd.DataFrame, d_vocab: int) -> dict[str, float]:
    loss, exact = float(np.log(d_vocab)), float(d_vocab) ** -items["n_tokens"].to_numpy(float)
    return {
        "top1": 1 / d_vocab, "top5": min(5 / d_vocab, 1.0), "exact": float(exact.mean()), "rank": (d_vocab + 1) / 2,
        "first_token_loss": loss, "completion_loss": loss, "accuracy": 0.5,
    }  # fmt: skip

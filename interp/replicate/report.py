"""The report of a replication in Markdown: what was run, what came out, what the intervals allow to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from interp.files import writing
from interp.replicate.contrasts import Kind, contrasts
from interp.replicate.files import read_json
from interp.replicate.jobs import RATES
from interp.replicate.plan import Plan
from interp.replicate.summaries import (
    difference_text,
    differences_of,
    is_comparable,
    losses,
    markdown,
    means_of,
    number_text,
    state_of,
)

TITLES: dict[Kind, str] = {
    "breaking": "Symmetry breaking", "gap": "Gap to AdamW", "narrowing": "What breaking does to the gap",
    "ablation": "Ablations",
}  # fmt: skip
SAID: dict[Kind, str] = {
    "breaking": "{variant} with {optimizer}, minus symmetric",
    "gap": "{optimizer} minus adamw, {variant}",
    "narrowing": "what {variant} does to {optimizer}, minus what it does to adamw",
    "ablation": "{ablation} instead of the matrix's {variant} with {optimizer}",
}


def write_report(plan: Plan, table: pd.DataFrame, root: Path) -> Path:
    """Write `report.md` into the replication's folder and return it."""
    with writing(root / "report.md") as beside:
        beside.write_text("\n\n".join(sections(plan, table, root)) + "\n", encoding="utf-8")
    return root / "report.md"


def sections(plan: Plan, table: pd.DataFrame, root: Path) -> Iterator[str]:
    """Yield the parts of the report, a heading, paragraph or table each."""
    yield "# Replication"
    yield f"{plan.about} {state_of(table)}"
    yield "## Learning rates\n\n" + _rates(plan, root)
    yield "## Held-out loss"
    yield (
        "Nats per token, means over seeds; differences between runs of the same seed with 95% t intervals. "
        + (
            ""
            if is_comparable(plan)
            else "The published models are larger and saw other text: compare differences only, "
        )
        + "and those were published for one seed."
    )
    yield markdown(losses(plan, table))
    for kind, title in TITLES.items():
        yield f"## {title}"
        yield "\n".join(f"- {sentence}" for sentence in verdicts(table, kind)) or "Not planned."
    yield "## Puzzles"
    yield "Means over families: top 1 and loss of the first token of completions, accuracy of comparisons (chance 0.5)."
    yield markdown(means_of(table, ["puzzles_top1", "puzzles_first_token_loss", "puzzles_accuracy"], ".3f"))
    yield markdown(differences_of(table, "breaking", ["puzzles_top1", "puzzles_first_token_loss", "puzzles_accuracy"]))
    yield "## Amplification"
    yield (
        "Root mean square of A over heads and parts of speech, in doublings; spread of the classes' mean keys along the "
        "direction, as a ratio to random directions (1 is nothing); share of pairs of head and class beyond random "
        "directions (q < 0.05); log2 odds of classes among the 50 most aligned tokens, median head; A of classes, mean over "
        "heads. Frequent tokens are the types that make up half of the text, rare ones those that make up its last fifth. "
        "Runs whose mean b_Q is zero are read along the b_Q of the matrix: what such a bias would do."
    )
    yield markdown(means_of(table, ["rms_amplification", "spread", "significant"]))
    enrichments = [f"enrichment_{name}" for name in ("function", "frequent", "rare", "number")]
    yield markdown(means_of(table, [*enrichments, "amplification_function", "amplification_frequent"]))


def verdicts(table: pd.DataFrame, kind: Kind) -> Iterator[str]:
    """Yield a sentence per contrast of the loss: the mean difference, its interval, and what that allows to say."""
    for contrast in contrasts(table, kind):
        name = SAID[kind].format(optimizer=contrast.optimizer, variant=contrast.variant, ablation=contrast.ablation)
        seeds, (_, low, high) = len(contrast.differences), contrast.interval
        if not seeds:
            yield f"{name}: not measured yet."
        elif np.isnan(low):
            yield f"{name}: {difference_text(contrast)}, one seed, no interval."
        else:
            yield f"{name}: {difference_text(contrast)}, {seeds} seeds: {_said(low, high)}."


def _said(low: float, high: float) -> str:
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "the interval holds 0, no evidence of a difference"


def _rates(plan: Plan, root: Path) -> str:
    rows, notes = [], []
    for name, chosen in read_json(root / RATES).items():
        tried = {float(rate): loss for rate, loss in chosen["losses"].items()}
        shown = ", ".join(f"{rate:g}: {number_text(loss, '.3f')}" for rate, loss in sorted(tried.items())) or "given"
        rows.append({"optimizer": name, "chosen": f"{chosen['lr']:g}", "tried: held-out loss": shown})
        if tried and chosen["lr"] in (min(tried), max(tried)):
            notes.append(f"The learning rate of {name} lies at the end of its grid: a better one may lie beyond.")
    if not rows:
        return "Not chosen yet."
    how = "By short runs of the symmetric variant." if plan.tuning else "As the plan gives them."
    return "\n\n".join([how, markdown(pd.DataFrame(rows)), *notes])

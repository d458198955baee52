"""Tables for people: a row per cell or contrast, numbers as text with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.evals.puzzles.intervals import mean
from interp.replicate.contrasts import Contrast, Kind, by_seed, cell_name, contrasts
from interp.replicate.plan import Plan
from interp.replicate.published import published_difference, published_loss

NOTHING = "–"


def is_comparable(plan: Plan) -> bool:
    """Return whether losses may be held against the published ones: the same model, length and kind of text."""
    return (
        plan.settings.get("preset") == "gpt2-124m"
        and plan.settings.get("tokens") == 500_000_000
        and "fineweb-edu" in plan.corpus.lower()
    )


def state_of(table: pd.DataFrame) -> str:
    """Return how far a replication is, in a sentence."""
    states = list(table["status"])
    known = [name for name in ("measured", "trained", "diverged", "waiting") if name in states]
    return f"{len(states)} runs: {', '.join(f'{states.count(name)} {name}' for name in known)}."


def losses(plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell of the matrix: its loss, what breaking the symmetry did to it, and the published figures."""
    breaking = {(c.optimizer, c.variant): difference_text(c) for c in contrasts(table, "breaking")}
    activation, rows = str(plan.settings.get("activation", "prelu")), []
    for optimizer in plan.optimizers:
        for variant in plan.variants:
            own = by_seed(table, optimizer, variant, "validation_loss")
            known = published_difference(activation, optimizer, variant) if variant != "symmetric" else None
            rows.append({
                "cell": cell_name(optimizer, variant),
                "lr": number_text(table.loc[table["optimizer"] == optimizer, "lr"].iloc[0], "g"),
                "seeds": str(len(own)),
                "loss": mean_text(own.to_numpy(float), ".4f"),
                "minus symmetric": breaking.get((optimizer, variant), NOTHING),
                "published loss": number_text(published_loss(activation, optimizer, variant), ".3f"),
                "published difference": number_text(known, "+.3f"),
            })  # fmt: skip
    return pd.DataFrame(rows)


def differences_of(table: pd.DataFrame, kind: Kind, metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row per contrast of a kind: the mean difference of each metric with its interval."""
    found = {metric: contrasts(table, kind, metric) for metric in metrics}
    first = found[metrics[0]]
    columns = {metric: list(map(difference_text, own)) for metric, own in found.items()}
    return pd.DataFrame({"runs": [c.name for c in first], "seeds": [len(c.differences) for c in first], **columns})


def means_of(table: pd.DataFrame, metrics: Sequence[str], form: str = ".2f") -> pd.DataFrame:
    """Return a row per cell and ablation: the mean of each metric over seeds with its 95% t interval."""
    rows = []
    for cell in table[["optimizer", "variant", "ablation"]].drop_duplicates().itertuples(index=False, name=None):
        optimizer, variant, ablation = cell
        values = {metric: by_seed(table, optimizer, variant, metric, ablation).to_numpy(float) for metric in metrics}
        seeds = str(max(map(len, values.values())))
        shown = {metric: mean_text(numbers, form) for metric, numbers in values.items()}
        rows.append({"runs": cell_name(*cell), "seeds": seeds, **shown})
    return pd.DataFrame(rows)


def difference_text(contrast: Contrast) -> str:
    """Return "mean [low, high]" of a contrast; the mean alone where one seed gives no interval."""
    return mean_text(np.array(contrast.differences), "+.4f")


def mean_text(values: np.ndarray, form: str) -> str:
    """Return "mean [low, high]" of numbers, with the 95% t interval; the number alone where there is one."""
    if not len(values):
        return NOTHING
    middle, low, high = mean(values)
    return f"{middle:{form}}" + ("" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def number_text(value: float | None, form: str) -> str:
    """Return a number as text, a dash where there is none."""
    return NOTHING if value is None or np.isnan(value) else format(value, form)


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, the first column to the left, the others to the right."""
    lines = [list(table), ["---", *["--:"] * (table.shape[1] - 1)], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

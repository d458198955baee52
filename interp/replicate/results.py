"""The results of a replication: a row per run, contrasts between runs, the published figures, and both as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from interp.analysis.saving import write_csv
from interp.errors import InterpError
from interp.evals.puzzles.scoring import mean
from interp.files import writing
from interp.replicate.jobs import MEASURED, RATES, TRAINED, read_json
from interp.replicate.plan import MATRIX, Cell, Plan

Kind = Literal["breaking", "gap", "narrowing", "ablation"]
BASE = "adamw"  # the optimizer that the others are held against
NOTHING = "–"
KEYS = ("optimizer", "variant", "ablation", "seed")
AMPLIFICATION = (
    "rms_amplification", "significant", "spread", "amplification_function", "amplification_frequent", "amplification_rare",
    "amplification_number", "enrichment_function", "enrichment_frequent", "enrichment_rare", "enrichment_number",
)  # fmt: skip
EVIDENCE = (
    "rms_position", "rms_beyond", "rms_shifted", "singled_out", "key_spread", "eta2_position", "eta2_type", "eta2_class",
)  # fmt: skip
PUZZLES = ("top1", "top5", "first_token_loss", "completion_loss", "accuracy", "log_ratio")
BATCH = "batch_validation_loss"
PUBLISHED: dict[tuple[str, str], dict[str, float]] = {  # activation, optimizer: nats per token by variant
    ("prelu", "adamw"): {"symmetric": 3.38, "bq": 3.35},
    ("gelu", "adamw"): {"symmetric": 2.856, "bqbv": 2.830},
    ("gelu", "ecd"): {"symmetric": 3.185, "bq": 3.137, "bqbv": 3.161},
    ("gelu", "sgdm"): {"symmetric": 3.552, "bqbv": 3.563},
    ("gelu", "soap"): {"symmetric": 3.313, "bqbv": 3.314},
}

ENRICHMENT = (0.5, 1.7)
"""Median log2 enrichment of function words and frequent tokens among the most aligned ones; AdamW, nonzero mean."""


def results_table(plan: Plan, root: Path) -> pd.DataFrame:
    """Return a row per run of the plan, in its order; missing values where it is not trained or measured yet.

    Columns: `KEYS`; lr, tokens, status ("waiting", "trained", "diverged" or "measured"); final_validation_loss, at the end
    of training; validation_loss, of the weights with the lowest one, on all held-out documents, with its 95% interval over
    them, validation_low and validation_high; the direction that amplification is read along ("own" or "matrix"), and its
    summary (`interp.replicate.steps`); for each family of puzzles top1, or accuracy of comparisons; and the means
    over families, `puzzles_METRIC`. Losses are in nats per token. Where it was measured, batch_validation_loss is the lowest
    loss of single batches of 8 held-out contexts: the published way, and what published losses may be held against.
    """
    rates = read_json(root / RATES)
    return pd.DataFrame([_row(cell, rates, root / "runs" / cell.name) for cell in plan.cells()])


def save_results(table: pd.DataFrame, root: Path) -> list[Path]:
    """Write the table as `results.parquet` and `results.csv`, its contrasts as `contrasts.csv`, and return the files."""
    metrics = ["validation_loss", *AMPLIFICATION]
    metrics += [str(name) for name in table if name == BATCH or name in EVIDENCE or str(name).startswith("puzzles_")]
    differences = contrasts_table(table, metrics)
    writers = {
        "results.parquet": partial(table.to_parquet, index=False),
        "results.csv": partial(write_csv, table),
        "contrasts.csv": partial(write_csv, differences),
    }
    for name, write in writers.items():
        with writing(root / name) as beside:
            write(path=beside)
    return [root / name for name in writers]


@dataclass(frozen=True)
class Contrast:
    """Differences of a metric between runs of the same seeds.

    `kind` says which: "breaking" is a variant minus symmetric, of one optimizer; "gap" is an optimizer minus AdamW, of one
    variant; "narrowing" is what breaking does to the gap, so that a positive gap in the loss narrows by what is below 0;
    "ablation" is an ablation minus the matrix's run of the same optimizer and variant.
    """

    kind: Kind
    optimizer: str
    variant: str
    ablation: str
    metric: str
    differences: tuple[float, ...]  # one per seed that both sides have

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over seeds, and the ends of its 95% t interval; missing where there are too few seeds."""
        return mean(np.array(self.differences)) if self.differences else (np.nan, np.nan, np.nan)


def contrasts(table: pd.DataFrame, kind: Kind, metric: str = "validation_loss") -> list[Contrast]:
    """Return all contrasts of a kind in a metric of the results' table."""
    found = []
    for cell in _cells(table):
        if (difference := _difference(table, kind, *cell, metric)) is not None:
            found.append(Contrast(kind, *cell, metric, tuple(difference.sort_index().tolist())))
    return found


def contrasts_table(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return a row per contrast of any kind and metric, with n, mean, low, high, and a row's differences in one column."""
    rows = []
    for metric, kind in product(metrics, get_args(Kind)):
        for c in contrasts(table, kind, metric):
            numbers = dict(zip(("n", "mean", "low", "high"), (len(c.differences), *c.interval), strict=True))
            rows.append({**vars(c), **numbers, "differences": " ".join(f"{value:.6g}" for value in c.differences)})
    return pd.DataFrame(rows)


def by_seed(table: pd.DataFrame, optimizer: str, variant: str, metric: str, ablation: str = MATRIX) -> pd.Series:
    """Return a metric of the runs of one cell by seed, where it is measured."""
    own = (table["optimizer"] == optimizer) & (table["variant"] == variant) & (table["ablation"] == ablation)
    return pd.Series(table.loc[own].set_index("seed")[metric].dropna())


def cell_name(optimizer: str, variant: str, ablation: str = MATRIX) -> str:
    """Return what tables call the runs of a cell."""
    return " ".join([optimizer, variant, *([ablation] if ablation != MATRIX else [])])


def published_loss(activation: str, optimizer: str, variant: str) -> float | None:
    """Return the published validation loss of a cell, None where there is none."""
    return PUBLISHED.get((activation, optimizer), {}).get(variant)


def published_difference(activation: str, optimizer: str, variant: str) -> float | None:
    """Return the published loss of a variant minus that of the symmetric model, None where one of them is missing."""
    broken, symmetric = (published_loss(activation, optimizer, name) for name in (variant, "symmetric"))
    return None if broken is None or symmetric is None else round(broken - symmetric, 6)


def is_comparable(plan: Plan) -> bool:
    """Return whether losses may be held against the published ones: the same model, length and kind of text."""
    size = plan.settings.get("preset"), plan.settings.get("tokens")
    return size == ("gpt2-124m", 500_000_000) and "fineweb-edu" in plan.corpus.lower()


def state_of(table: pd.DataFrame) -> str:
    """Return how far a replication is, in a sentence."""
    states = list(table["status"])
    known = [name for name in ("measured", "trained", "diverged", "waiting") if name in states]
    return f"{len(states)} runs: {', '.join(f'{states.count(name)} {name}' for name in known)}."


def losses(plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell of the matrix: its loss, what breaking the symmetry did to it, and the published figures.

    Where single batches were measured as the release does, the lowest of them stands beside our loss, and its differences.
    """
    breaking = {(c.optimizer, c.variant): difference_text(c) for c in contrasts(table, "breaking")}
    alike = (
        {(c.optimizer, c.variant): difference_text(c) for c in contrasts(table, "breaking", BATCH)}
        if BATCH in table
        else {}
    )
    activation, rows = str(plan.settings.get("activation", "prelu")), []
    for optimizer in plan.optimizers:
        for variant in plan.variants:
            own = by_seed(table, optimizer, variant, "validation_loss")
            known = published_difference(activation, optimizer, variant) if variant != "symmetric" else None
            batches = {}
            if BATCH in table:
                lowest = by_seed(table, optimizer, variant, BATCH).to_numpy(float)
                batches["loss, the published way"] = mean_text(lowest, ".4f")
                batches["minus symmetric, the published way"] = alike.get((optimizer, variant), NOTHING)
            rows.append({
                "cell": cell_name(optimizer, variant),
                "lr": number_text(table.loc[table["optimizer"] == optimizer, "lr"].iloc[0], "g"),
                "seeds": str(len(own)),
                "loss": mean_text(own.to_numpy(float), ".4f"),
                "minus symmetric": breaking.get((optimizer, variant), NOTHING),
                **batches,
                "published loss": number_text(published_loss(activation, optimizer, variant), ".3f"),
                "published difference": number_text(known, "+.3f"),
            })  # fmt: skip
    return pd.DataFrame(rows)


def differences_of(table: pd.DataFrame, kind: Kind, metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row per contrast of a kind: the mean difference of each metric with its interval."""
    found = {metric: contrasts(table, kind, metric) for metric in metrics}
    first = found[metrics[0]]
    columns = {metric: list(map(difference_text, own)) for metric, own in found.items()}
    runs = [cell_name(c.optimizer, c.variant, c.ablation) for c in first]
    return pd.DataFrame({"runs": runs, "seeds": [len(c.differences) for c in first], **columns})


def means_of(table: pd.DataFrame, metrics: Sequence[str], form: str = ".2f") -> pd.DataFrame:
    """Return a row per cell and ablation: the mean of each metric over seeds with its 95% t interval."""
    rows = []
    for cell in _cells(table):
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


def _row(cell: Cell, rates: dict[str, Any], folder: Path) -> dict[str, Any]:
    try:
        return _numbers_of(cell, rates, read_json(folder / TRAINED), read_json(folder / MEASURED))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InterpError(
            f"{folder} has a {TRAINED} or {MEASURED} that is none of this package's ({error!r}); remove it, and it is made "
            "again."
        ) from error


def _numbers_of(cell: Cell, rates: dict[str, Any], trained: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    loss, amplified = measured.get("loss", {}), measured.get("amplification", {})
    done = "measured" if measured else "trained" if trained else "waiting"
    return {
        **{name: getattr(cell, name) for name in KEYS},
        "lr": _number(rates.get(cell.optimizer, {}).get("lr")),
        "tokens": trained.get("tokens", 0),
        "status": "diverged" if trained.get("diverged") else done,
        "final_validation_loss": _number(trained.get("validation_loss")),
        "validation_loss": _number(loss.get("loss")),
        "validation_low": _number(loss.get("low")),
        "validation_high": _number(loss.get("high")),
        **({BATCH: _number(known)} if (known := trained.get("best_batch_validation_loss")) is not None else {}),
        "direction": measured.get("direction", ""),
        **{name: _number(amplified.get(name)) for name in AMPLIFICATION},
        **{name: _number(amplified[name]) for name in EVIDENCE if name in amplified},
        **_puzzles(measured.get("puzzles", [])),
    }


def _puzzles(families: list[dict[str, Any]]) -> dict[str, float]:
    values = {name: [_number(family[name]) for family in families] for name in PUZZLES}
    found = {f"puzzles_{name}": _mean(numbers) for name, numbers in values.items()}
    for family in families:
        score = "top1" if family["kind"] == "completion" else "accuracy"
        found[f"{family['family']}_{score}"] = _number(family[score])
    return found


def _mean(numbers: list[float]) -> float:
    present = [number for number in numbers if not np.isnan(number)]
    return float(np.mean(present)) if present else float("nan")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _difference(
    table: pd.DataFrame, kind: Kind, optimizer: str, variant: str, ablation: str, metric: str
) -> pd.Series | None:
    """The differences by seed; None where there is no such contrast."""
    of = partial(by_seed, table, metric=metric)
    own = of(optimizer, variant, ablation=ablation)
    if kind == "ablation":
        return None if ablation == MATRIX else (own - of(optimizer, variant)).dropna()
    if ablation != MATRIX or (kind != "gap" and variant == "symmetric") or (kind != "breaking" and optimizer == BASE):
        return None
    if kind == "gap":
        return (own - of(BASE, variant)).dropna()
    broken = own - of(optimizer, "symmetric")
    return (broken if kind == "breaking" else broken - (of(BASE, variant) - of(BASE, "symmetric"))).dropna()


def _cells(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(dict.fromkeys(zip(table["optimizer"], table["variant"], table["ablation"], strict=True)))

"""The results of a replication as one tidy table: a row per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.files import writing
from interp.replicate.contrasts import contrasts_table
from interp.replicate.files import read_json
from interp.replicate.jobs import MEASURED, RATES, TRAINED
from interp.replicate.plan import Cell, Plan

KEYS = ("optimizer", "variant", "ablation", "seed")
AMPLIFICATION = (
    "rms_amplification", "significant", "spread", "amplification_function", "amplification_frequent", "amplification_rare",
    "amplification_number", "enrichment_function", "enrichment_frequent", "enrichment_rare", "enrichment_number",
)  # fmt: skip
PUZZLES = ("top1", "top5", "first_token_loss", "completion_loss", "accuracy", "log_ratio")


def results_table(plan: Plan, root: Path) -> pd.DataFrame:
    """Return a row per run of the plan, in its order; missing values where it is not trained or measured yet.

    Columns: `KEYS`; lr, tokens, status ("waiting", "trained", "diverged" or "measured"); final_validation_loss, at the end
    of training; validation_loss, of the weights with the lowest one, on all held-out documents, with its 95% interval over
    them, validation_low and validation_high; the direction that amplification is read along ("own" or "matrix"), and its
    summary (`interp.replicate.amplified`); for each family of puzzles top1, or accuracy of comparisons; and the means
    over families, `puzzles_METRIC`. Losses are in nats per token.
    """
    rates = read_json(root / RATES)
    return pd.DataFrame([_row(cell, rates, root / "runs" / cell.name) for cell in plan.cells()])


def save_results(table: pd.DataFrame, root: Path) -> list[Path]:
    """Write the table as `results.parquet` and `results.csv`, its contrasts as `contrasts.csv`, and return the files."""
    files = [root / "results.parquet", root / "results.csv", root / "contrasts.csv"]
    metrics = ["validation_loss", *AMPLIFICATION, *(name for name in table if str(name).startswith("puzzles_"))]
    with writing(files[2]) as beside:
        contrasts_table(table, [str(name) for name in metrics]).to_csv(beside, index=False)
    with writing(files[0]) as beside:
        table.to_parquet(beside, index=False)
    with writing(files[1]) as beside:
        table.to_csv(beside, index=False)
    return files


def _row(cell: Cell, rates: dict[str, Any], folder: Path) -> dict[str, Any]:
    trained, measured = read_json(folder / TRAINED), read_json(folder / MEASURED)
    loss = measured.get("loss", {})
    return {
        **{name: getattr(cell, name) for name in KEYS},
        "lr": _number(rates.get(cell.optimizer, {}).get("lr")),
        "tokens": trained.get("tokens", 0),
        "status": _status(trained, measured),
        "final_validation_loss": _number(trained.get("validation_loss")),
        "validation_loss": _number(loss.get("loss")),
        "validation_low": _number(loss.get("low")),
        "validation_high": _number(loss.get("high")),
        "direction": measured.get("direction", ""),
        **{name: _number(measured.get("amplification", {}).get(name)) for name in AMPLIFICATION},
        **_puzzles(measured.get("puzzles", [])),
    }


def _status(trained: dict[str, Any], measured: dict[str, Any]) -> str:
    if trained.get("diverged"):
        return "diverged"
    return "measured" if measured else "trained" if trained else "waiting"


def _puzzles(families: list[dict[str, Any]]) -> dict[str, float]:
    values = {name: [_number(family[name]) for family in families] for name in PUZZLES}
    found = {f"puzzles_{name}": _mean(numbers) for name, numbers in values.items()}
    for family in families:
        score = family["top1"] if family["kind"] == "completion" else family["accuracy"]
        found[f"{family['family']}_{'top1' if family['kind'] == 'completion' else 'accuracy'}"] = _number(score)
    return found


def _mean(numbers: list[float]) -> float:
    present = [number for number in numbers if not np.isnan(number)]
    return float(np.mean(present)) if present else float("nan")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

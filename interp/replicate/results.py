"""The results of a replication: a row per run, and contrasts between runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from interp.analysis.saving import write_csv
from interp.analysis.significance import LEAST_EFFECTIVE_DOCUMENTS, benjamini_hochberg, effective_documents
from interp.errors import InterpError
from interp.files import writing
from interp.replicate.hierarchy import Estimate, Runs, loss_replicates
from interp.replicate.jobs import MEASURED, RATES, TRAINED, read_json
from interp.replicate.plan import MATRIX, Cell, Plan

Kind = Literal["breaking", "gap", "narrowing", "ablation"]
BASE = "adamw"  # the optimizer that the others are held against
KEYS = ("optimizer", "variant", "ablation", "seed")
SIZES = ("rms_amplification", "rms_position", "rms_beyond", "rms_shifted")
PAIRS = ("pairs", "findings", "beyond_shifted", "singled_out")
EXPLAINED = (
    "key_spread", "eta2_position", "eta2_type", "eta2_class", "eta2_position_control", "eta2_class_control",
)  # fmt: skip
CLASSES = (
    "amplification_function", "amplification_frequent", "amplification_rare", "amplification_number",
    "enrichment_function", "enrichment_frequent", "enrichment_rare", "enrichment_number",
)  # fmt: skip
AMPLIFICATION = (*SIZES, *PAIRS, *EXPLAINED, *CLASSES)
GIVEN_BACK = ("position", "type", "class")
USES = ("uses_cost", "uses_control", *(f"uses_{name}" for name in GIVEN_BACK))
PUZZLES = ("top1", "top5", "first_token_loss", "completion_loss", "accuracy", "log_ratio")
BATCH = "batch_validation_loss"
REPLICATES = "replicates"


def results_table(plan: Plan, root: Path) -> pd.DataFrame:
    """Return a row per run of the plan, in its order; missing values where it is not trained or measured yet.

    Columns: `KEYS`; lr, tokens, status ("waiting", "trained", "diverged" or "measured"); final_validation_loss, at the end
    of training; validation_loss, of the weights with the lowest one, on all held-out documents, with its 95% interval over
    them, validation_low and validation_high; the direction that amplification is read along ("own" or "matrix"), and its
    summary (`interp.replicate.steps`); for each family of puzzles top1, or accuracy of comparisons; and the means
    over families, `puzzles_METRIC`. Losses are in nats per token. Where it was measured, batch_validation_loss is the lowest
    loss of single batches of 8 held-out contexts: the published way, and what published losses may be held against.

    What b_Q is used for, in nats per token: uses_cost, what removing it costs; uses_control, what removing scores costs that
    spread as much along other directions, the mean over draws; uses_position, uses_type and uses_class, what a bias that
    knows only the position, the token type or the class gives back of the cost. They are means over replicates.

    `replicates` holds, of the metrics that have them, the values in replicates of the documents and the effective number of
    documents; it is not saved. Findings are missing where there are too few documents for an interval to rest on. Runs that
    an earlier version measured have no parts and controls (`is_earlier`); its `spread` and `significant` are left out, as
    they rest on random directions of the same length and say nothing of classes.
    """
    rates = read_json(root / RATES)
    most = plan.measuring.max_tokens, plan.measuring.uses_tokens
    return pd.DataFrame([_row(cell, rates, root / "runs" / cell.name, most) for cell in plan.cells()])


def is_earlier(table: pd.DataFrame) -> pd.Series:
    """Return of each row whether an earlier version measured it, without parts and controls of amplification."""
    return pd.Series(table["rms_amplification"].notna() & table["rms_beyond"].isna())


def save_results(table: pd.DataFrame, root: Path) -> list[Path]:
    """Write the table as `results.parquet` and `results.csv`, its contrasts as `contrasts.csv`, and return the files."""
    plain = table.drop(columns=REPLICATES, errors="ignore")
    metrics = ["validation_loss", *AMPLIFICATION, *USES]
    metrics += [str(name) for name in table if name == BATCH or str(name).startswith("puzzles_")]
    differences = contrasts_table(table, metrics)
    writers = {
        "results.parquet": partial(plain.to_parquet, index=False),
        "results.csv": partial(write_csv, plain),
        "contrasts.csv": partial(write_csv, differences),
    }
    for name, write in writers.items():
        with writing(root / name) as beside:
            write(path=beside)
    return [root / name for name in writers]


@dataclass(frozen=True)
class Contrast:
    """Differences of a metric between runs of the same seeds.

    `kind` says which: "breaking" is a variant minus symmetric, of one optimizer and ablation; "gap" is an optimizer minus
    AdamW, of one variant; "narrowing" is what breaking does to the gap, so that a positive gap narrows by what is below 0;
    "ablation" is an ablation minus the matrix's run of the same optimizer and variant.
    """

    kind: Kind
    optimizer: str
    variant: str
    ablation: str
    metric: str
    runs: Runs

    @property
    def differences(self) -> tuple[float, ...]:
        """One per seed that both sides have."""
        return tuple(self.runs.array.tolist())

    @property
    def estimate(self) -> Estimate:
        """Mean over seeds, with its interval over seeds, and documents where there are replicates."""
        return self.runs.estimate


def contrasts(table: pd.DataFrame, kind: Kind, metric: str = "validation_loss") -> list[Contrast]:
    """Return all contrasts of a kind in a metric of the results' table."""
    cells = cells_of(table)
    found = ((cell, _difference(table, kind, cell, cells, metric)) for cell in cells)
    return [Contrast(kind, *cell, metric, runs) for cell, runs in found if runs is not None]


def looks(table: pd.DataFrame, metric: str = "validation_loss") -> list[tuple[Contrast, float]]:
    """Return the contrasts of all kinds with q, corrected for their number (Benjamini-Hochberg); missing without p."""
    found = [contrast for kind in get_args(Kind) for contrast in contrasts(table, kind, metric)]
    return list(zip(found, benjamini_hochberg(np.array([c.estimate.p for c in found])).tolist(), strict=True))


def contrasts_table(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return a row per contrast of any kind and metric.

    Columns: n, the number of seeds; mean, low, high, what the interval is `over`; p, and q, corrected over the contrasts of
    the metric; and a row's differences in one column.
    """
    rows = []
    for metric in metrics:
        for c, q in looks(table, metric) if metric in table else ():
            e = c.estimate
            numbers = {"n": e.seeds, "mean": e.mean, "low": e.low, "high": e.high, "over": e.over, "p": e.p, "q": q}
            which = {name: getattr(c, name) for name in ("kind", "optimizer", "variant", "ablation", "metric")}
            rows.append({**which, **numbers, "differences": " ".join(f"{value:.6g}" for value in c.differences)})
    return pd.DataFrame(rows)


def by_seed(table: pd.DataFrame, optimizer: str, variant: str, metric: str, ablation: str = MATRIX) -> pd.Series:
    """Return a metric of the runs of one cell by seed, where it is measured."""
    rows = table.iloc[_places(table, optimizer, variant, ablation)]
    return pd.Series(rows.set_index("seed")[metric].dropna())


def runs_of(table: pd.DataFrame, optimizer: str, variant: str, metric: str, ablation: str = MATRIX) -> Runs:
    """Return a metric of the runs of one cell, with its replicates where it has them."""
    if metric not in table:
        return Runs()
    own = _places(table, optimizer, variant, ablation)
    values, seeds = table[metric].to_numpy(np.float64), table["seed"].to_numpy()
    known = {int(seeds[row]): row for row in own if not np.isnan(values[row])}
    drawn = table[REPLICATES].to_numpy() if REPLICATES in table else np.full(len(table), {})
    replicates = {seed: drawn[row][metric] for seed, row in known.items() if metric in drawn[row]}
    return Runs(
        {seed: float(values[row]) for seed, row in known.items()},
        {seed: each for seed, (each, _) in replicates.items()},
        min((documents for _, documents in replicates.values()), default=np.nan),
    )


def cell_name(optimizer: str, variant: str, ablation: str = MATRIX) -> str:
    """Return what tables call the runs of a cell."""
    return " ".join([optimizer, variant, *([ablation] if ablation != MATRIX else [])])


def cells_of(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return optimizer, variant and ablation of every kind of run, in their order."""
    return list(dict.fromkeys(zip(table["optimizer"], table["variant"], table["ablation"], strict=True)))


def is_comparable(plan: Plan) -> bool:
    """Return whether losses may be held against the published ones: the same model, length and kind of text."""
    size = plan.settings.get("preset"), plan.settings.get("tokens")
    return size == ("gpt2-124m", 500_000_000) and "fineweb-edu" in plan.corpus.lower()


def _row(cell: Cell, rates: dict[str, Any], folder: Path, most: tuple[int, int]) -> dict[str, Any]:
    try:
        return _numbers_of(cell, rates, read_json(folder / TRAINED), read_json(folder / MEASURED), most)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InterpError(
            f"{folder} has a {TRAINED} or {MEASURED} that is none of this package's ({error!r}); remove it, and it is made "
            "again."
        ) from error


def _numbers_of(
    cell: Cell, rates: dict[str, Any], trained: dict[str, Any], measured: dict[str, Any], most: tuple[int, int]
) -> dict[str, Any]:
    loss, amplified = measured.get("loss", {}), measured.get("amplification", {})
    done = "measured" if measured else "trained" if trained else "waiting"
    replicates = dict(_replicates(measured, most))
    values = {name: _number(amplified.get(name)) for name in AMPLIFICATION}
    if replicates.get("rms_beyond", ((), np.inf))[1] < LEAST_EFFECTIVE_DOCUMENTS:
        values["findings"] = np.nan
    control = measured.get("uses", {}).get("control", {}).get("control_mean")
    return {
        **{name: getattr(cell, name) for name in KEYS},
        "lr": _number(cell.changes.get("lr", rates.get(cell.optimizer, {}).get("lr"))),
        "tokens": trained.get("tokens", 0),
        "status": "diverged" if trained.get("diverged") else done,
        "final_validation_loss": _number(trained.get("validation_loss")),
        "validation_loss": _number(loss.get("loss")),
        "validation_low": _number(loss.get("low")),
        "validation_high": _number(loss.get("high")),
        **({BATCH: _number(known)} if (known := trained.get("best_batch_validation_loss")) is not None else {}),
        "direction": measured.get("direction", ""),
        **values,
        **{name: float(np.nanmean(replicates[name][0])) if name in replicates else np.nan for name in USES},
        "uses_control": _number(control),
        **_puzzles(measured.get("puzzles", [])),
        REPLICATES: replicates,
    }


def _replicates(measured: dict[str, Any], most: tuple[int, int]) -> Iterator[tuple[str, tuple[np.ndarray, float]]]:
    """The metrics that have replicates of the documents: these, and the effective number of documents.

    The loss is of all documents; amplification and uses are of the first ones, of so many tokens together.
    """
    if not (documents := measured.get("loss", {}).get("documents")):
        return
    n_tokens, losses = np.array(documents["n_tokens"], dtype=np.int64), np.array(documents["loss"], dtype=np.float64)
    yield "validation_loss", (loss_replicates(n_tokens.astype(np.float64), losses), _effective(n_tokens))
    first = ((n_tokens.cumsum() <= tokens).sum() for tokens in most)
    amplified, used = (_effective(n_tokens[: max(1, int(count))]) for count in first)
    for name, values in measured.get("replicates", {}).items():
        yield name, (np.array(values, dtype=np.float64), amplified)
    if uses := measured.get("uses"):
        of = {name: np.array(values, dtype=np.float64) for name, values in uses["replicates"].items()}
        yield "uses_cost", (of["nothing"] - of["unchanged"], used)
        for name in GIVEN_BACK:
            yield f"uses_{name}", (of["nothing"] - of[name], used)


def _effective(n_tokens: np.ndarray) -> float:
    return float(effective_documents(n_tokens[:, None])[0])


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
    table: pd.DataFrame, kind: Kind, cell: tuple[str, str, str], cells: list[tuple[str, str, str]], metric: str
) -> Runs | None:
    """The differences by seed; None where there is no such contrast."""
    of, (optimizer, variant, ablation) = partial(runs_of, table, metric=metric), cell
    own = of(optimizer, variant, ablation=ablation)
    if kind == "ablation":
        return None if ablation == MATRIX else own - of(optimizer, variant)
    if kind == "breaking":
        base = variant != "symmetric" and (optimizer, "symmetric", ablation) in cells
        return own - of(optimizer, "symmetric", ablation=ablation) if base else None
    if ablation != MATRIX or optimizer == BASE or (kind == "narrowing" and variant == "symmetric"):
        return None
    if kind == "gap":
        return own - of(BASE, variant)
    return (own - of(optimizer, "symmetric")) - (of(BASE, variant) - of(BASE, "symmetric"))


def _places(table: pd.DataFrame, optimizer: str, variant: str, ablation: str) -> np.ndarray:
    """The numbers of a cell's rows; much quicker than to select them, and there are thousands of differences."""
    cell = zip(("optimizer", "variant", "ablation"), (optimizer, variant, ablation), strict=True)
    return np.flatnonzero(np.logical_and.reduce([table[name].to_numpy() == value for name, value in cell]))

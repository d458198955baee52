"""Arithmetic with written steps after fine-tuning: symmetric, one direction, four directions; a table that follows from it.

python docs/fine_tuned.py --measure    trains into runs/fine_tuned and measures into docs/fine_tuned.json (an hour on one
                                       CPU thread; goes on where it was stopped), then writes the page
python docs/fine_tuned.py              writes the section of docs/fine_tuning.md from docs/fine_tuned.json

All start from the same symmetric model, and see the same examples in the same order for the same seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
from results import ROOT, between
from scipy import stats

PAGE, RECORD, RUNS = ROOT / "docs/fine_tuning.md", ROOT / "docs/fine_tuned.json", ROOT / "runs/fine_tuned"
BEGIN, END = "<!-- fine-tuned -->\n", "<!-- end of fine-tuned -->\n"
START, SEEDS, QUESTIONS, EXAMPLES, EPOCHS, DIGITS = "tiny-symmetric", (0, 1, 2), 200, 6000, 4, 2
VARIANTS = {
    "symmetric": ["--variant", "symmetric"],
    "b_Q": ["--variant", "bq"],
    "b_Q, four directions": ["--variant", "bq", "--directions", "4"],
}
SETTINGS = ["--batch-size", "16", "--lr", "0.001", "--validation-tokens", "3000", "--evaluate-every", "100"]


def run(module: str, *arguments: str) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", f"interp.{module}", *arguments], check=True)


def answers(model: str, name: str) -> dict[str, list[int]]:
    """Return how many answers are right, of how many, for each type."""
    import pandas as pd

    output = RUNS / f"{name}-answers"
    questions = ["--arithmetic", "--digits", str(DIGITS), "--n-items", str(QUESTIONS), "--corpus", "none"]
    run("evals", model, *questions, "-o", str(output))
    table = pd.read_parquet(output / "families.parquet").query("family != 'all'")
    return {
        family: [round(share * n), n]
        for family, share, n in table[["family", "final_answer", "n"]].itertuples(index=False)
    }


def measure() -> dict[str, Any]:
    """Return how many answers are right in every run; what is in the record is not measured again."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    if not (RUNS / "examples").is_dir():
        run("evals", "arithmetic", str(RUNS / "examples"), "--digits", str(DIGITS), "--n", str(EXAMPLES))
    corpus = ["--corpus", str(RUNS / "examples/train.jsonl"), "--examples", "--epochs", str(EPOCHS)]
    if "start" not in record:
        record["start"] = {"0": answers(START, "start")}
    for seed in SEEDS:
        for variant, biases in VARIANTS.items():
            if str(seed) in record.setdefault(variant, {}):
                continue
            name = f"{variant.replace(', ', '-').replace(' ', '-')}-seed{seed}"
            options = ["--init", START, *biases, *corpus, *SETTINGS, "--seed", str(seed)]
            run("train", *options, "--resume", "-o", str(RUNS / name))
            record[variant][str(seed)] = answers(str(RUNS / name), name)
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def section(record: dict[str, Any]) -> str:
    """Return the table, and the sentences that its figures allow."""
    types = list(record["start"]["0"])
    rows = [f"| biases | seed | {' | '.join(f'`{name}`' for name in types)} | all |", "| --- | --: |" + " --: |" * 5]
    for variant, runs in record.items():
        for seed, right in runs.items():
            cells = [_interval(*right[name]) for name in types] + [_interval(*_all(right))]
            name, number = (f"`{START}` itself", "–") if variant == "start" else (variant, seed)
            rows.append(f"| {name} | {number} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", *sentences(record)])


def sentences(record: dict[str, Any]) -> list[str]:
    """Return what the figures allow to say, each sentence in a line of its own."""
    shares = {
        variant: [np.divide(*_all(runs[str(seed)])) for seed in SEEDS]
        for variant, runs in record.items()
        if variant != "start"
    }
    found = []
    for variant in list(VARIANTS)[1:]:
        difference = 100 * np.subtract(shares[variant], shares["symmetric"])
        half = stats.t.ppf(0.975, len(SEEDS) - 1) * difference.std(ddof=1) / len(SEEDS) ** 0.5
        low, high = difference.mean() - half, difference.mean() + half
        verdict = "no difference that three seeds can tell" if low < 0 < high else "a difference"
        found.append(
            f"{variant} less symmetric, over all types: {difference.mean():+.1f} points [{low:+.1f}, {high:+.1f}] "
            f"(mean of {len(SEEDS)} seeds, paired, Student's t): {verdict}."
        )
    return found


def _all(right: dict[str, list[int]]) -> tuple[int, int]:
    return sum(n for n, _ in right.values()), sum(n for _, n in right.values())


def _interval(right: int, of: int) -> str:
    low, high = stats.binomtest(right, of).proportion_ci(method="wilson")
    return f"{right / of:.1%} [{low:.0%}, {high:.0%}]"


def written(record: dict[str, Any]) -> str:
    """Return the page with the section of this record."""
    return between(PAGE, BEGIN, END, section(record))


if __name__ == "__main__":
    found = measure() if "--measure" in sys.argv else json.loads(RECORD.read_text(encoding="utf-8"))
    PAGE.write_text(written(found), encoding="utf-8")

"""What `make gpu` found on GPUs, and what is computed without one, as the tables of docs/gpu.md.

python docs/gpu.py FILE    puts what `make gpu` wrote (gpu.json) into docs/gpu.json, in place of what is there of the same
                           card, then writes the page
python docs/gpu.py         writes the sections of docs/gpu.md from docs/gpu.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from results import ROOT, between

PAGE, RECORD = ROOT / "docs/gpu.md", ROOT / "docs/gpu.json"
BEGIN, END = "<!-- found -->\n", "<!-- end of found -->\n"
COMPUTED, COMPUTED_END = "<!-- computed -->\n", "<!-- end of computed -->\n"
SHARE, RUN = 0.45, 500_000_000  # of a data sheet's rate; tokens of a run of the paper
UNSEEN = (
    "**No GPU has been seen by this code yet**: it has run on CPUs only. So no figures stand here, and what the rest of "
    "the documentation says of GPUs is what the code was written for, not what was measured."
)
KEYS = ("card", "driver", "torch", "cuda", "memory_gb", "rows")


def section(records: list[dict[str, Any]]) -> str:
    """Return a table for each card, or that there is none."""
    return "\n\n".join(map(of_card, records)) if records else UNSEEN


def of_card(record: dict[str, Any]) -> str:
    """Return the table of one card, under its name."""
    rows = record["rows"]
    failed, missed = ([row for row in rows if row["verdict"] == said] for said in ("FAIL", "MISSED"))
    told = f"{len(rows)} lines, {len(failed)} failed, {len(missed)} missed their aim"
    lines = [
        f"### {record['card']}",
        "",
        f"{record['memory_gb']:g} GB, driver {record['driver']}, CUDA {record['cuda']}, torch {record['torch']}; {told}.",
        "",
        "| what | found | aim | |",
        "| --- | --- | --- | --- |",
    ]
    cells = ([row["name"], row["result"], row["aim"], row["verdict"]] for row in rows)
    return "\n".join([*lines, *(f"| {' | '.join(map(plain, row))} |" for row in cells)])


def plain(text: str) -> str:
    """Return a text that may stand in a cell of a table."""
    return "".join(f"\\{c}" if c in "\\`*_<>[]|" else c for c in " ".join(text.split()))


def computed() -> str:
    """Return what a run of the paper would take at a share of each card's data sheet, from its operations."""
    from interp.model.config import preset
    from interp.train.measures import DATA_SHEET, flops_per_token, training_seconds

    cfg = preset("gpt2-124m", "bqbv")
    lines = [
        f"A token of GPT-2-small in training (forward and backward, {cfg.n_ctx} tokens of context) takes "
        f"{flops_per_token(cfg) / 1e9:.2f} billion operations, counted from the shapes (`flops_per_token`).",
        "",
        f"| card | dense bfloat16, data sheet | tokens/s at {SHARE:.0%} | {RUN // 10**6}M tokens |",
        "| --- | --: | --: | --: |",
    ]
    for card, rate in DATA_SHEET.items():
        minutes = training_seconds(cfg, RUN, SHARE * rate) / 60
        tokens = SHARE * rate / flops_per_token(cfg)
        lines.append(f"| {card} | {rate / 1e12:g} TFLOP/s | {tokens:,.0f} | {minutes:.0f} min |")
    return "\n".join(lines)


def written(records: list[dict[str, Any]]) -> str:
    """Return the page with the sections of these records."""
    page = between(PAGE, BEGIN, END, section(records))
    before, rest = page.split(COMPUTED)
    return f"{before}{COMPUTED}\n{computed()}\n\n{COMPUTED_END}{rest.split(COMPUTED_END)[1]}"


def with_file(records: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Return the records with what a file of `make gpu` has, in place of the same card's.

    Raises:
        SystemExit: it is no such file.
    """
    try:
        new = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in KEYS if not new[key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} is not what make gpu writes ({type(error).__name__}: {error}); give its gpu.json.")
    if missing:
        sys.exit(f"{path} has no {missing[0]}: nothing was found on a GPU there; give the gpu.json of make gpu.")
    return sorted([*(old for old in records if old["card"] != new["card"]), new], key=lambda record: record["card"])


if __name__ == "__main__":
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    if len(sys.argv) > 1:
        known = with_file(known, Path(sys.argv[1]))
        RECORD.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(written(known), encoding="utf-8")

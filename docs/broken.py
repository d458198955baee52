"""What 400 steps with b_Q make of a symmetric model: a figure, a table and sentences that follow from it.

python docs/broken.py --measure    trains into runs/broken and measures into docs/broken.json (about an hour on one CPU
                                   thread; goes on where it was stopped), then writes figure and page
python docs/broken.py              writes docs/pictures/broken.png and the section of docs/training.md from docs/broken.json

The control is the same model trained on for the same steps on the same batches without b_Q, and read along the same vector.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from results import ROOT, beginning, between, measured, nats, plain, share

PAGE, RECORD, PICTURE = ROOT / "docs/training.md", ROOT / "docs/broken.json", ROOT / "docs/pictures/broken.png"
RUNS = ROOT / "runs/broken"
BEGIN, END = "<!-- broken -->\n", "<!-- end of broken -->\n"
START, STEPS, EVERY, SEEDS = "tiny-symmetric", 400, 50, (0, 1, 2)
VARIANTS = {"bq": "with b_Q", "symmetric": "without b_Q"}
SETTINGS = ["--dropout", "0.1", "--batch-size", "16", "--evaluate-every", str(EVERY), "--validation-tokens", "20000"]


def train(variant: str, seed: int) -> None:
    """Go on from the symmetric model, keeping every state."""
    command = [
        sys.executable,
        "-m",
        "interp.train",
        "--init",
        START,
        "--variant",
        variant,
        "--steps",
        str(STEPS),
        *SETTINGS,
    ]
    folder = RUNS / f"{variant}-seed{seed}"
    subprocess.run([*command, "--seed", str(seed), "--keep", "1000", "--resume", "-o", str(folder)], check=True)


def measure() -> dict[str, Any]:
    """Return the figures of the start, of every state, and all of the last; what is in the record is not measured again."""
    record = (
        json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {"states": {}, "last": {}, "loss": {}}
    )
    for seed in SEEDS:
        for variant in VARIANTS:
            train(variant, seed)
    along = str(RUNS / "bq-seed0" / f"step-{STEPS:08d}")  # the mean of b_Q is the same in every run
    parts: list[tuple[str, str, Any]] = [("states", "start", lambda: beginning(START, along))]
    for seed in SEEDS:
        for variant in VARIANTS:
            name, folder = f"{variant}-seed{seed}", RUNS / f"{variant}-seed{seed}"
            other = None if variant == "bq" else along
            for step in range(EVERY, STEPS + 1, EVERY):
                state = str(folder / f"step-{step:08d}")
                parts.append(("states", f"{name}-step{step}", lambda state=state, other=other: beginning(state, other)))
            last = str(folder / f"step-{STEPS:08d}")
            parts.append(("last", name, lambda last=last, other=other: measured(last, other)))
            parts.append(("loss", name, lambda folder=folder: losses(folder)))
    parts.append(("last", "start", lambda: measured(START, along)))
    for table, name, figures in parts:
        if name not in record[table]:
            record[table][name] = plain(figures())
            record[table][name].pop("along", None) if isinstance(record[table][name], dict) else None
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def losses(folder: Any) -> list[float]:
    """Return the loss on held-out text after every `EVERY` steps."""
    lines = map(json.loads, (folder / "training.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["validation_loss"] for line in lines if "validation_loss" in line]


def figure(record: dict[str, Any]) -> Any:
    """Return the figure: key spread, what position explains, and the loss, after every `EVERY` steps."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    measures = {"key_spread": "key spread along b_Q", "eta2_position": "share of b_Q's score that position explains"}
    titles = [*measures.values(), "loss on held-out text (nats a token)"]
    made = make_subplots(rows=1, cols=3, subplot_titles=titles, horizontal_spacing=0.07)
    steps = list(range(0, STEPS + 1, EVERY))
    for variant, name in VARIANTS.items():
        for seed in SEEDS:
            states = [
                record["states"]["start"],
                *(record["states"][f"{variant}-seed{seed}-step{n}"] for n in steps[1:]),
            ]
            lines = [(steps, [state[measure] for state in states]) for measure in measures]
            lines.append((steps[1:], record["loss"][f"{variant}-seed{seed}"]))
            for column, (x, y) in enumerate(lines, 1):
                look = {"color": COLOURS[variant], "dash": DASHES[variant], "width": 2}
                shown = {"name": name, "legendgroup": name, "showlegend": column == 1 and seed == SEEDS[0]}
                made.add_trace(go.Scatter(x=x, y=y, mode="lines", line=look, **shown), 1, column)
    made.update_xaxes(title_text="steps after the symmetric model", rangemode="tozero")
    made.update_yaxes(rangemode="tozero", col=1)
    made.update_yaxes(range=[0, 1], col=2)
    made.update_layout(
        template="plotly_white", width=1180, height=380, font_size=13, margin={"t": 50, "l": 45, "r": 15, "b": 90},
        legend={"orientation": "h", "y": -0.22, "x": 0.5, "xanchor": "center"},
    )  # fmt: skip
    return made


COLOURS, DASHES = {"bq": "#b2182b", "symmetric": "#2166ac"}, {"bq": "solid", "symmetric": "dash"}
ROWS = (
    ("loss on held-out text, nats", "loss", None), ("key spread", "key_spread", "{:.2f}"),
    ("η² of position", "eta2_position", "{:.2f}"), ("η² of token type", "eta2_type", "{:.2f}"),
    ("η² of class", "eta2_class", "{:.3f}"), ("rms A", "rms_amplification", "{:.2f}"),
    ("rms A by position", "rms_position", "{:.3f}"), ("rms A beyond position", "rms_beyond", "{:.2f}"),
    ("rms A of shifted labels", "rms_shifted", "{:.3f}"), ("pairs singled out", "beyond_equal_spread", "{:.0f}"),
)  # fmt: skip


def _runs(record: dict[str, Any], variant: str, measure: str) -> list[float]:
    if measure == "loss":
        return [record["loss"][f"{variant}-seed{seed}"][-1] for seed in SEEDS]
    return [record["last"][f"{variant}-seed{seed}"][measure] for seed in SEEDS]


def _beside(record: dict[str, Any], measure: str) -> tuple[dict[str, list[float]], bool]:
    """Return a measure of all runs by variant, and whether with b_Q it is above the start and the control in every seed."""
    runs = {variant: _runs(record, variant, measure) for variant in VARIANTS}
    return runs, min(runs["bq"]) > max(*runs["symmetric"], record["last"]["start"][measure])


def section(record: dict[str, Any]) -> str:
    """Return the table, and the sentences that its figures allow."""
    start, pairs = record["last"]["start"], record["last"]["start"]["pairs"]
    rows = [f"| | `{START}` | {STEPS} steps without b_Q | {STEPS} steps with b_Q |", "| --- | --: | --: | --: |"]
    for name, measure, form in ROWS:
        form = form or "{:.3f}"
        before = "–" if measure == "loss" else form.format(start[measure])
        after = (" / ".join(form.format(x) for x in _runs(record, variant, measure)) for variant in ("symmetric", "bq"))
        name = f"{name}, of {pairs}" if measure == "beyond_equal_spread" else name
        rows.append(f"| {name} | {before} | {' | '.join(after)} |")
    used = ["| seed | loss without b_Q | position gives back | type | class | without as widely spread scores |"]
    used.append("| --: | --: | --: | --: | --: | --: |")
    for seed in SEEDS:
        uses = record["last"][f"bq-seed{seed}"]["uses"]
        mean, sd, draws = uses["control"]
        given = " | ".join(share(uses[what]) for what in ("position", "type", "class"))
        used.append(f"| {seed} | {nats(uses['removed'])} | {given} | {mean:+.3f} ± {sd:.3f} ({draws} draws) |")
    return "\n".join([*rows, "", *used, "", *sentences(record)])


def sentences(record: dict[str, Any]) -> list[str]:
    """Return what the figures allow to say, each sentence in a line of its own."""
    start, found = record["last"]["start"], []
    spread, apart = _beside(record, "key_spread")
    found.append(
        f"The spread of the keys along b_Q is {start['key_spread']:.2f} before, {_range(spread['symmetric'])} after {STEPS} "
        f"steps without b_Q, and {_range(spread['bq'])} with it: "
        + ("above both in every seed" if apart else "not above both in every seed")
        + (", and no more than along any direction, which is 1." if max(spread["bq"]) <= 1 else ".")
    )
    position, more = _beside(record, "eta2_position")
    found.append(
        f"Position explains {_range(position['bq'])} of its score, {start['eta2_position']:.2f} before and "
        f"{_range(position['symmetric'])} without b_Q"
        + (": it is the position that begins to be written along b_Q." if more else ".")
    )
    loss = {variant: _runs(record, variant, "loss") for variant in VARIANTS}
    differences = [a - b for a, b in zip(loss["bq"], loss["symmetric"], strict=True)]
    found.append(f"The loss differs from that without b_Q by {_range(differences, '{:+.3f}')} nats.")
    uses = [record["last"][f"bq-seed{seed}"]["uses"] for seed in SEEDS]
    cost, control = [each["removed"] for each in uses], [each["control"][0] for each in uses]
    needed = sum(low > 0 for _, low, _ in cost)
    found.append(
        f"Removing b_Q costs {_range([mean for mean, _, _ in cost], '{:+.3f}')} nats, an interval above 0 in {needed} of "
        f"{len(SEEDS)} seeds; removing scores that spread as much along other directions costs "
        f"{_range(control, '{:+.3f}')}. Before, there is no b_Q to be used."
    )
    return found


def _range(numbers: list[float], form: str = "{:.2f}") -> str:
    low, high = form.format(min(numbers)), form.format(max(numbers))
    return low if low == high else f"{low} to {high}"


def written(record: dict[str, Any]) -> str:
    """Return the page with the section of this record."""
    return between(PAGE, BEGIN, END, section(record))


if __name__ == "__main__":
    found = measure() if "--measure" in sys.argv else json.loads(RECORD.read_text(encoding="utf-8"))
    figure(found).write_image(PICTURE, scale=2)
    PAGE.write_text(written(found), encoding="utf-8")

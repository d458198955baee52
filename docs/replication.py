"""The page of the replication, its picture, its tables, and what the README says of it, from each run's measurements.

python docs/replication.py                      makes them from docs/replication/tiny
python docs/replication.py --from runs/again    first puts the measurements of a replication that is done there
python docs/replication.py --from runs/again --folder DIR --page FILE    elsewhere, also of one that is not done

No number of the page stands here: sentences and tables are those of `interp.replicate`, and a test makes them again.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from results import README, between

from interp.replicate import claims, page, published, results
from interp.replicate.jobs import MEASURED, RATES, TRAINED, read_json
from interp.replicate.plan import MATRIX, PLAN, Plan, read_plan, scale, store_plan
from interp.train.config import TrainConfig
from interp.train.records import CURVE
from interp.train.setup import model_config

ROOT = Path(__file__).parents[1]
RECORD, PAGE, PICTURE = (
    ROOT / "docs/replication/tiny",
    ROOT / "docs/replication.md",
    ROOT / "docs/pictures/replication.png",
)
PARAMETERS, TOKENS = 124_000_000, 500_000_000  # of the published models
PANELS = {"uses": "uses_cost", "cost": "uses_cost", "breaking": "validation_loss", "gap": "validation_loss",
          "ablation": "validation_loss", "singled": "singled_out"}  # fmt: skip
"""The pictures, and which metric each needs."""
CLASSES = ("function", "frequent", "rare", "number")


BEGIN, END = "<!-- replication -->\n", "<!-- end of replication -->\n"


def collect(source: Path, folder: Path) -> None:
    """Put plan, learning rates and what was measured of each run into the folder; curves of the first seed only.

    Raises:
        SystemExit: there is no plan, or the folder is that of the docs and a run is not measured.
    """
    if not (source / PLAN).is_file():
        raise SystemExit(f"There is no {source / PLAN}; give the folder of a replication.")
    plan = read_plan(source / PLAN)
    left = [cell.name for cell in plan.cells() if not read_json(source / "runs" / cell.name / MEASURED)]
    if left and folder.resolve() == RECORD:
        raise SystemExit(
            f"{len(left)} runs of {source} are not measured yet ({left[0]}, ...); go on, or give --folder and --page."
        )
    shutil.rmtree(folder / "runs", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    store_plan(plan, folder / PLAN)
    if (source / RATES).is_file():
        shutil.copy(source / RATES, folder)
    for cell in plan.cells():
        curve = [CURVE] if cell.ablation == MATRIX and cell.seed == plan.seeds[0] else []
        for name in (TRAINED, MEASURED, *curve):
            if (file := source / "runs" / cell.name / name).is_file():
                (folder / "runs" / cell.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder / "runs" / cell.name)


def parts(plan: Plan, table: pd.DataFrame, folder: Path) -> Iterator[str]:
    """Yield the parts of the page, a heading, paragraph, list or table each."""
    yield "# The paper's experiment, small"
    yield " ".join(claims.answers(table))
    yield scope(plan, table)
    yield "![What b_Q is used for, and what it does to the loss](pictures/replication.png)"
    yield from (f"*{sentence}*" for sentence in page.state_of(table)[1:])
    [(title, told, rows), *rest] = page.tables(plan, table)
    yield f"## {title}\n\n{told}"
    yield page.markdown(rows)
    yield "## How it was done"
    yield from how(plan, folder)
    for title, told, rows in rest:
        yield f"## {title}\n\n{told}"
        yield page.markdown(rows)
        if title.startswith("Published"):
            yield order()
    yield "## Which classes"
    yield from classes(table)
    yield "## All differences of the loss\n\n" + page.looks_told(table)
    for kind, title in page.TITLES.items():
        yield f"### {title}"
        yield "\n".join(f"- {sentence}" for sentence in page.verdicts(table, kind)) or "Not planned."
    yield "## What changed in these conclusions, and why"
    yield CHANGED
    yield "## Limits"
    yield limits(plan, table)


def scope(plan: Plan, table: pd.DataFrame) -> str:
    """Return what was run, and how much smaller that is than what was published."""
    cfg = model_config(TrainConfig(**plan.training(plan.cells()[0])))
    size = replace(cfg, d_vocab=plan.vocabulary).n_parameters
    matrix = table.loc[(table["ablation"] == MATRIX) & table["validation_loss"].notna()]
    counts = sorted(set(matrix.groupby(["optimizer", "variant"])["seed"].nunique()))
    return (
        f"{len(plan.optimizers)} optimizers, {len(plan.variants)} variants (no bias, b_Q, b_Q and b_V), "
        f"{' or '.join(map(str, counts))} seeds, and {len(plan.ablations)} kinds of ablations: {len(table)} runs of a "
        f"model with {size / 1e6:.1f}M parameters. The paper ([Silverstein, Kunin, Shyam "
        f"2026](https://arxiv.org/abs/2601.22257)) trained {PARAMETERS / 1e6:.0f}M parameters on {TOKENS / 1e6:.0f}M "
        f"tokens: {PARAMETERS / size:.0f} times as many, on {TOKENS / plan.settings['tokens']:.0f} times as much text. So "
        "this can say what holds at this size and nothing else: a sign that agrees is no confirmation, and one that does "
        "not is no refutation."
    )


def how(plan: Plan, folder: Path) -> Iterator[str]:
    """Yield how the runs were made and measured."""
    known = plan == scale("tiny")
    which = "--scale tiny" if known else "--plan docs/replication/tiny/plan.yaml"
    yield f"```bash\npython -m interp.replicate {which} --workers 2 -o runs/tiny\n```"
    where = "../interp/replicate/scales/tiny.yaml" if known else "replication/tiny/plan.yaml"
    yield (
        f"[The plan]({where}) is the whole of it: {plan.about} Batches are of {plan.settings['batch_size']} contexts, with "
        "a cosine schedule. Learning rates were tuned on the symmetric variant with a seed of its own and a third of the "
        "tokens, with the same factors for every optimizer:"
    )
    yield page.rates(plan, folder).split("\n\n", 1)[1]
    yield (
        "ECD's gradient is clipped to norm 1, which the paper does not do; without that it diverged in runs this short. "
        "SOAP leaves sides longer than 512 without a preconditioner. The loss is that of the weights with the lowest one, "
        "on all held-out tokens. Everything else is what `python -m interp.train` does by default with the paper's "
        "settings."
    )
    yield (
        "Intervals are over seeds, and over documents together with them where the loss of each document is stored: the "
        "variance of a bootstrap that draws runs with replacement and for all of them the same documents, in closed form, "
        "each part counted once, and Student's t. In simulations of noise they hold the truth in 90 to 98% of cases, which "
        "a test repeats. Heads belong to their run and are drawn with it."
    )
    yield (
        "What was measured of each run lies in `docs/replication/tiny`: `results.csv` has a row per run, `contrasts.csv` "
        "every difference of every metric, [`report.md`](replication/tiny/report.md) all tables, and `python "
        "docs/replication.py` makes them and this page again. A run of a plan is the same, bit by bit, on the same machine "
        "with the same versions and threads."
    )
    yield (
        "`--scale paper` is the published setting; it begins by saying how long a run takes on one H100, computed from its "
        "floating point operations. Machines that share a folder run the same command on it, each with its own "
        "`--workers`; machines that do not take runs by name, `--only 'ecd-*-seed42'`, and their `runs/` are copied "
        "together at the end. No run of it has been made. What b_Q makes of a symmetric model that is trained on is told in "
        "[training](training.md)."
    )


def order() -> str:
    """Return what was published of SOAP and AdamW."""
    known = published.soap_minus_adamw()
    gelu, prelu = (" and ".join(f"{x:+.3f}" for x in known[name]) for name in ("gelu", "prelu"))
    return (
        f"The published order of SOAP and AdamW depends on the activation: SOAP minus AdamW is {gelu} with GELU (one seed, "
        f"symmetric), {prelu} with PReLU (another table, two pairs of models)."
    )


def classes(table: pd.DataFrame) -> Iterator[str]:
    """Yield how over-represented classes are among the most aligned tokens, beside the symmetric model."""
    yield (
        "log2 odds of a class among the 50 token types whose keys point most along a head's b_Q, of those that occur at "
        "least ten times in what was read, in the median head. The symmetric model read along the same b_Q is the control; "
        "only what differs from it is the bias's doing. Where none of the 50 is of the class in any seed, the odds are "
        "at their floor and the interval has no width. With more text there are more types to choose from, and these odds "
        "turn with its length: a measure not to lean on at this size."
    )
    rows = page.means_of(table, [f"enrichment_{name}" for name in CLASSES])
    yield page.markdown(rows.rename(columns={f"enrichment_{name}": name for name in CLASSES}))


CHANGED = """\
An earlier version of this page said more than its measurements bear, and had fewer of them.

- It held our losses, means over held-out text, against published ones as if they were that too. They are the lowest of
  single batches, and lie below.
- It said that the published loss was of one seed. With ECD and b_Q three seeds were published, whose own interval holds 0.
- It said that SOAP and AdamW were published in the opposite order. That is so with one activation and not with the other.
- It said that b_Q makes classes spread, by the spread of class means over that along random directions, and by pairs that
  random directions do not reach. Keys spread along b_Q, and so does every set of them: labels without meaning pass both.
  What is said of classes now rests on directions along which keys spread as much, on labels shifted along the documents, on
  the symmetric model read along the same b_Q, and on what the bias is used for. By these, b_Q changes how much attention
  classes get; that it singles them out is not shown, but for ECD with b_V beside it, which was no claim to be tested.
- With ECD three seeds could not tell whether b_Q lowers the loss. Five can: it does, by less than the mean of what was
  published.
- With AdamW and PReLU b_Q seemed to lower the loss. Intervals were over seeds alone; now they are over seeds and documents
  together, q is corrected for all differences, and of claims for all claims, and that one is no longer beyond chance.
- What b_Q is used for was not measured. It is not one thing: optimizers differ in whether it tells positions or tokens
  apart, and without embedded positions hardly any of its use is for position.
- All runs were trained anew, with the code of now. Those of a seed ended 0.002 nats (standard deviation) and at most 0.007
  from where they ended before. What changed in between should matter by rounding alone, which was not traced."""


def limits(plan: Plan, table: pd.DataFrame) -> str:
    """Return what these runs cannot tell."""
    reached, tuned = table["validation_loss"].dropna(), plan.tuning is not None
    top, accuracy = table["puzzles_top1"].mean(), table["puzzles_accuracy"].mean()
    lines = [
        "One size, one text, one tokenizer; all runs are measured on the same held-out articles.",
        f"Models this small have not learned much beyond short patterns ({reached.min():.1f} to {reached.max():.1f} nats; "
        f"a guess among {plan.vocabulary:,} tokens has {np.log(plan.vocabulary):.1f}), and no puzzle: top 1 {top:.1%}, "
        f"comparisons {accuracy:.0%} right, of which a coin gets 50%.",
    ]
    if tuned:
        lines.append(
            "One tuning seed, on the symmetric variant only: a variant that wants another rate is at a disadvantage."
        )
    lines.append(
        "A head's sign is free, so a mean over heads near 0 says nothing against heads that amplify strongly; a median "
        "over heads hides that heads differ in which classes they favour."
    )
    return "\n".join(f"- {line}" for line in lines)


def in_short(table: pd.DataFrame) -> str:
    """Return what the README says of the replication."""
    return "\n".join([
        "The paper's experiment: `python -m interp.replicate` runs optimizers, variants, seeds and ablations, and [what",
        "came out at 1.1M parameters](docs/replication.md) has every interval. In short:",
        *claims.answers(table),
    ])  # fmt: skip


def readme(folder: Path = RECORD) -> str:
    """Return the README with what it says of the measurements in a folder."""
    return between(README, BEGIN, END, in_short(results.results_table(read_plan(folder / PLAN), folder)))


def picture(plan: Plan, table: pd.DataFrame, folder: Path, path: Path) -> None:
    """Write those of the pictures that can be drawn, two in a row."""
    from PIL import Image

    figures, drawn = page.figures_of(plan, table, folder), []
    known = [name for name, metric in PANELS.items() if table[metric].notna().any()]
    for name in [*known, *(["loss"] if len(known) % 2 else [])]:
        figure = figures[name].update_layout(paper_bgcolor="white", plot_bgcolor="white")
        drawn.append(Image.open(io.BytesIO(figure.to_image("png", width=590, height=360, scale=2))))
    width, height = drawn[0].size
    whole = Image.new("RGB", (2 * width, (len(drawn) + 1) // 2 * height), "white")
    for number, image in enumerate(drawn):
        whole.paste(image, (number % 2 * width, number // 2 * height))
    whole.quantize(256).save(path, optimize=True)


def written(folder: Path) -> str:
    """Return the page of the measurements in a folder."""
    plan = read_plan(folder / PLAN)
    return "\n\n".join(parts(plan, results.results_table(plan, folder), folder)) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--folder", type=Path, default=RECORD)
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    if asked.source:
        collect(asked.source, asked.folder)
    stored = read_plan(asked.folder / PLAN)
    page.write_results(stored, asked.folder)
    asked.page.write_text(written(asked.folder), encoding="utf-8")
    if asked.page == PAGE:
        README.write_text(readme(), encoding="utf-8")
        picture(stored, results.results_table(stored, asked.folder), asked.folder, PICTURE)

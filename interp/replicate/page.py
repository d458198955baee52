"""What a replication found, as one HTML file that needs no other, and as a report in Markdown."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.page import document
from interp.replicate import claims, published, results
from interp.replicate.figures import FIGURES, loss_figure
from interp.replicate.hierarchy import share_of
from interp.replicate.jobs import RATES, read_json
from interp.replicate.plan import MATRIX, Plan
from interp.train.curves.figures import late_loss_figure, read_history
from interp.train.curves.figures import loss_figure as curves_figure
from interp.train.records import CURVE

TEMPLATES = Path(__file__).parent / "templates"
NOTHING = "–"
TITLES: dict[results.Kind, str] = {
    "breaking": "Symmetry breaking", "gap": "Gap to AdamW", "narrowing": "What breaking does to the gap",
    "ablation": "Ablations",
}  # fmt: skip
SAID: dict[results.Kind, str] = {
    "breaking": "{variant} with {optimizer}{ablated}, minus symmetric",
    "gap": "{optimizer} minus adamw, {variant}",
    "narrowing": "what {variant} does to {optimizer}, minus what it does to adamw",
    "ablation": "{ablation} instead of the matrix's {variant} with {optimizer}",
}
EVIDENCE = {
    "rms_amplification": ("rms A", ".2f"), "rms_position": ("by position", ".2f"), "rms_beyond": ("beyond position", ".2f"),
    "rms_shifted": ("shifted labels", ".2f"), "findings": ("findings", ".0f"), "singled_out": ("singled out", ".1%"),
    "key_spread": ("key spread", ".2f"), "eta2_position": ("η² position", ".2f"),
    "eta2_position_control": ("at equal spread", ".2f"), "eta2_type": ("η² type", ".2f"), "eta2_class": ("η² class", ".3f"),
    "eta2_class_control": ("at equal spread ", ".3f"),
}  # fmt: skip
EVIDENCE_TOLD = (
    "Root mean square of A over heads and parts of speech, in doublings; of what position alone gives of it, of what is "
    "beyond position, and of A for labels shifted along the documents, which mean nothing. Findings: pairs of head and "
    "class whose A beyond position has an interval over documents without 0 and is beyond shifted labels; a dash where "
    "there are too few documents, or the direction is not the model's own. Singled out: share of the pairs beyond "
    "directions that spread the keys as much, position removed (q < 0.05); only there does the bias single a class out. "
    "Key spread: along the direction over that along random ones, which says nothing of classes. η²: what explains the "
    "bias score, median head, each beside the same along directions of equal spread. Runs whose mean b_Q is zero are read "
    "along the b_Q of the matrix: what such a bias would do."
)
USES_TOLD = (
    "The loss without b_Q minus that with it, in nats per token, beside the cost of removing scores that spread as much "
    "along other directions (mean over draws), and which share of the cost a bias gives back that knows only the position, "
    "the token type or the class. A dash where the cost cannot be told from 0: of nothing there are no shares."
)


def write_results(plan: Plan, root: Path) -> list[Path]:
    """Write table, page and report of what is done so far, and return the files."""
    table = results.results_table(plan, root)
    files = results.save_results(table, root)
    report = document.write_page("\n\n".join(sections(plan, table, root)) + "\n", root / "report.md")
    return [*files, report, write_page(plan, table, root)]


def write_page(plan: Plan, table: pd.DataFrame, root: Path) -> Path:
    """Write `report.html` into the replication's folder and return it."""
    html = document.render(
        TEMPLATES,
        "replication.html",
        title=root.name,
        answers=claims.answers(table),
        about=plan.about,
        state=" ".join(state_of(table)).replace("`", ""),
        tables=[
            (title, told.replace("`", ""), list(rows), rows.astype(str).to_numpy().tolist())
            for title, told, rows in tables(plan, table)
        ],
        first=pictures_above(table),
        panels=document.panels_of(figures_of(plan, table, root)),
    )
    return document.write_page(html, root / "report.html")


def state_of(table: pd.DataFrame) -> list[str]:
    """Return how far a replication is, and whether an earlier version measured it, a sentence each."""
    states = list(table["status"])
    known = [name for name in ("measured", "trained", "diverged", "waiting") if name in states]
    told = [f"{len(states)} runs: {', '.join(f'{states.count(name)} {name}' for name in known)}."]
    if earlier := int(results.is_earlier(table).sum()):
        told.append(
            f"An earlier version measured {earlier} of them, without parts, controls and uses; its `spread` and "
            "`significant` held classes against random directions, which says nothing of classes, and are left out. Where "
            "their weights are kept, remove measured.json, and they are measured again."
        )
    return told


def figures_of(plan: Plan, table: pd.DataFrame, root: Path) -> dict[str, go.Figure]:
    """Return every picture by name; curves are those of the matrix's runs with the first seed."""
    activation = activation_of(plan)
    figures = {name: FIGURES[name](table, activation) for name in pictures_above(table)}
    figures["loss"] = loss_figure(table, activation, results.is_comparable(plan))
    figures |= {name: draw(table, activation) for name, draw in FIGURES.items() if name not in figures}
    first = [cell for cell in plan.cells() if cell.ablation == MATRIX and cell.seed == plan.seeds[0]]
    begun = [cell for cell in first if (root / "runs" / cell.name / CURVE).is_file()]
    histories = {f"{cell.optimizer} {cell.variant}": read_history(root / "runs" / cell.name) for cell in begun}
    if histories:
        figures |= {"curves": curves_figure(histories), "late-curves": late_loss_figure(histories)}
    return figures


def pictures_above(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the pictures that stand above the tables: what b_Q is used for, if that is measured."""
    return ("uses", "cost") if len(table.dropna(subset=["uses_cost"])) else ("breaking", "gap")


def activation_of(plan: Plan) -> str:
    """Return the activation of the matrix."""
    return str(plan.settings.get("activation", "prelu"))


def tables(plan: Plan, table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the tables of page and report: title, what is in it, and the rows."""
    yield "What the paper says, claim by claim", claims_told(plan, table), claims_table(plan, table)
    yield "Held-out loss", losses_told(plan, table), losses(plan, table)
    yield "Amplification", f"{EVIDENCE_TOLD} {singled_told(table)}".strip(), evidence(table)
    yield "What b_Q is used for", USES_TOLD, uses(table)
    yield "Published losses, as they are", published.HOW, published_table()


def sections(plan: Plan, table: pd.DataFrame, root: Path) -> Iterator[str]:
    """Yield the parts of the report, a heading, paragraph or table each."""
    yield "# Replication"
    yield " ".join(claims.answers(table))
    yield f"{plan.about} {' '.join(state_of(table))}"
    yield "## Learning rates\n\n" + rates(plan, root)
    for title, told, rows in tables(plan, table):
        yield f"## {title}\n\n{told}"
        yield markdown(rows)
    yield "## Differences of the loss\n\n" + looks_told(table)
    for kind, title in TITLES.items():
        yield f"### {title}"
        yield "\n".join(f"- {sentence}" for sentence in verdicts(table, kind)) or "Not planned."
    yield "## Classes among the most aligned tokens"
    yield (
        "log2 odds of classes among the 50 most aligned of the token types that occur at least ten times, median head; A of "
        "classes, mean over heads. Frequent tokens are the types that make up half of the text, rare ones those that make "
        "up its last fifth. The odds turn with the length of the text, which decides what types may be chosen."
    )
    enrichments = [f"enrichment_{name}" for name in ("function", "frequent", "rare", "number")]
    yield markdown(means_of(table, [*enrichments, "amplification_function", "amplification_frequent"]))
    yield "## Puzzles"
    yield "Means over families: top 1 and loss of the first token of completions, accuracy of comparisons (chance 0.5)."
    puzzles = ["puzzles_top1", "puzzles_first_token_loss", "puzzles_accuracy"]
    yield markdown(means_of(table, puzzles, ".3f"))
    yield markdown(differences_of(table, "breaking", puzzles))


def verdicts(table: pd.DataFrame, kind: results.Kind) -> Iterator[str]:
    """Yield a sentence per contrast of the loss: the mean difference, its interval, and what that allows to say.

    A difference counts where q, corrected for the number of all differences, is below 0.05.
    """
    for contrast, q in results.looks(table):
        if contrast.kind != kind:
            continue
        ablated = f" ({contrast.ablation})" if contrast.ablation != MATRIX else ""
        name = SAID[kind].format(
            optimizer=contrast.optimizer, variant=contrast.variant, ablation=contrast.ablation, ablated=ablated
        )
        found = contrast.estimate
        side = "lower" if found.mean < 0 else "higher"
        said = side if q < 0.05 else "no evidence of a difference"
        if not found.seeds:
            yield f"{name}: not measured yet."
        elif found.seeds == 1:
            yield f"{name}: {found:+.4f}, one seed, no interval."
        else:
            yield f"{name}: {found:+.4f}, {found.seeds} seeds, q {q:.2g}: {said}."


def looks_told(table: pd.DataFrame) -> str:
    """Return how many differences of the loss are looked at, and what that does."""
    count = sum(c.estimate.seeds > 1 for c, _ in results.looks(table))
    return (
        f"{count} differences of the loss were looked at, each with a 95% interval that is not corrected, so about "
        f"{count / 20:.0f} would miss 0 by chance; q is corrected for their number (Benjamini-Hochberg), and what follows "
        "says lower or higher where it is below 0.05."
    )


def singled_told(table: pd.DataFrame) -> str:
    """Return in which runs more pairs, or fewer, are singled out than in the symmetric model; "" where not measured."""
    looked = [(c, q) for c, q in results.looks(table, "singled_out") if c.estimate.seeds > 1]
    sure = [(c, c.estimate) for c, q in looked if c.kind == "breaking" and q < claims.ALPHA]
    if not looked:
        return ""
    found = [f"{results.cell_name(c.optimizer, c.variant, c.ablation)} ({e:+.1%}, {e.seeds} seeds)" for c, e in sure]
    return (
        "The share singled out differs from that of the symmetric model along the same b_Q in "
        f"{', '.join(found) or 'no runs'} (q below {claims.ALPHA}, corrected for all {len(looked)} differences of the share "
        "that are looked at)."
    )


def interval_told(table: pd.DataFrame) -> str:
    """Return over what the intervals of the loss are."""
    over = {contrast.estimate.over for contrast, _ in results.looks(table) if contrast.estimate.seeds > 1}
    both = "over seeds and documents together" if "seeds and documents" in over else "over seeds"
    return f"95% intervals {both} (`interp.replicate.hierarchy`)"


def claims_told(plan: Plan, table: pd.DataFrame) -> str:
    """Return how the table of claims is to be read."""
    tested = sum(claim.found.seeds > 1 for claim, _ in claims.claims(table, activation_of(plan)))
    return (
        f"Differences are taken between runs of the same seed, with {interval_told(table)}. It says yes, or the opposite, "
        f"where the interval leaves out 0 and q, corrected for the {tested} claims that are tested here "
        f"(Benjamini-Hochberg), is below 0.05. {claims.SIZE}"
    )


def claims_table(plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per claim of the paper."""
    return pd.DataFrame([
        {"claim": each.claim, "what would show it": each.shows, "published": each.published, "seen here": each.seen(q),
         "size needed": each.needed}
        for each, q in claims.claims(table, activation_of(plan))
    ])  # fmt: skip


def losses_told(plan: Plan, table: pd.DataFrame) -> str:
    """Return what the table of losses holds, and what may be compared in it."""
    different = "The published models are larger and saw other text: compare differences only, in sign and size. "
    other = "Published losses stand beside them. " if results.is_comparable(plan) else different
    alike = "the published way (the lowest of single batches)" if results.BATCH in table else ""
    how = f"Ours stands beside what it is {alike}. " if alike else ""
    return (
        f"Nats per token, means over seeds; differences between runs of the same seed, with {interval_told(table)}. {other}"
        f"{how}{published.HOW}"
    )


def losses(plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell of the matrix: its loss, what breaking the symmetry did to it, and the published figures.

    Where single batches were measured as the release does, the lowest of them stands beside our loss, and its differences.
    """
    metrics = {"validation_loss": "", **({results.BATCH: ", the published way"} if results.BATCH in table else {})}
    broken = {
        (metric, c.optimizer, c.variant): f"{c.estimate:+.4f}"
        for metric in metrics for c in results.contrasts(table, "breaking", metric) if c.ablation == MATRIX
    }  # fmt: skip
    activation, rows = activation_of(plan), []
    for optimizer in plan.optimizers:
        for variant in plan.variants:
            own = {metric: results.runs_of(table, optimizer, variant, metric).estimate for metric in metrics}
            shown = {}
            for metric, how in metrics.items():
                shown[f"loss{how}"] = f"{own[metric]:.4f}"
                shown[f"minus symmetric{how}"] = broken.get((metric, optimizer, variant), NOTHING)
            runs = [
                run for run in published.published_losses(activation, optimizer, variant) if run.mean_v in (None, 0.5)
            ]
            known = published.published_differences(activation, optimizer, variant).estimate
            rows.append({
                "cell": results.cell_name(optimizer, variant),
                "lr": number_text(_lr(table, optimizer), "g"),
                "seeds": str(own["validation_loss"].seeds),
                **shown,
                "published loss": ", ".join(f"{run.loss:g}" for run in runs) or NOTHING,
                "published difference": f"{known:+.4f}" if variant != "symmetric" else NOTHING,
            })  # fmt: skip
    return pd.DataFrame(rows)


def published_table() -> pd.DataFrame:
    """Return a row per published run."""
    return pd.DataFrame([
        {
            "run": f"{run.optimizer} {run.variant} {run.activation}",
            "seed": NOTHING if run.seed is None else str(run.seed),
            "mean of b_V": NOTHING if run.mean_v is None else f"{run.mean_v:g}",
            "lowest loss of a batch": f"{run.loss:g}",
        }
        for run in published.RUNS
    ])  # fmt: skip


def evidence(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell and ablation: what b_Q does to attention, beside its controls, as far as it is measured."""
    rows = []
    for cell in results.cells_of(table):
        found = {name: results.runs_of(table, *cell[:2], name, cell[2]).estimate for name in EVIDENCE}
        shown = {told: f"{found[name]:{form}}" for name, (told, form) in EVIDENCE.items()}
        pairs = results.runs_of(table, *cell[:2], "pairs", cell[2]).estimate.mean
        if found["findings"].seeds:
            own = results.by_seed(table, cell[0], cell[1], "direction", cell[2]).eq("own").any()
            shown["findings"] = f"{found['findings'].mean:.0f} of {pairs:.0f}" if own else NOTHING
        rows.append({"runs": results.cell_name(*cell), "seeds": str(found["rms_amplification"].seeds), **shown})
    made = pd.DataFrame(rows)
    return made.loc[:, made.ne(NOTHING).any()]


def uses(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell and ablation whose b_Q was removed: the cost, its control, and what gives it back."""
    rows = []
    for optimizer, variant, ablation in results.cells_of(table):
        runs = {name: results.runs_of(table, optimizer, variant, name, ablation) for name in results.USES}
        if not runs["uses_cost"].values:
            continue
        shares = {name: share_of(runs[f"uses_{name}"], runs["uses_cost"]) for name in results.GIVEN_BACK}
        rows.append({
            "runs": results.cell_name(optimizer, variant, ablation),
            "seeds": str(len(runs["uses_cost"].values)),
            "cost of removing b_Q": f"{runs['uses_cost'].estimate:+.4f}",
            "of equal spread": f"{runs['uses_control'].estimate:+.4f}",
            **{f"{name} gives back": f"{share:.0%}" for name, share in shares.items()},
        })  # fmt: skip
    return pd.DataFrame(rows or [{"runs": "not measured"}])


def differences_of(table: pd.DataFrame, kind: results.Kind, metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row per contrast of a kind: the mean difference of each metric with its interval."""
    found = {metric: results.contrasts(table, kind, metric) for metric in metrics}
    first = found[metrics[0]]
    columns = {metric: [f"{c.estimate:+.4f}" for c in own] for metric, own in found.items()}
    runs = [results.cell_name(c.optimizer, c.variant, c.ablation) for c in first]
    return pd.DataFrame({"runs": runs, "seeds": [len(c.differences) for c in first], **columns})


def means_of(table: pd.DataFrame, metrics: Sequence[str], form: str = ".2f") -> pd.DataFrame:
    """Return a row per cell and ablation: the mean of each metric over seeds with its 95% interval."""
    rows = []
    for cell in results.cells_of(table):
        found = {metric: results.runs_of(table, *cell[:2], metric, cell[2]).estimate for metric in metrics}
        seeds = str(max(each.seeds for each in found.values()))
        shown = {metric: f"{each:{form}}" for metric, each in found.items()}
        rows.append({"runs": results.cell_name(*cell), "seeds": seeds, **shown})
    return pd.DataFrame(rows)


def number_text(value: float | None, form: str) -> str:
    """Return a number as text, a dash where there is none."""
    return NOTHING if value is None or np.isnan(value) else format(value, form)


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, columns of numbers to the right, the first and those of words to the left."""
    cells = table.astype(str)
    numbers = [bool(cells[name].str.match(r"[-+–\d]").all()) for name in cells]
    rules = ["---", *("--:" if right else "---" for right in numbers[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(cells), rules, *cells.to_numpy().tolist()])


def _lr(table: pd.DataFrame, optimizer: str) -> float:
    matrix = (table["optimizer"] == optimizer) & (table["ablation"] == MATRIX)
    return float(table.loc[matrix, "lr"].iloc[0])


def rates(plan: Plan, root: Path) -> str:
    """Return the learning rates that were chosen, and what was tried."""
    rows, notes = [], []
    for name, chosen in read_json(root / RATES).items():
        tried = {float(rate): loss for rate, loss in chosen["losses"].items()}
        shown = [f"{rate:g}: {number_text(loss, '.3f')}" for rate, loss in sorted(tried.items())] or ["given"]
        rows.append({"optimizer": name, "chosen": f"{chosen['lr']:g}", "tried: held-out loss": ", ".join(shown)})
        if tried and chosen["lr"] in (min(tried), max(tried)):
            notes.append(f"The learning rate of {name} lies at the end of its grid: a better one may lie beyond.")
    if not rows:
        return "Not chosen yet."
    how = "By short runs of the symmetric variant." if plan.tuning else "As the plan gives them."
    return "\n\n".join([how, markdown(pd.DataFrame(rows)), *notes])

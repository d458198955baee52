"""What a replication found, as one HTML file that needs no other, as a report in Markdown, and in figures."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.evals.puzzles.scoring import mean
from interp.page import document
from interp.page.look import COLOURS, FONT, GRID
from interp.replicate import results
from interp.replicate.jobs import RATES, TRAINED, read_json
from interp.replicate.plan import MATRIX, Plan
from interp.train.curves.figures import late_loss_figure, read_history
from interp.train.curves.figures import loss_figure as curves_figure

TEMPLATES = Path(__file__).parent / "templates"
VARIANT_COLOURS: dict[str, str] = dict(zip(["symmetric", "bq", "bqbv", "bv"], COLOURS, strict=False))
GREY = "#808890"
Values = pd.Series | tuple[float, ...]
TITLES: dict[results.Kind, str] = {
    "breaking": "Symmetry breaking", "gap": "Gap to AdamW", "narrowing": "What breaking does to the gap",
    "ablation": "Ablations",
}  # fmt: skip

SAID: dict[results.Kind, str] = {
    "breaking": "{variant} with {optimizer}, minus symmetric",
    "gap": "{optimizer} minus adamw, {variant}",
    "narrowing": "what {variant} does to {optimizer}, minus what it does to adamw",
    "ablation": "{ablation} instead of the matrix's {variant} with {optimizer}",
}


def write_results(plan: Plan, root: Path) -> list[Path]:
    """Write table, page and report of what is done so far, and return the files."""
    table = results.results_table(plan, root)
    files = results.save_results(table, root)
    report = document.write_page("\n\n".join(sections(plan, table, root)) + "\n", root / "report.md")
    return [*files, report, write_page(plan, table, root)]


def write_page(plan: Plan, table: pd.DataFrame, root: Path) -> Path:
    """Write `report.html` into the replication's folder and return it."""
    summary = results.losses(plan, table)
    html = document.render(
        TEMPLATES,
        "replication.html",
        title=root.name,
        answers=answers(table),
        about=plan.about,
        state=results.state_of(table),
        columns=list(summary),
        rows=summary.to_numpy().tolist(),
        panels=document.panels_of(figures_of(plan, table, root)),
    )
    return document.write_page(html, root / "report.html")


def answers(table: pd.DataFrame) -> list[str]:
    """Return three sentences that a newcomer understands: on the loss, on the gap to AdamW, on attention.

    Only contrasts over two seeds or more count, each by its 95% t interval over seeds.
    """
    broken, narrowed = (_sorted(results.contrasts(table, kind)) for kind in ("breaking", "narrowing"))
    if sum(map(len, broken.values())):
        found = (
            f"Breaking the symmetry lowers the loss on new text in {_of(broken, 'lower')} of optimizer and variant, raises "
            f"it in {len(broken['higher'])}, and for {len(broken['unsure'])} the interval over seeds holds 0."
        )
    else:
        found = (
            "Whether breaking the symmetry lowers the loss on new text is not measured yet: it takes two seeds of each."
        )
    if sum(map(len, narrowed.values())):
        worse = {c.variant for c in broken["higher"] if c.optimizer == results.BASE}
        hollow = sum(c.variant in worse for c in narrowed["lower"])
        gap = f"It brings another optimizer closer to AdamW in {_of(narrowed, 'lower')}"
        gap += f", in {hollow} of these with a variant that makes AdamW itself worse." if hollow else "."
    else:
        gap = "Whether it brings other optimizers closer to AdamW is not measured yet."
    return [found, gap, _of_attention(table)]


def _sorted(contrasts: list[results.Contrast]) -> dict[str, list[results.Contrast]]:
    """Contrasts that have an interval by where it lies."""
    found: dict[str, list[results.Contrast]] = {"lower": [], "higher": [], "unsure": []}
    for contrast in contrasts:
        _, low, high = contrast.interval
        if not np.isnan(low):
            found["lower" if high < 0 else "higher" if low > 0 else "unsure"].append(contrast)
    return found


def _of(contrasts: Mapping[str, list[results.Contrast]], side: str) -> str:
    return f"{len(contrasts[side])} of {sum(map(len, contrasts.values()))} pairs"


def _of_attention(table: pd.DataFrame) -> str:
    rows = table.reindex(columns=[*table.columns.union(["direction"])])  # a table of an earlier version has none
    rows = rows.loc[(rows["ablation"] == MATRIX) & rows["rms_amplification"].notna()]
    cells = rows.groupby(["optimizer", "variant", "direction"], sort=False)["rms_amplification"].mean()
    own, lent = (cells[cells.index.get_level_values("direction") == name] for name in ("own", "matrix"))
    if own.empty or lent.empty:
        return "What the bias does to attention is not measured yet in models with it and without."
    spans = [f"{values.min():.2f} to {values.max():.2f}" for values in (own, lent)]
    return (
        f"In models trained with a bias, it changes the attention that classes of tokens get by {spans[0]} doublings (root "
        f"mean square over heads and classes, from cell to cell); the same bias lent to models trained without one, by "
        f"{spans[1]}."
    )


def figures_of(plan: Plan, table: pd.DataFrame, root: Path) -> dict[str, go.Figure]:
    """Return every picture by name; curves are those of the matrix's runs with the first seed."""
    activation = str(plan.settings.get("activation", "prelu"))
    figures = {"loss": loss_figure(table, activation, results.is_comparable(plan))}
    figures |= {name: draw(table, activation) for name, draw in FIGURES.items()}
    first = [cell for cell in plan.cells() if cell.ablation == MATRIX and cell.seed == plan.seeds[0]]
    begun = [cell for cell in first if (root / "runs" / cell.name / TRAINED).is_file()]
    histories = {f"{cell.optimizer} {cell.variant}": read_history(root / "runs" / cell.name) for cell in begun}
    if histories:
        figures |= {"curves": curves_figure(histories), "late-curves": late_loss_figure(histories)}
    return figures


def sections(plan: Plan, table: pd.DataFrame, root: Path) -> Iterator[str]:
    """Yield the parts of the report, a heading, paragraph or table each."""
    yield "# Replication"
    yield f"{plan.about} {results.state_of(table)}"
    yield "## Learning rates\n\n" + _rates(plan, root)
    yield "## Held-out loss"
    different = "The published models are larger and saw other text: compare differences only, "
    other = "Published losses stand beside them, " if results.is_comparable(plan) else different
    yield (
        "Nats per token, means over seeds; differences between runs of the same seed with 95% t intervals. "
        f"{other}and those were published for one seed."
    )
    if results.BATCH in table:
        yield (
            "Published losses are the lowest of single batches of 8 x 512 tokens, which lies below a mean over held-out "
            "text: hold the loss that was measured the published way against them."
        )
    yield results.markdown(results.losses(plan, table))
    for kind, title in TITLES.items():
        yield f"## {title}"
        yield "\n".join(f"- {sentence}" for sentence in verdicts(table, kind)) or "Not planned."
    yield "## Puzzles"
    yield "Means over families: top 1 and loss of the first token of completions, accuracy of comparisons (chance 0.5)."
    puzzles = ["puzzles_top1", "puzzles_first_token_loss", "puzzles_accuracy"]
    yield results.markdown(results.means_of(table, puzzles, ".3f"))
    yield results.markdown(results.differences_of(table, "breaking", puzzles))
    yield "## Amplification"
    yield (
        "Root mean square of A over heads and parts of speech, in doublings; spread of the classes' mean keys along the "
        "direction, as a ratio to random directions (1 is nothing); share of pairs of head and class beyond random "
        "directions (q < 0.05); log2 odds of classes among the 50 most aligned tokens, median head; A of classes, mean over "
        "heads. Frequent tokens are the types that make up half of the text, rare ones those that make up its last fifth. "
        "Runs whose mean b_Q is zero are read along the b_Q of the matrix: what such a bias would do."
    )
    yield results.markdown(results.means_of(table, ["rms_amplification", "spread", "significant"]))
    if set(results.EVIDENCE) <= set(table):  # an earlier version did not measure it
        yield (
            "Root mean square of what position alone gives of A, of what is beyond position, and of A for labels shifted "
            "along the documents, which mean nothing; share of pairs of head and class beyond directions that spread the "
            "keys as much, position removed (q < 0.05): only there does the bias single a class out. How far keys spread "
            "along the direction, as a ratio to random ones, and what explains the bias score (eta squared), median head."
        )
        yield results.markdown(results.means_of(table, list(results.EVIDENCE[:4])))
        yield results.markdown(results.means_of(table, list(results.EVIDENCE[4:])))
    enrichments = [f"enrichment_{name}" for name in ("function", "frequent", "rare", "number")]
    yield results.markdown(results.means_of(table, [*enrichments, "amplification_function", "amplification_frequent"]))


def verdicts(table: pd.DataFrame, kind: results.Kind) -> Iterator[str]:
    """Yield a sentence per contrast of the loss: the mean difference, its interval, and what that allows to say."""
    for contrast in results.contrasts(table, kind):
        name = SAID[kind].format(optimizer=contrast.optimizer, variant=contrast.variant, ablation=contrast.ablation)
        seeds, (_, low, high) = len(contrast.differences), contrast.interval
        said = "lower" if high < 0 else "higher" if low > 0 else "the interval holds 0, no evidence of a difference"
        if not seeds:
            yield f"{name}: not measured yet."
        elif np.isnan(low):
            yield f"{name}: {results.difference_text(contrast)}, one seed, no interval."
        else:
            yield f"{name}: {results.difference_text(contrast)}, {seeds} seeds: {said}."


def _rates(plan: Plan, root: Path) -> str:
    rows, notes = [], []
    for name, chosen in read_json(root / RATES).items():
        tried = {float(rate): loss for rate, loss in chosen["losses"].items()}
        shown = [f"{rate:g}: {results.number_text(loss, '.3f')}" for rate, loss in sorted(tried.items())] or ["given"]
        rows.append({"optimizer": name, "chosen": f"{chosen['lr']:g}", "tried: held-out loss": ", ".join(shown)})
        if tried and chosen["lr"] in (min(tried), max(tried)):
            notes.append(f"The learning rate of {name} lies at the end of its grid: a better one may lie beyond.")
    if not rows:
        return "Not chosen yet."
    how = "By short runs of the symmetric variant." if plan.tuning else "As the plan gives them."
    return "\n\n".join([how, results.markdown(pd.DataFrame(rows)), *notes])


def loss_figure(table: pd.DataFrame, activation: str, comparable: bool) -> go.Figure:
    """Draw the held-out loss of every run of the matrix, its mean over seeds and the mean's 95% t interval.

    Published losses stand beside them where the scale is `comparable`: the same model, text and number of tokens. Then the
    loss is the lowest of single batches, as published, if it was measured.
    """
    matrix = table.loc[table["ablation"] == MATRIX]
    metric = results.BATCH if comparable and results.BATCH in table else "validation_loss"
    traces: list[Any] = []
    for variant in matrix["variant"].unique():
        names = matrix["optimizer"].unique()
        traces += _dots(variant, {name: results.by_seed(table, name, variant, metric) for name in names})
        if comparable:
            traces += _published(variant, {name: results.published_loss(activation, name, variant) for name in names})
    title = "Lowest loss of single batches, as published" if metric == results.BATCH else "Held-out loss"
    figure = _figure(title, "nats per token", traces)
    shown = np.concatenate([np.asarray(trace.y, dtype=float) for trace in traces])
    if not len(shown):
        return figure
    margin = 0.2 * float(np.ptp(shown)) + 0.01  # Plotly's own range goes down to zero beside error bars
    return figure.update_yaxes(range=[float(shown.min()) - margin, float(shown.max()) + margin])


def breaking_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each variant minus symmetric, per seed, beside the published differences of the 124M models."""
    found = results.contrasts(table, "breaking")
    traces: list[Any] = []
    for variant in dict.fromkeys(contrast.variant for contrast in found):
        own = {contrast.optimizer: contrast.differences for contrast in found if contrast.variant == variant}
        traces += _dots(variant, own)
        traces += _published(variant, {name: results.published_difference(activation, name, variant) for name in own})
    return _figure("Loss, broken minus symmetric", "nats per token", traces, line=0)


def gap_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each optimizer minus that of AdamW with the same variant and seed."""
    found = results.contrasts(table, "gap")
    traces: list[Any] = []
    for variant in dict.fromkeys(contrast.variant for contrast in found):
        traces += _dots(variant, {c.optimizer: c.differences for c in found if c.variant == variant})
    return _figure("Loss, minus AdamW's", "nats per token", traces, line=0)


def ablation_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the loss of each ablation minus that of the matrix's run of the same optimizer, variant and seed."""
    found = results.contrasts(table, "ablation")
    traces: list[Any] = []
    for number, optimizer in enumerate(dict.fromkeys(contrast.optimizer for contrast in found)):
        own = {f"{c.ablation}<br>{c.variant}": c.differences for c in found if c.optimizer == optimizer}
        traces += _dots(optimizer, own, COLOURS[number])
    return _figure("Loss, ablation minus matrix", "nats per token", traces, line=0)


def puzzle_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the mean score over seeds of every family of puzzles in every cell: top1, or accuracy of comparisons."""
    families = [name for name in table if name.endswith(("_top1", "_accuracy")) and not name.startswith("puzzles_")]
    cells = table.loc[table["ablation"] == MATRIX].groupby(["optimizer", "variant"], sort=False)[families].mean()
    names = [results.cell_name(*cell) for cell in cells.index]
    labels = [name.replace("_top1", "").replace("_accuracy", " (chance 50%)").replace("_", " ") for name in families]
    heat = go.Heatmap(
        z=cells.to_numpy(), x=labels, y=names, colorscale="Blues", zmin=0, zmax=1, texttemplate="%{z:.0%}",
        hovertemplate="%{y}<br>%{x}: %{z:.1%}<extra></extra>", showscale=False, textfont={"size": 9},
    )  # fmt: skip
    figure = _figure("Puzzles: share of items right", "", [heat]).update_layout(showlegend=False)
    return figure.update_yaxes(dtick=1, autorange="reversed", tickfont_size=10).update_xaxes(tickangle=40)


def enrichment_figure(table: pd.DataFrame, activation: str) -> go.Figure:
    """Draw the enrichment of classes among the most aligned tokens, for runs with AdamW, beside the published range."""
    traces: list[Any] = []
    for number, name in enumerate(("function", "frequent", "rare", "number")):
        traces += _dots(name, _cells(table, "adamw", f"enrichment_{name}"), COLOURS[number])
    figure = _figure("AdamW: 50 most aligned tokens", "log2 odds, median head", traces, line=0)
    low, high = results.ENRICHMENT
    return figure.add_hrect(y0=low, y1=high, fillcolor=GREY, opacity=0.15, line_width=0)


def _per_cell(metric: str, title: str, unit: str, line: float) -> Callable[[pd.DataFrame, str], go.Figure]:
    """A function that draws a metric for every cell and ablation, with a line where nothing is."""

    def draw(table: pd.DataFrame, activation: str) -> go.Figure:
        traces: list[Any] = []
        for number, optimizer in enumerate(table["optimizer"].unique()):
            traces += _dots(optimizer, _cells(table, optimizer, metric), COLOURS[number])
        return _figure(title, unit, traces, line)

    return draw


FIGURES: dict[str, Callable[[pd.DataFrame, str], go.Figure]] = {
    "breaking": breaking_figure,
    "gap": gap_figure,
    "ablation": ablation_figure,
    "puzzles": puzzle_figure,
    "spread": _per_cell("spread", "Spread of classes along b_Q", "÷ along random directions", 1.0),
    "amplification": _per_cell("rms_amplification", "Amplification", "root mean square, doublings", 0.0),
    "enrichment": enrichment_figure,
}


def _cells(table: pd.DataFrame, optimizer: str, metric: str) -> dict[str, pd.Series]:
    """The values of a metric by variant, and ablation if it is one."""
    rows = table.loc[table["optimizer"] == optimizer, ["variant", "ablation"]].drop_duplicates()
    found = {}
    for variant, ablation in rows.itertuples(index=False, name=None):
        place = variant if ablation == MATRIX else f"{variant}<br>{ablation}"
        found[place] = results.by_seed(table, optimizer, variant, metric, ablation)
    return found


def _dots(name: str, groups: Mapping[str, Values], colour: str | None = None) -> Iterator[go.Scatter]:
    """A point per run, and the mean of each group with its interval."""
    colour = colour or VARIANT_COLOURS.get(name, GREY)
    places = [str(group) for group, values in groups.items() for _ in values]
    values = np.concatenate([np.asarray(values, dtype=float) for values in groups.values()] or [np.empty(0)])
    common = {"legendgroup": name, "offsetgroup": name, "alignmentgroup": "all", "name": name}
    yield go.Scatter(
        x=places, y=values, mode="markers", marker={"color": colour, "size": 6, "opacity": 0.5}, showlegend=False,
        hovertemplate="%{y:.4f}", **common,
    )  # fmt: skip
    known = {str(group): mean(np.asarray(values, dtype=float)) for group, values in groups.items() if len(values)}
    half = [high - middle for middle, _, high in known.values()]
    yield go.Scatter(
        x=list(known), y=[middle for middle, _, _ in known.values()], mode="markers", **common,
        marker={"color": colour, "size": 11, "symbol": "line-ew-open", "line": {"width": 3}},
        error_y={"type": "data", "array": half, "color": colour, "thickness": 1.5, "width": 4},
        hovertemplate="mean %{y:.4f} ± %{error_y.array:.4f}",
    )  # fmt: skip


def _published(name: str, known: Mapping[str, float | None]) -> Iterator[go.Scatter]:
    shown = {str(place): value for place, value in known.items() if value is not None}
    yield go.Scatter(
        x=list(shown), y=list(shown.values()), mode="markers", name=f"{name}, published", legendgroup=name,
        offsetgroup=name, alignmentgroup="all", hovertemplate="published %{y:.3f}",
        marker={"symbol": "diamond-open", "size": 10, "color": VARIANT_COLOURS.get(name, GREY)},
    )  # fmt: skip


def _figure(title: str, unit: str, traces: list[Any], line: float | None = None) -> go.Figure:
    layout = {
        "title": {"text": title, "y": 0.97, "yanchor": "top"},
        "xaxis": {"automargin": True, "gridcolor": GRID, "tickfont": {"size": 11}},
        "yaxis": {"automargin": True, "zeroline": False, "gridcolor": GRID, "title": {"text": unit}},
        "scattermode": "group",
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
        "template": "none",
        "font": FONT,
        "margin": {"l": 16, "r": 16, "t": 74, "b": 16},
    }
    figure = go.Figure(traces, layout)
    return figure if line is None else figure.add_hline(y=line, line_width=1, line_color=GREY)

"""From a checkpoint and a corpus to an amplification result and its page: what the command and the notebooks call."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from interp.analysis import result
from interp.analysis import result as result_module
from interp.analysis.comparison import Comparison, compare_results
from interp.analysis.direction import Direction
from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.plan import Part
from interp.analysis.interventions.result import Interventions
from interp.analysis.measurements.selectivity import FEW
from interp.analysis.measurements.static_alignment import static_tables
from interp.analysis.measurements.value_bias import value_tables
from interp.analysis.resume import ResumeFile, model_digest
from interp.analysis.run import measure
from interp.data.classes.built_in import Scheme, build_schemes, deciles
from interp.data.classes.spans import Labeller
from interp.data.contexts import Dealer
from interp.data.corpora.corpus import Corpus, Split, open_for_measuring
from interp.data.spacy_pipelines import DEFAULT_PIPELINE, pipeline_meta
from interp.data.tagging.documents import tag_documents
from interp.data.tokenizer import encode_documents
from interp.errors import InterpError
from interp.model.bias import BiasSource
from interp.model.checkpoint import find_checkpoint, load_model
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.options import console, escaped
from interp.provenance import now, versions
from interp.report.dashboard import write_dashboard
from interp.vocabulary import load_tokenizer, tokenizer_sha256

TOKENS_PER_BATCH = 4096

FEW_DOCUMENTS = 20

VALUE_TOKENS = 6000  # of the beginnings of documents, for the values along b_V

EFFECTIVE = {  # what the effective direction is, by whether there is an unlearned and a learned query bias
    (True, True): "Read along the effective direction b_Q + beta_Q: the learned query bias is part of it.",
    (True, False): "Read along the effective direction b_Q + beta_Q; the learned query bias is zero, so it is b_Q.",
    (False, True): "Read along the learned query bias beta_Q of each head: no unlearned bias is in force.",
    (False, False): "No query bias is in force, learned or unlearned: amplification is 0 by definition.",
}


class Amplification(result_module.Amplification):
    """The result of `amplification`, with its page."""

    __doc__ = result_module.Amplification.__doc__

    def to_html(self, path: str | Path) -> Path:
        """Write the interactive dashboard as one offline HTML file and return its path."""
        return write_dashboard(self, path)


def amplification(
    model: HookedSymmetryBrokenTransformer | str | Path,
    corpus: str | Path | Iterable[str] | Corpus = "wikipedia-sample",
    schemes: Sequence[str | Path | Scheme | Labeller] = ("pos",),
    *,
    split: Split | None = None,
    pipeline: str = DEFAULT_PIPELINE,
    workers: int = 1,
    max_tokens: int | None = None,
    batch_size: int | None = None,
    bias: BiasSource = "mean",
    direction: Direction = "bias",
    replicates: int = 200,
    passages: int = 20,
    nulls: int = 64,
    amplified_nulls: int = 0,
    bias_samples: int = 0,
    adjust_frequency: bool = False,
    seed: int = 0,
    progress: bool = False,
    partial: str | Path | None = None,
    place: World | None = None,
) -> Amplification:
    """Measure which token classes each head amplifies or suppresses.

    Args:
        model: a model, or the path or name of a checkpoint.
        corpus: "wikipedia-sample", a path, or document strings.
        schemes: of `pos`, `tag`, `dep`, `ent`, `function`, `surface`, `freq`; paths of YAML files, functions of spaCy
            documents, or schemes of one's own (docs/classes.md).
        split: of the documents; by default the held-out ones of the Wikipedia sample, and all of anything else.
        pipeline: the installed spaCy pipeline that tags.
        workers: processes that tag while the model runs; 0 tags in this process. Does not change results.
        max_tokens: stop before the document that would exceed it; the first one is measured whole, with a warning.
        batch_size: contexts per forward pass, by default about 4,096 tokens; changes results by float32 rounding only.
        bias: which biases are in force: "mean", "sample" or "none".
        direction: "bias" (b_Q), "effective" (b_Q + beta_Q), a tensor [layer, head_index, d_head], or another model, whose
            mean b_Q is taken.
        replicates: of the bootstrap over documents behind the intervals.
        passages: how many pieces of text are kept to look at.
        nulls: how many random directions everything is compared with; 0 compares with none and is faster.
        amplified_nulls: along how many of them the amplification is measured too; each costs a pass over the keys.
        bias_samples: draws of b under each of which everything is measured again: how far the noise of the bias itself
            moves every figure (`Amplification.bias_samples`). Each costs a run without nulls.
        adjust_frequency: also compare tokens of the same position and the same frequency decile, counted in a pass over the
            whole corpus (rows "position and frequency" of `Amplification.adjusted`).
        seed: of bootstrap, passages, random directions and draws of b.
        progress: show a progress bar on stderr.
        partial: a folder where sums are kept every half minute, so that the same call goes on after an interruption; remove
            it when the result is saved. Kept sums of other settings or texts are refused.
        place: of this process among those that share the documents (`interp.model.ranks.processes`). Each returns the whole
            result.

    Raises:
        InterpError: anything that is missing, damaged or does not fit, in one sentence.
    """
    started = time.perf_counter()
    model = model if isinstance(model, HookedSymmetryBrokenTransformer) else load_model(model)
    tokenizer = model.need_tokenizer()
    opened, built = open_text(corpus, split, schemes, tokenizer, pipeline)
    place = place or World(0, 1, model.W_E.device)
    settings: dict[str, Any] = {
        "batch_size": batch_size or max(1, TOKENS_PER_BATCH // model.cfg.n_ctx), "replicates": replicates,
        "passages": passages, "seed": seed, "nulls": nulls, "amplified_nulls": amplified_nulls, "null_seed": seed,
        "bias_samples": bias_samples,
    }  # fmt: skip
    kept = None
    if partial:
        kept = ResumeFile(partial, {
            **settings, "adjust_frequency": adjust_frequency, "model": model_digest(model, bias, direction),
            "corpus": opened.name, "split": opened.split, "max_tokens": max_tokens,
            "schemes": [[s.name, list(s.classes), s.version] for s in built],
            "pipeline": pipeline, "versions": versions(pipeline), "processes": place.world,
        }, place.rank)  # fmt: skip
    dealer = Dealer(model.cfg.n_ctx, max_tokens, place.rank, place.world, kept.done if kept else None)
    documents = tag_documents(tokenizer, opened, built, pipeline, workers, dealer=dealer)
    progress = progress and place.first
    total = _count_tokens(tokenizer, opened, max_tokens) if progress else None
    tenths = deciles(tokenizer, opened) if adjust_frequency else None
    with progress_bar(progress, model.cfg.model_name, total) as on_tokens:
        result = measure(
            model, documents, built, bias=bias, direction=direction, **settings, partial=kept, place=place,
            deciles=tenths, on_tokens=lambda tokens: on_tokens(tokens * place.world),  # blocks of all processes are alike
        )  # fmt: skip
    length = math.ceil(VALUE_TOKENS / min(result.run["n_documents"], FEW_DOCUMENTS))
    again = itertools.islice(tag_documents(tokenizer, opened, built, pipeline, 0), result.run["n_documents"])
    tables = static_tables(model, result.tokens, result.run["schemes"], bias=bias, direction=direction) | value_tables(
        model, result.tokens, (document.beginning(length) for document in again), built, bias=bias,
        max_tokens=VALUE_TOKENS, batch_size=settings["batch_size"],
    )  # fmt: skip
    result.run.update({
        "corpus": opened.name, "split": opened.split, "corpus_sha256": dealer.checksum.hexdigest(),
        "pipeline": pipeline if any(s.needs_tags for s in built) else "none", "date": now(),
        "adjust_frequency": adjust_frequency,
        "versions": versions(pipeline), "device": str(model.W_E.device),
        "wall_seconds": round(time.perf_counter() - started, 2), "warnings": [
            *_warnings(model, result.run, bias), *_too_long(result.run["n_tokens"], max_tokens),
        ],
    })  # fmt: skip
    return Amplification(**{**vars(result), **tables})


def open_text(
    corpus: str | Path | Iterable[str] | Corpus,
    split: Split | None,
    schemes: Sequence[str | Path | Scheme | Labeller],
    tokenizer: PreTrainedTokenizerFast,
    pipeline: str,
) -> tuple[Corpus, list[Scheme]]:
    """Return the corpus and the schemes to measure, refusing a missing pipeline now and not after the first progress.

    Raises:
        InterpError: no such corpus, scheme or pipeline.
    """
    opened = open_for_measuring(corpus, split)
    built = build_schemes(schemes, tokenizer, opened, pipeline)
    if any(scheme.needs_tags for scheme in built):
        pipeline_meta(pipeline)
    return opened, built


def few_documents(number: int) -> list[str]:
    """Return the warning that so few documents deserve, if they do."""
    if number >= FEW_DOCUMENTS:
        return []
    few = "1 document" if number == 1 else f"{number} documents"
    return [f"Only {few}: intervals over documents are wide, and say little about other texts."]


def _warnings(model: HookedSymmetryBrokenTransformer, run: dict[str, Any], bias: BiasSource) -> list[str]:
    warnings = few_documents(run["n_documents"])
    unlearned, learned = bias != "none" and model.cfg.q.mode != "none", bool(model.b_Q.any())
    if run["direction"] == "bias" and not unlearned:
        other = learned and model.cfg.positional == "learned"
        hint = "; --direction effective reads along the learned one" if other else ""
        warnings.append(f"No query bias is in force: amplification along b_Q is 0 by definition{hint}.")
    if run["direction"] == "effective":
        warnings.append(EFFECTIVE[unlearned, learned])
    if run["direction"] not in ("bias", "effective"):
        warnings.append(
            f"Read along a direction from elsewhere ({run['direction']}): what such a bias would do, not what this model's "
            "own bias does."
        )
    return warnings


def _too_long(n_tokens: int, max_tokens: int | None) -> list[str]:
    if max_tokens is None or n_tokens <= max_tokens:
        return []
    return [f"The first document has {n_tokens:,} tokens, more than max_tokens {max_tokens:,}; it is measured whole."]


def _count_tokens(tokenizer: Any, corpus: Corpus, max_tokens: int | None) -> int:
    """Count ahead, for the time left; takes about a fiftieth of the time of tagging."""
    totals = itertools.accumulate(len(tokens) for tokens, _ in encode_documents(tokenizer, corpus))
    limit = float("inf") if max_tokens is None else max_tokens
    within = list(itertools.takewhile(lambda total: total <= limit, totals))
    return within[-1] if within else int(min(limit, 2**63 - 1))


@contextmanager
def progress_bar(shown: bool, name: str, total: int | None) -> Iterator[Any]:
    """Show tokens, their rate and the time left on stderr; yields the function that is told of tokens done."""
    rate = TextColumn("{task.completed:,.0f} tokens {task.fields[rate]}")
    bar = Progress(TextColumn(name), BarColumn(), rate, TimeRemainingColumn(), console=console, disable=not shown)
    task, started = bar.add_task(name, total=total, rate=""), time.perf_counter()

    def on_tokens(tokens: int) -> None:
        done = bar.tasks[0].completed + tokens
        bar.update(task, advance=tokens, rate=f"{done / (time.perf_counter() - started):,.0f}/s")

    with bar:
        yield on_tokens


TOKENS_PER_RUN = 1024


def interventions(
    model: HookedSymmetryBrokenTransformer | str | Path,
    corpus: str | Path | Iterable[str] | Corpus = "wikipedia-sample",
    schemes: Sequence[str | Path | Scheme | Labeller] = ("pos",),
    *,
    where: str | Sequence[str] = "all,layers,heads",
    scales: Sequence[float] = (0, 0.5, 1, 2),
    part: Part = "q",
    random_directions: int = 1,
    paths: bool = True,
    split: Split | None = None,
    pipeline: str = DEFAULT_PIPELINE,
    workers: int = 1,
    max_tokens: int | None = 20_000,
    batch_size: int | None = None,
    bias: BiasSource = "mean",
    replicates: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> Interventions:
    """Scale the biases of a model, in all layers, in single ones or in single heads, run it again, and compare.

        found = interp.interventions("tiny-bqbv", where="all,layers", scales=(0, 2))
        found.loss.query("scheme == 'overall'")
        found.attention.query("intervention == 'all' and scale == 0 and token_class == 'DET'")

    The first gives the change of the loss in nats beside that of a change of the same size in a random direction; the
    second who loses and who gains attention when b_Q is removed. To remove the value bias: ``part="v", scales=(0,)``.

    Args:
        model: a model, or the path or name of a checkpoint.
        corpus: "wikipedia-sample", a path, or document strings.
        schemes: as in `interp.amplification`.
        where: "all", "layers" (each alone), "heads" (each alone), "L3", "L3H7"; several as a list or with commas.
        scales: alpha; 0 removes the biases, 1 leaves them, 2 doubles them.
        part: which biases are scaled: "q" (b_Q), "v" (b_V) or "qv" (both).
        random_directions: controls of each intervention, along so many random directions.
        paths: also measure how much of a layer's amplification is direct and how much comes through earlier layers.
        split: of the documents; by default the held-out ones of the Wikipedia sample, and all of anything else.
        pipeline: the installed spaCy pipeline that tags.
        workers: processes that tag while the model runs; 0 tags in this process. Does not change results.
        max_tokens: how much text is read, no more than a twentieth of it from any document; None reads all. Every
            intervention takes about a forward pass over it, less the layers before the first that is changed.
        batch_size: contexts per forward pass, by default about 1,024 tokens, of which up to 8 runs go side by side;
            changes results by float32 rounding only.
        bias: which biases are in force in the unchanged model: "mean", "sample" or "none".
        replicates: of the bootstrap over documents behind the intervals.
        seed: of bootstrap and random directions.
        progress: show a progress bar on stderr.

    Raises:
        InterpError: anything that is missing, damaged or does not fit, in one sentence.
    """
    model = model if isinstance(model, HookedSymmetryBrokenTransformer) else load_model(model)
    tokenizer = model.need_tokenizer()
    opened, built = open_text(corpus, split, schemes, tokenizer, pipeline)
    documents = tag_documents(tokenizer, opened, built, pipeline, workers)
    with progress_bar(progress, f"{model.cfg.model_name}: interventions", None) as on_tokens:
        found = intervene(
            model, documents, built, where=where, scales=scales, part=part, bias=bias, random_directions=random_directions,
            paths=paths, max_tokens=max_tokens, batch_size=batch_size or max(1, TOKENS_PER_RUN // model.cfg.n_ctx),
            replicates=replicates, seed=seed, on_tokens=on_tokens,
        )  # fmt: skip
    found.run.update(corpus=opened.name, split=opened.split, warnings=_intervention_warnings(found))
    return found


def _intervention_warnings(found: Interventions) -> list[str]:
    warnings = []
    if found.run["runs"] == 1:
        warnings.append("No bias is in force where the model was to be changed, so nothing changes.")
    return [*warnings, *few_documents(found.run["n_documents"])]


Side = result.Amplification | HookedSymmetryBrokenTransformer | str | Path

ROWS = 8  # of the summary


def compare(a: Side, b: Side, **settings: Any) -> Comparison:
    """Compare what the heads of two models amplify, or of one model read in two ways; every difference is B - A.

    Intervals of differences are over documents, and paired: both sides see the same documents with the same bootstrap
    weights. Heads of two trainings have no correspondence; what they have in common is in the table `classes`.

        interp.compare("tiny-bq", "tiny-bqbv", schemes=("pos", "function")).classes
        interp.compare("reports/tiny-bq", "reports/tiny-bq-ecd").classes
        twin = interp.load_model("tiny-bq")
        interp.compare("tiny-symmetric", twin, direction=twin).heads  # both along the b_Q of the second

    Args:
        a, b: a result of `interp.amplification`, a folder it was saved to, or a model, or the path or name of a checkpoint.
        settings: how models and checkpoints are measured, as `interp.amplification` takes them.

    Raises:
        InterpError: the sides cannot be paired, settings where nothing is left to measure, or as `interp.amplification`.
    """
    if settings and all(_is_measured(side) for side in (a, b)):
        raise InterpError(
            f"Both sides are measured already, so {', '.join(settings)} would do nothing; leave it out, or give checkpoints."
        )
    return compare_results(_measured(a, settings), _measured(b, settings))


def _is_measured(side: Side) -> bool:
    return isinstance(side, result.Amplification) or (
        isinstance(side, str | Path) and (Path(side) / "heads.parquet").is_file()
    )


def _measured(side: Side, settings: dict[str, Any]) -> result.Amplification:
    if isinstance(side, result.Amplification):
        return side
    if not isinstance(side, HookedSymmetryBrokenTransformer) and _is_measured(side):
        return result.Amplification.load(side)
    if settings.get("direction") is side:  # its own b_Q, no direction from elsewhere
        settings = {**settings, "direction": "bias"}
    return amplification(side, **settings)


def refuse_other_tokenizers(checkpoints: Sequence[str]) -> None:
    """Refuse, before anything is measured, checkpoints that cut the same text into other tokens.

    Raises:
        InterpError: a checkpoint or its tokenizer is missing, or differs from the first.
    """
    checksums = {name: tokenizer_sha256(load_tokenizer(find_checkpoint(name))) for name in checkpoints}
    for name, checksum in checksums.items():
        if checksum != checksums[checkpoints[0]]:
            raise InterpError(
                f"{checkpoints[0]} and {name} have different tokenizers, so their token classes cannot be compared; report "
                "them one at a time."
            )


def summary(comparison: Comparison) -> Table:
    """Return the classes whose mean |A| over heads differs most, as a table for the terminal; rare classes come last."""
    found = comparison.classes
    classes = found.loc[(found["statistic"] == "mean_absolute") & found["difference"].notna()]
    n_heads = " and ".join(map(str, dict.fromkeys([*classes["n_heads_a"][:1], *classes["n_heads_b"][:1]])))
    a, b = (escaped(str(comparison.run[side]["model"])) for side in ("a", "b"))
    table = Table(
        title=f"Mean |log2 amplification| over {n_heads} heads; A {a}, B {b}, intervals over "
        f"{comparison.run['shared']['n_documents']} documents",
        caption="The classes that differ most. Heads of two trainings do not correspond.",
    )
    for name in ("scheme", "class", "tokens", "A", "B", "B - A", "95% interval"):
        table.add_column(name, justify="left" if name in ("scheme", "class") else "right", no_wrap=True)
    order = np.lexsort((-classes["difference"].abs(), classes["n_tokens"] < FEW))
    for row in classes.iloc[order[:ROWS]].to_dict("records"):
        known = row["ci_low"] == row["ci_low"]  # not for a class that only one document has
        interval = escaped(f"[{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]") if known else "unknown"
        table.add_row(
            row["scheme"], escaped(row["token_class"]), f"{row['n_tokens']:,}", f"{row['value_a']:.3f}",
            f"{row['value_b']:.3f}", f"{row['difference']:+.3f}", interval,
        )  # fmt: skip
    return table

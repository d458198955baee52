"""From a checkpoint and a corpus to a result and its page: what the commands and the notebooks call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from interp.analysis.comparison.paired import compare_results
from interp.analysis.comparison.result import SHIFTED, Comparison
from interp.analysis.direction import OWN, Held
from interp.analysis.findings import FEW_TOKENS, nearest_end
from interp.analysis.fitted import FIT_TOKENS, ONE_CLASS, beginnings
from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.measure_uses import measure_uses
from interp.analysis.interventions.result import Interventions
from interp.analysis.interventions.uses import Uses
from interp.analysis.readers.open import ModelLike, exact_copy, open_reader, tokenizer_of
from interp.analysis.readers.own import OwnReader
from interp.analysis.readers.reader import HALF, Reader, mean_query
from interp.analysis.result import FEW_DOCUMENTS, Amplification
from interp.analysis.resume import ResumeFile
from interp.analysis.run import measure, rounding_error
from interp.analysis.settings import InterventionSettings, Reading, Rerun, Settings, UsesSettings, settings_from, takes
from interp.data.classes.built_in import build_schemes, deciles, refuse_untagged
from interp.data.classes.scheme import Scheme
from interp.data.classes.spans import Labeller
from interp.data.contexts import Dealer, TaggedDocument, told_of_length
from interp.data.corpora.corpus import Corpus, CorpusLike, open_for_measuring, other_split
from interp.data.spacy_pipelines import Pipeline, fingerprint, is_loaded, pipeline_label, pipeline_meta
from interp.data.tagging.documents import encode, tag_documents
from interp.errors import InterpError
from interp.model.checkpoint import load_model
from interp.model.distributed import World
from interp.options import console, escaped
from interp.provenance import now, versions
from interp.vocabulary import tokenizer_sha256

Schemes = str | Path | Scheme | Labeller | Sequence[str | Path | Scheme | Labeller]
"""One scheme or several; a string may name several, with commas."""

HELD_OUT = "What is found was chosen on one half of the documents; all that is shown is of the other half."


@dataclass(frozen=True)
class Text:
    """A corpus opened for a model's tokenizer, with the schemes that cut it into classes."""

    corpus: Corpus
    schemes: list[Scheme]
    tokenizer: PreTrainedTokenizerFast
    pipeline: Pipeline

    @classmethod
    def opened(cls, tokenizer: PreTrainedTokenizerFast, corpus: CorpusLike, settings: Reading) -> Text:
        """Open it, refusing a missing pipeline now and not after the first progress.

        Raises:
            InterpError: no such corpus, scheme or pipeline.
        """
        refuse_untagged(settings.schemes, settings.pipeline)
        opened = open_for_measuring(corpus, settings.split, settings.text_field)
        schemes = build_schemes(settings.schemes, tokenizer, opened, settings.pipeline)
        if any(scheme.needs_tags for scheme in schemes):
            pipeline_meta(settings.pipeline)
        return cls(opened, schemes, tokenizer, settings.pipeline)

    def documents(self, workers: int, dealer: Dealer | None = None) -> Iterator[TaggedDocument]:
        """Return the tagged documents from the first on; each call reads the corpus once."""
        return tag_documents(self.tokenizer, self.corpus, self.schemes, self.pipeline, workers, dealer=dealer)

    @cached_property
    def described(self) -> dict[str, Any]:
        """What a run record says of it."""
        tagged = any(scheme.needs_tags for scheme in self.schemes)
        return {
            "corpus": self.corpus.name, "split": self.corpus.split,
            "pipeline": pipeline_label(self.pipeline) if tagged else "none",
        }  # fmt: skip

    @property
    def versions(self) -> dict[str, str]:
        """The versions of what the numbers come from; those of an `nlp` object stand in its label."""
        return versions(*(() if is_loaded(self.pipeline) else (str(self.pipeline),)))


@takes(Settings)
def amplification(
    model: ModelLike | Reader, corpus: CorpusLike = "wikipedia-sample", schemes: Schemes = ("pos",), *, workers: int = 1,
    progress: bool = False, partial: str | Path | None = None, world: World | None = None, tokenizer: Any = None,
    **settings: Any,
) -> Amplification:  # fmt: skip
    """Measure which token classes each head amplifies or suppresses.

    Args:
        reading:
        partial: a folder where sums are kept every half minute, so that the same call goes on after an interruption; remove
            it when the result is saved. Kept sums of other settings or texts are refused.
        tokenizer: of a model of transformers; all others come with theirs.
        settings:

    Raises:
        InterpError: anything that is missing, damaged or does not fit, in one sentence.
    """
    started = time.perf_counter()
    asked: Settings = settings_from(Settings, {"schemes": schemes, **settings})
    reader = open_reader(model, tokenizer, asked.context, asked.border, asked.dtype)
    text = Text.opened(reader.tokenizer, corpus, asked)
    world = world or World(0, 1, reader.device)
    text, asked = _fitted(reader, text, asked)
    if partial and is_loaded(asked.pipeline) and fingerprint(asked.pipeline) is None:
        raise InterpError(
            "With partial= sums are kept for a run with the same pipeline, and nobody can tell this nlp object from others: "
            "it has parts that are not spaCy's, or large word vectors; save it and give its folder, or leave out partial."
        )
    kept = ResumeFile(partial, _fingerprint(reader, text, asked, world), world.rank) if partial else None
    dealer = Dealer(reader.n_ctx, asked.max_tokens, world.rank, world.size, kept.done if kept else None)
    tenths = deciles(text.tokenizer, text.corpus) if asked.adjust_frequency else None
    sample = encode(text.tokenizer, text.corpus)
    first = "tagging, fitting" if asked.fit_tokens else "tagging"
    with progress_bar(progress and world.first, reader.name, text.corpus, asked.max_tokens, first) as on_tokens:
        result = measure(
            reader, text.documents(workers, dealer), text.schemes, asked, sample=sample, deciles=tenths, resume=kept,
            world=world,
            on_tokens=lambda tokens: on_tokens(tokens * world.size),  # blocks of all processes are alike
        )  # fmt: skip
    rounded = _rounding(reader, text, asked)
    result.run.update({
        **text.described, **rounded, "corpus_sha256": dealer.checksum.hexdigest(), "date": now(),
        "versions": text.versions, "device": str(reader.device),
        "wall_seconds": round(time.perf_counter() - started, 2),
        "warnings": [
            *few_documents(result.run["n_documents"]), *reader.told(asked.bias, result.run["direction"]),
            *told_of_length(result.run["n_tokens"], asked.max_tokens),
            *([HELD_OUT] if asked.held_out else []), *_told_of_rounding(rounded),
        ],
    })  # fmt: skip
    if isinstance(reader, OwnReader) and not isinstance(asked.direction, Held):
        return result.with_tables({"writes": result.writes(reader.model, asked.direction)})
    return result


def _rounding(reader: Reader, text: Text, settings: Settings) -> dict[str, Any]:
    """What a run record says of the numbers that the model computes with; of half precision, how far off it takes A."""
    found: dict[str, Any] = {"dtype": str(reader.dtype).removeprefix("torch.")}
    if reader.dtype in HALF:
        exact, what = exact_copy(reader)
        errors = rounding_error(reader, exact, text.documents(workers=0), text.schemes, settings) if exact else {}
        found["rounding"] = {"against" if exact else "not_measured": what, **errors}
    return found


def _told_of_rounding(rounded: dict[str, Any]) -> list[str]:
    """Return the sentence that says it, if there is anything to say."""
    if (found := rounded.get("rounding")) is None:
        return []
    if "not_measured" in found:
        return [f"Read in {rounded['dtype']}; how far off that takes A is not known: {found['not_measured']}."]
    if not found["pairs"]:
        return [f"Read in {rounded['dtype']}; how far off that takes A is not known: there is too little text."]
    return [
        f"Read in {rounded['dtype']}: on {found['tokens']:,} tokens A differs from that of {found['against']} by "
        f"{found['rms_error']:.4f} (rms) and at most {found['max_error']:.4f}, over {found['pairs']} pairs of a head and a "
        "class."
    ]


Asked = TypeVar("Asked", bound=Settings | Rerun)


def _fitted(reader: Reader, text: Text, settings: Asked) -> tuple[Text, Asked]:
    """Fit the mean query, if it is asked for, on the other split; of a corpus without, on every eighth document."""
    if not isinstance(settings.direction, str) or settings.direction != "mean-query":
        return text, settings
    split = text.corpus.split
    measured, fitted = ("train", "validation") if split == "all" else (split, other_split(split))
    tokens = settings.fit_tokens if isinstance(settings, Settings) else 0
    read = beginnings(encode(text.tokenizer, replace(text.corpus, split=fitted)), tokens or FIT_TOKENS)
    with reader.reading(settings.bias):
        direction = mean_query(reader, read, ONE_CLASS, settings)
    return replace(text, corpus=replace(text.corpus, split=measured)), replace(settings, direction=direction)


def _fingerprint(reader: Reader, text: Text, settings: Settings, world: World) -> dict[str, Any]:
    """All that the sums of a run depend on."""
    return {
        **settings.plain(), "batch_size": reader.contexts_per_batch(settings),
        "model": reader.digest(settings.bias, settings.direction), **text.described,
        "schemes": [[s.name, list(s.classes), s.version] for s in text.schemes],
        "versions": text.versions, "processes": world.size,
    }  # fmt: skip


def few_documents(number: int) -> list[str]:
    """Return the warning that so few documents deserve, if they do."""
    if number >= FEW_DOCUMENTS:
        return []
    few = "1 document" if number == 1 else f"{number} documents"
    return [f"Only {few}: intervals over documents are wide, and say little about other texts."]


@contextmanager
def progress_bar(
    shown: bool, name: str, corpus: Corpus | None = None, max_tokens: int | None = None, first: str = "tagging, fitting"
) -> Iterator[Any]:
    """Show tokens, their rate and the time left on stderr; yields the function that is told of tokens done.

    How many there will be is guessed from the size of the corpus, where that is known without reading it: about four
    characters a token at first. Before there are any, it shows what is done `first`.
    """
    rate = TextColumn("{task.completed:,.0f} tokens {task.fields[rate]}")
    bar = Progress(TextColumn(name), BarColumn(20), rate, TimeRemainingColumn(), console=console, disable=not shown)
    characters = corpus.characters if corpus is not None and shown else None
    guesses = [guess for guess in (max_tokens, characters and characters // 4) if guess]
    task, started = bar.add_task(name, total=min(guesses, default=None), rate=f"({first})"), time.perf_counter()

    def on_tokens(tokens: int) -> None:
        done = bar.tasks[0].completed + tokens
        bar.update(task, advance=tokens, rate=f"{done / (time.perf_counter() - started):,.0f}/s")

    with bar:
        yield on_tokens


@takes(InterventionSettings)
def interventions(
    model: ModelLike | Reader, corpus: CorpusLike = "wikipedia-sample", schemes: Schemes = ("pos",), *, workers: int = 1,
    progress: bool = False, world: World | None = None, tokenizer: Any = None, **settings: Any,
) -> Interventions:  # fmt: skip
    """Scale the biases of a model, in all layers, in single ones or in single heads, run it again, and compare.

        found = interp.interventions("tiny-bqbv", where="all,layers", scales=(0, 2))
        found.loss.query("scheme == 'overall'")
        found.attention.query("intervention == 'all' and scale == 0 and token_class == 'DET'")

    The first gives the change of the loss in nats beside that of a change of the same size in a random direction; the
    second who loses and who gains attention when b_Q is removed. To remove the value bias: ``part="v", scales=(0,)``.

    Args:
        reading:
        tokenizer: of a model of transformers; all others come with theirs.
        settings:

    Raises:
        InterpError: anything that is missing, damaged or does not fit, in one sentence.
    """
    asked: InterventionSettings = settings_from(InterventionSettings, {"schemes": schemes, **settings})
    reader = open_reader(model, tokenizer, asked.context, asked.border, asked.dtype)
    found = _rerun("interventions", intervene, reader, corpus, asked, workers, progress, world)
    if found.run["runs"] == 1:
        found.run["warnings"].insert(0, "No bias is in force where the model was to be changed, so nothing changes.")
    return found


def _rerun(
    what: str, measure_it: Callable[..., Any], reader: Reader, corpus: CorpusLike,
    asked: Rerun, workers: int, progress: bool, world: World | None,
) -> Any:  # fmt: skip
    """Return what running the model again over the text finds, with what its run record says of the text."""
    text, asked = _fitted(reader, Text.opened(reader.tokenizer, corpus, asked), asked)
    shown = progress and (world is None or world.first)
    with progress_bar(shown, f"{reader.name}: {what}", text.corpus, asked.max_tokens) as on_tokens:
        found = measure_it(reader, text.documents(workers), text.schemes, asked, on_tokens=on_tokens, world=world)
    warnings = [*found.run.get("warnings", []), *few_documents(found.run["n_documents"])]
    dtype = str(reader.dtype).removeprefix("torch.")
    found.run.update(corpus=text.corpus.name, split=text.corpus.split, dtype=dtype, warnings=warnings)
    return found


@takes(UsesSettings)
def uses(
    model: ModelLike | Reader, corpus: CorpusLike = "wikipedia-sample", schemes: Schemes = ("pos",), *, workers: int = 1,
    progress: bool = False, world: World | None = None, tokenizer: Any = None, **settings: Any,
) -> Uses:  # fmt: skip
    """Measure what b_Q is used for: the loss when every bias score is only what its position, class or type says of it.

        found = interp.uses("tiny-bq", max_tokens=20_000)
        found.loss.query("predicted_scheme == 'overall' and keeps != 'control'")
        found.controls.query("predicted_scheme == 'overall'")

    The first gives the change of the loss in nats without b_Q, and the share of it that a bias gives back that knows the
    position alone, the class alone ...; the second, what it costs to remove scores along other directions that spread as
    much. Means given position, class and type are fitted on other documents.

    Args:
        reading:
        tokenizer: of a model of transformers; all others come with theirs.
        settings:

    Raises:
        InterpError: anything that is missing, damaged or does not fit, in one sentence.
    """
    asked: UsesSettings = settings_from(UsesSettings, {"schemes": schemes, **settings})
    reader = open_reader(model, tokenizer, asked.context, asked.border, asked.dtype)
    return _rerun("uses", measure_uses, reader, corpus, asked, workers, progress, world)


Side = Amplification | ModelLike
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
    return isinstance(side, Amplification) or (
        isinstance(side, str | Path) and (Path(side) / "heads.parquet").is_file()
    )


def _measured(side: Side, settings: dict[str, Any]) -> Amplification:
    if isinstance(side, Amplification):
        return side
    if isinstance(side, str | Path) and _is_measured(side):
        return Amplification.load(side)
    if isinstance(other := settings.get("direction"), str | Path) and other not in OWN:
        settings = {**settings, "direction": "bias" if str(other) == str(side) else load_model(other)}
    if settings.get("direction") is side:  # its own b_Q, no direction from elsewhere
        settings = {**settings, "direction": "bias"}
    return amplification(side, **settings)


def refuse_other_tokenizers(checkpoints: Sequence[str]) -> None:
    """Refuse, before anything is measured, checkpoints that cut the same text into other tokens.

    Raises:
        InterpError: a checkpoint or its tokenizer is missing, or differs from the first.
    """
    checksums = {name: tokenizer_sha256(tokenizer_of(name)) for name in checkpoints}
    for name, checksum in checksums.items():
        if checksum != checksums[checkpoints[0]]:
            raise InterpError(
                f"{checkpoints[0]} and {name} have different tokenizers, so their token classes cannot be compared; report "
                "them one at a time."
            )


def summary(comparison: Comparison) -> Table:
    """Return the classes whose rms A over heads differs most surely, as a table for the terminal; rare classes come last."""
    by_statistic = dict(list(comparison.classes.groupby("statistic", sort=False)))
    classes = by_statistic["root_mean_square"]
    shifted = by_statistic.get(SHIFTED, classes.assign(value_a=np.nan, value_b=np.nan)).set_index(
        ["scheme", "token_class"]
    )
    classes = classes.loc[classes["difference"].notna()]
    n_heads = " and ".join(map(str, dict.fromkeys([*classes["n_heads_a"][:1], *classes["n_heads_b"][:1]])))
    a, b = (escaped(str(comparison.run[side]["model"])) for side in ("a", "b"))
    table = Table(
        title=f"Log2 amplification, root mean square over {n_heads} heads; A {a}, B {b}, intervals over "
        f"{comparison.run['shared']['n_documents']} documents",
        caption="By the end of the interval nearest to 0; without one, by the difference. In brackets: labels shifted along "
        "the documents, which mean nothing. Heads of two trainings do not correspond.",
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("scheme", "class"):
        table.add_column(name, overflow="fold")
    for name in ("tokens", "A", "B", "B - A", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    surely = np.nan_to_num(
        nearest_end(classes["ci_low"].to_numpy(float), classes["ci_high"].to_numpy(float)), nan=-np.inf
    )
    order = np.lexsort((-classes["difference"].abs(), -surely, classes["n_tokens"] < FEW_TOKENS))
    for row in classes.iloc[order[:ROWS]].to_dict("records"):
        known = row["ci_low"] == row["ci_low"]  # not for a class that only one document has
        interval = escaped(f"[{row['ci_low']:+.2f}, {row['ci_high']:+.2f}]") if known else "unknown"
        control = shifted.loc[(row["scheme"], row["token_class"])]
        sides = [
            f"{row[side]:.2f} ({control[side]:.2f})" if control[side] == control[side] else f"{row[side]:.2f}"
            for side in ("value_a", "value_b")
        ]
        table.add_row(
            row["scheme"],
            escaped(row["token_class"]),
            f"{row['n_tokens']:,}",
            *sides,
            f"{row['difference']:+.2f}",
            interval,
        )
    return table

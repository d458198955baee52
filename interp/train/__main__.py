"""Train a symmetry-broken transformer.

python -m interp.train --preset tiny --variant bq --steps 20 --batch-size 8 -o runs/first
python -m interp.train --variant bqbv --tokens 10000000 -o runs/tiny-bqbv
python -m interp.train --resume -o runs/tiny-bqbv
python -m interp.train --corpus my_text/ --tokenizer checkpoints/tiny-bq/tokenizer.json -o runs/mine
python -m interp.train --config runs/mine.yaml --optimizer ecd --optimizer-args "eta=50,F0=1.5"
python -m interp.train --corpus sums/train.jsonl --examples --epochs 5 -o runs/sums
torchrun --nproc-per-node 8 -m interp.train --preset gpt2-124m --corpus shards/ -o runs/124m
python -m interp.train --init tiny-symmetric --variant bq --steps 400 -o runs/broken
python -m interp.train --init openai-community/gpt2 --variant bq --corpus my_text/ -o runs/gpt2-bq
python -m interp.train --preset gpt2-124m --preset-settings paper-gelu --optimizer ecd --corpus shards/ -o runs/paper
python -m interp.train plot runs/mine tiny-bq
python -m interp.train plot runs/mine --follow --open
"""

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from interp.options import argument, command_from, console, option, say_files
from interp.train.config import LENGTHS, TrainConfig

HELP = """Train a transformer with unlearned query and value biases, and leave a checkpoint folder.

The folder holds the weights with the lowest loss on held-out documents, and the last states in `step-.../`: a run that
was stopped goes on with `python -m interp.train --resume -o FOLDER`, to the same weights as if it had not been.
`python -m interp.train plot RUN...` shows the curves. With many GPUs: `torchrun --nproc-per-node 8 -m interp.train ...`.
"""


def run(config: TrainConfig) -> None:
    """Train and leave a checkpoint folder."""
    from interp.train.loop import train  # late, so that --help does not import torch
    from interp.train.step import keep_memory

    keep_memory()
    train(config)


def complete(values: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """With --resume, take what was not typed from the run that is to go on."""
    if not values["resume"]:
        return values
    from interp.train.checkpoints import stored_settings  # late, like the above

    kept = given | {"output", "resume", "overwrite"}
    kept |= set(LENGTHS) if given & set(LENGTHS) else set()  # one says what the others would
    stored = stored_settings(values["output"])
    return {**values, **{name: value for name, value in stored.items() if name in values and name not in kept}}


@dataclass
class PlotConfig:
    """Which runs to draw, and where."""

    runs: list[str] = argument("Folders of training runs or checkpoints, or names of bundled ones.")
    output: Path | None = option(
        None, "The page to write (default: curves.html in the first run's folder; here, if all are names).",
        "-o", "--output",
    )  # fmt: skip
    open: bool = option(False, "Open the page in a browser.")
    follow: bool = option(False, "Write the page again whenever a curve grows, until the runs end or Ctrl-C.")


def plot(config: PlotConfig) -> None:
    """Write the page of some runs."""
    from interp.train.curves import page as curves  # late: imports pandas and Plotly

    runs = [curves.find_run(name) for name in config.runs]
    output, told = config.output or curves.place_of_page(config.runs), list[Path]()

    def written(page: Path) -> None:
        if not told:
            say_files([page])
            typer.echo(page.resolve().as_uri())
            if config.open:
                webbrowser.open(page.resolve().as_uri())
        told.append(page)

    if config.follow:
        curves.follow(runs, output, written)
        console.print(f"written {len(told):,} times; followed no more", highlight=False)
    else:
        written(curves.curves_page(runs, output))


PLOT = """Draw loss, learning rate, gradient norm, energy, Noether charges and speed of runs side by side.

A run that still goes is drawn as far as it has got; --follow draws it again as it goes on, and a browser shows that by
itself.
"""
app = typer.Typer(add_completion=False)
app.callback(invoke_without_command=True)(command_from(TrainConfig, run, HELP, complete))
app.command("plot")(command_from(PlotConfig, plot, PLOT))

if __name__ == "__main__":
    app()

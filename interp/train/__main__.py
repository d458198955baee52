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
python -m interp.train plot runs/mine runs/tiny-bqbv
python -m interp.train plot runs/mine --follow --open
"""

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.options import command_from, console, escaped, one_line_errors
from interp.train.config import LENGTHS, TrainConfig

HELP = """Train a transformer with unlearned query and value biases, and leave a checkpoint folder.

The folder holds the weights with the lowest loss on held-out documents, and the last states in `step-.../`: a run that
was stopped goes on with `python -m interp.train --resume -o FOLDER`, to the same weights as if it had not been.
`python -m interp.train plot RUN...` shows the curves. With many GPUs: `torchrun --nproc-per-node 8 -m interp.train ...`.
"""


def run(config: TrainConfig) -> None:
    """Train and leave a checkpoint folder."""
    from interp.train.loop import train  # late, so that --help does not import torch

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


def plot(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of training runs or checkpoints.", metavar="RUN", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("curves.html"),
    open: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Write the page again whenever a curve grows, until the runs end or Ctrl-C."),
    ] = False,
) -> None:
    """Draw loss, learning rate, gradient norm, energy, Noether charges and speed of runs side by side.

    A run that still goes is drawn as far as it has got; --follow draws it again as it goes on, and a browser shows that by
    itself.
    """
    from interp.train.curves import page as curves  # late: imports pandas and Plotly

    told: list[Path] = []

    def written(page: Path) -> None:
        if not told:
            console.print(f"{page.stat().st_size / 1e6:.2f} MB  {escaped(str(page))}", soft_wrap=True, highlight=False)
            typer.echo(page.resolve().as_uri())
            if open:
                webbrowser.open(page.resolve().as_uri())
        told.append(page)

    with one_line_errors():
        if follow:
            curves.follow(runs, output, written)
            console.print(f"written {len(told):,} times; followed no more", highlight=False)
        else:
            written(curves.curves_page(runs, output))


app = typer.Typer(add_completion=False)
app.callback(invoke_without_command=True)(command_from(TrainConfig, run, HELP, complete))
app.command("plot")(plot)

if __name__ == "__main__":
    app()

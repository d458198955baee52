"""Train a symmetry-broken transformer.

python -m interp.train --preset tiny --variant bq --steps 20 --batch-size 8 -o runs/first
python -m interp.train --variant bqbv --tokens 10000000 -o runs/tiny-bqbv
python -m interp.train --corpus my_text/ --tokenizer checkpoints/tiny-bq/tokenizer.json -o runs/mine
"""

from __future__ import annotations

import typer

from interp.options import command_from
from interp.train.config import TrainConfig


def run(config: TrainConfig) -> None:
    """Train and leave a checkpoint folder."""
    from interp.train.loop import train  # late, so that --help does not import torch

    train(config)


HELP = """Train a transformer with unlearned query and value biases, and leave a checkpoint folder.

The folder holds the weights with the lowest loss on held-out documents; `last/` in it those after the last step.
"""
app = typer.Typer(add_completion=False)
app.command()(command_from(TrainConfig, run, HELP))

if __name__ == "__main__":
    app()

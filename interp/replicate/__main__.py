"""Repeat the paper's experiment at a scale of one's own: optimizers x variants x seeds, and ablations.

python -m interp.replicate --scale tiny --workers 2 -o replications/tiny
python -m interp.replicate -o replications/tiny                             go on with it, or join in from elsewhere
python -m interp.replicate --report -o replications/tiny                    what is known so far
python -m interp.replicate --plan mine.yaml -o replications/mine
python -m interp.replicate --scale paper --max-steps 2 --seeds 42 -o runs/check
"""

from __future__ import annotations

import typer

from interp.options import command_from
from interp.replicate.config import ReplicateConfig


def run(config: ReplicateConfig) -> None:
    """Do what is left to do."""
    from interp.replicate.replication import replicate  # late, so that --help is quick

    replicate(config)


HELP = """Train the paper's matrix of optimizers and bias variants, measure every run, and say what symmetry breaking did.

Learning rates are chosen on the symmetric variant, by short runs over a grid that the plan declares. Run the command again
to go on after any interruption: what is done is skipped, a run that was stopped goes on from its last saved state.
"""

app = typer.Typer(add_completion=False)

app.command()(command_from(ReplicateConfig, run, HELP))

if __name__ == "__main__":
    app()

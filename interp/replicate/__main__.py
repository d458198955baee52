"""Repeat the paper's experiment at a scale of one's own: optimizers x variants x seeds, and ablations.

python -m interp.replicate --scale tiny --workers 2 -o replications/tiny
python -m interp.replicate -o replications/tiny                             go on with it, or join in from elsewhere
python -m interp.replicate --report -o replications/tiny                    what is known so far
python -m interp.replicate --plan mine.yaml -o replications/mine
python -m interp.replicate --scale paper --max-steps 2 --seeds 42 -o runs/check
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

from interp.errors import InterpError
from interp.options import command_from, option


@dataclass
class ReplicateConfig:
    """Which plan, where, with how many workers.

    Raises:
        InterpError: a number below 1, or both a scale and a plan.
    """

    scale: Literal["tiny", "small", "paper"] | None = option(
        None, "Plan that comes with the package (default: the one in the output folder, else tiny)."
    )
    plan: Path | None = option(None, "A plan of your own: YAML, TOML or JSON, as interp/replicate/scales/tiny.yaml.")
    output: Path = option(Path("replications/latest"), "Folder of the replication.", "-o", "--output")
    corpus: str | None = option(None, "Another corpus than the plan's.")
    tokenizer: str | None = option(None, "Another tokenizer than the plan's.")
    seeds: str | None = option(None, "Other seeds than the plan's, separated by commas; also of the ablations.")
    max_steps: int | None = option(None, "Only so many steps a run and little measuring, to see that all works.")
    until: Literal["prepare", "tune", "choose", "train", "measure"] = option("measure", "Stop after this stage.")
    report: bool = option(False, "Only write table, page and report of what is done so far.")
    workers: int = option(1, "How many jobs at a time; more machines may run the same command on the same folder.")
    threads: int = option(1, "Threads of each; the last digits of results depend on it.")

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "max_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InterpError(f"{name} is {getattr(self, name)}; at least 1 is needed.")
        if self.scale and self.plan:
            raise InterpError(f"Both --scale {self.scale} and --plan {self.plan} were given; give one of them.")


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

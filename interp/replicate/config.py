"""What a replication is asked to do: the options of `python -m interp.replicate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interp.errors import InterpError
from interp.options import BORDER, check_at_least_one, check_border, option

Kind = Literal["prepare", "tune", "choose", "train", "measure"]  # of the jobs, in their order


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
    text_field: str | None = option(None, "Another column of the corpus than the plan's that holds the text.")
    tokenizer: str | None = option(None, "Another tokenizer than the plan's.")
    border: str | None = option(None, BORDER)
    seeds: str | None = option(None, "Other seeds than the plan's, separated by commas; also of the ablations.")
    max_steps: int | None = option(None, "Only so many steps a run and little measuring, to see that all works.")
    only: str | None = option(
        None,
        "Only runs of these names, patterns with commas between, as 'ecd-*-seed42': for machines that share no folder.",
    )
    until: Kind = option("measure", "Stop after this stage.")
    report: bool = option(False, "Only write table, page and report of what is done so far.")
    workers: int = option(1, "How many jobs at a time; more machines may run the same command on the same folder.")
    threads: int = option(1, "Threads of each; the last digits of results depend on it.")

    def __post_init__(self) -> None:
        check_at_least_one(self, "workers", "threads", "max_steps")
        check_border(self)
        if self.scale and self.plan:
            raise InterpError(f"Both --scale {self.scale} and --plan {self.plan} were given; give one of them.")

"""The work of a replication as a list of jobs, each with what it needs and the file that says it is done.

Everything lies in one folder and is named relative to it, so that a job is the same on every machine that sees it:

    plan.yaml                         the plan
    shards/                           the corpus as tokens
    tuning/NAME/  runs/NAME/          training runs; trained.json when one is done, measured.json when it is measured
    learning_rates.json               what the tuning chose
"""

import json
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import interp.files as files
from interp.errors import InterpError, few
from interp.files import writing
from interp.replicate.config import Kind
from interp.replicate.plan import Cell, Plan
from interp.train.config import FREE, TrainConfig

SHARDS, RATES = Path("shards"), Path("learning_rates.json")
TRAINED, MEASURED = "trained.json", "measured.json"


@dataclass(frozen=True)
class Job:
    """One piece of work. Paths are relative to the replication's folder."""

    kind: Kind
    folder: Path  # where its results and its log go
    done: Path  # exists when the job is done
    needs: tuple[Path, ...] = ()  # what must exist before it can begin
    cell: Cell | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # of `interp.train`

    @property
    def name(self) -> str:
        """Name of the job, different from every other's."""
        return f"{self.kind}/{self.folder.name}"

    def is_done(self, root: Path) -> bool:
        """Return whether its result lies in the replication's folder `root`, and can be read."""
        return bool(read_json(root / self.done))

    def is_ready(self, root: Path) -> bool:
        """Return whether all that it needs is there."""
        return all(read_json(root / path) for path in self.needs)


def jobs_of(plan: Plan, until: Kind = "measure") -> list[Job]:
    """Return all jobs of a plan up to a kind, in the order in which they are to be taken."""
    prepare = Job("prepare", SHARDS, SHARDS / "prepared.json")
    trials = [(cell, Path("tuning") / cell.name, rate) for cell, rate in plan.trials()]
    tuning = [_training("tune", folder, cell, plan, prepare.done, lr=rate) for cell, folder, rate in trials]
    choose = Job("choose", Path("tuning"), RATES, tuple(job.done for job in tuning) or (prepare.done,))
    training = [_training("train", Path("runs") / cell.name, cell, plan, choose.done) for cell in plan.cells()]
    measuring = [Job("measure", job.folder, job.folder / MEASURED, (job.done,), job.cell) for job in training]
    runs = [job for pair in zip(training, measuring, strict=True) for job in pair]  # what is trained is measured next
    jobs, kinds = [prepare, *tuning, choose, *runs], get_args(Kind)
    return [job for job in jobs if kinds.index(job.kind) <= kinds.index(until)]


def named(jobs: list[Job], patterns: str) -> list[Job]:
    """Return the jobs without the runs whose names match none of the patterns.

    Args:
        jobs: all of them.
        patterns: as of a shell, with commas between.

    Raises:
        InterpError: no run has such a name.
    """
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    runs = [job for job in jobs if job.kind in ("train", "measure")]
    kept = [job for job in runs if any(fnmatchcase(job.folder.name, pattern) for pattern in wanted)]
    if runs and not kept:
        names = list(dict.fromkeys(job.folder.name for job in runs))
        raise InterpError(f"--only {patterns} matches no run; the plan has {few(names)}.")
    return [job for job in jobs if job in kept or job not in runs]


def grid_of(plan: Plan, optimizer: str) -> dict[float, Job]:
    """Return the short runs that choose an optimizer's learning rate, by learning rate; none if the plan names it."""
    trials = [job for job in jobs_of(plan, "tune") if job.cell is not None and job.cell.optimizer == optimizer]
    return {trial.settings["lr"]: trial for trial in trials}


def with_rate(job: Job, root: Path) -> Job:
    """Return a job of the kind "train" with its optimizer's learning rate, if that is chosen; another job as it is.

    So is one of an ablation that names a learning rate.
    """
    if job.kind != "train" or job.cell is None or "lr" in job.cell.changes or not (rates := read_json(root / RATES)):
        return job
    return replace(job, settings={**job.settings, "lr": rates[job.cell.optimizer]["lr"]})


def settings_of(job: Job) -> dict[str, Any]:
    """Return those settings of a training job that its result depends on."""
    free = FREE - {"steps", "tokens", "patience", "micro_batch_size", "compile"}
    return {name: value for name, value in TrainConfig(**job.settings).to_dict().items() if name not in free}


def refuse_other_results(root: Path, plan: Plan, jobs: list[Job]) -> None:
    """Refuse to go on where what is done was done with other settings than the plan now gives.

    Raises:
        InterpError: names the run and the first setting.
    """
    for name, chosen in read_json(root / RATES).items():
        if {float(rate) for rate in chosen["losses"]} != set(grid_of(plan, name)):
            raise InterpError(
                f"{root / RATES} has the learning rate of {name} from another grid than the plan's; use another "
                "--output, or remove that file."
            )
    for job in jobs:
        stored = read_json(root / job.done).get("settings", {}) if job.settings else {}
        now = settings_of(with_rate(job, root)) if stored else {}
        # what an earlier version wrote out, now left to the preset
        usual = TrainConfig(**job.settings).block() if stored else {}
        for name in now:
            known = {now[name], usual.get(name)} if now[name] is None else {now[name]}
            if name in stored and stored[name] not in known and (name != "lr" or now["lr"] is not None):
                raise InterpError(
                    f"{root / job.folder} was trained with {name} {stored[name]}, the plan now says {now[name]}; use "
                    "another --output, or remove that run."
                )


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    with writing(path) as beside:
        beside.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the result of a job; an empty one where there is none, or a damaged one: the job is then done again."""
    try:
        return files.read_json(path)
    except InterpError:
        return {}


def _training(kind: Kind, folder: Path, cell: Cell, plan: Plan, need: Path, **more: Any) -> Job:
    place = {"corpus": str(SHARDS), "output": folder}
    settings = {"compile": False, **plan.training(cell), **place, **more}  # all runs alike, however long
    return Job(kind, folder, folder / TRAINED, (need,), cell, settings)

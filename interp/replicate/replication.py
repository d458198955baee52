"""A replication from beginning to end: the plan is put into the folder, workers do what is left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import yaml

from interp.errors import InterpError
from interp.files import writing
from interp.options import console
from interp.replicate.jobs import PLAN, RATES, Job, grid_of, jobs_of, read_json, settings_of, with_rate
from interp.replicate.page import write_page, write_report
from interp.replicate.plan import Plan, read_plan, scale
from interp.replicate.results import results_table, save_results
from interp.replicate.workers import Workers

if TYPE_CHECKING:
    from interp.replicate.config import ReplicateConfig


class Interrupted(InterpError):  # noqa: N818 - nothing went wrong
    """SIGTERM or Ctrl-C came; what was under way is saved."""

    def __init__(self, number: int, root: Path) -> None:
        self.exit_status = 128 + number
        super().__init__(f"stopped; everything is saved. Go on with: python -m interp.replicate -o {root}")


def replicate(config: ReplicateConfig) -> None:
    """Do all jobs of a plan that are left, and write what came out.

    Raises:
        InterpError: bad input, or a job failed.
        Interrupted: a signal came.
    """
    plan = plan_of(config)
    jobs = jobs_of(plan, config.until)
    refuse_other_results(config.output, plan, jobs)
    if not config.report:  # others may be at work on the plan that is there
        store_plan(plan, config.output / PLAN)
    left = [job for job in jobs if not job.is_done(config.output)]
    _say(f"{len(jobs)} jobs, {len(jobs) - len(left)} of them done; {config.workers} at a time")
    if not config.report:
        with _signals(config.output):
            Workers(config.output, jobs, config.workers, config.threads).run(
                lambda job: _tell(job, jobs, config.output)
            )
    for file in write_results(plan, config.output):
        _say(str(file))


def write_results(plan: Plan, root: Path) -> list[Path]:
    """Write table, page and report of what is done so far, and return the files."""
    table = results_table(plan, root)
    return [*save_results(table, root), write_report(plan, table, root), write_page(plan, table, root)]


def plan_of(config: ReplicateConfig) -> Plan:
    """Return the plan that the options name, with what they change.

    Raises:
        InterpError: the plan or a seed is none.
    """
    stored = config.output / PLAN
    if config.plan:
        plan = read_plan(config.plan)
    else:
        plan = read_plan(stored) if config.scale is None and stored.is_file() else scale(config.scale or "tiny")
    if config.seeds:
        seeds = _seeds(config.seeds)
        plan = replace(plan, seeds=seeds, ablations=[replace(ablation, seeds=seeds) for ablation in plan.ablations])
    plan = replace(plan, corpus=_found(config.corpus or plan.corpus))
    plan = replace(plan, tokenizer=_found(config.tokenizer)) if config.tokenizer else plan
    return plan.limited(config.max_steps) if config.max_steps else plan


def store_plan(plan: Plan, path: Path) -> None:
    """Write a plan as YAML; processes of one replication read it from there."""
    with writing(path) as beside:
        beside.write_text(yaml.safe_dump(asdict(plan), sort_keys=False), encoding="utf-8")


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
        for name in now:
            if name in stored and stored[name] != now[name] and (name != "lr" or now["lr"] is not None):
                raise InterpError(
                    f"{root / job.folder} was trained with {name} {stored[name]}, the plan now says {now[name]}; use "
                    "another --output, or remove that run."
                )


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InterpError(f"--seeds is {text!r}; give whole numbers with commas between them.") from None


def _found(name: str) -> str:
    """A path in full, because jobs run in the replication's folder; a name as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _tell(job: Job, jobs: list[Job], root: Path) -> None:
    done = sum(other.is_done(root) for other in jobs)
    _say(f"[{done}/{len(jobs)}] {job.name}")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _signals(root: Path) -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into `Interrupted`, which stops the workers."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number, root)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

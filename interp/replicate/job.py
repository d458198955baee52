"""One job in a process of its own: `python -m interp.replicate.job FOLDER NAME`, as the workers call it.

The process holds the job's lock itself, so that it keeps it even when the worker that started it is killed, and loses it
when it ends in whatever way.
"""

import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from interp.errors import InterpError, few
from interp.options import stop_signal, terminable
from interp.replicate.jobs import Job, jobs_of, with_rate
from interp.replicate.plan import PLAN, Plan, read_plan

TAKEN = 75  # exit status: another process has the job (EX_TEMPFAIL)


def lock_of(root: Path, job: Job) -> FileLock:
    """Return the lock of a job; it is let go when the process that holds it ends, also when it is killed."""
    path = root / "locks" / (job.name.replace("/", "-") + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, blocking=False)


def refuse_another_plan(root: Path, plan: Plan) -> None:
    """Refuse to put a plan in the place of another that some process works on.

    Raises:
        InterpError: names jobs that are under way.
    """
    if not (root / PLAN).is_file() or (root / PLAN).read_text(encoding="utf-8") == plan.text():
        return
    held = []
    for path in sorted((root / "locks").glob("*.lock")):
        try:
            with FileLock(path, blocking=False):
                pass
        except Timeout:
            held.append(path.stem)
    if held:
        raise InterpError(
            f"{root} is being worked on by another plan ({few(held)} under way); give no plan to join in, wait for it, or "
            "use another --output."
        )


def run_job(root: Path, name: str) -> int:
    """Take a job, do it, and return the exit status.

    Raises:
        InterpError: no such job, or bad input.
    """
    os.chdir(root)  # a run's settings name its files relative to it
    plan = read_plan(PLAN)
    job = next((job for job in jobs_of(plan) if job.name == name), None)
    if job is None:
        raise InterpError(f"{root / PLAN} has no job {name!r}; start again with python -m interp.replicate.")
    try:
        with lock_of(Path(), job):
            if not job.is_done(Path()):  # it may have become so while this process started
                from interp.replicate import steps  # late: a lock that is taken is noticed before torch is imported
                from interp.train.step import keep_memory

                keep_memory()
                if job.kind in ("tune", "train"):
                    steps.train_run(with_rate(job, Path()))
                else:
                    do = {"prepare": steps.make_shards, "choose": steps.choose_rates, "measure": steps.measure_run}
                    do[job.kind](plan, job)
    except Timeout:
        return TAKEN
    return 0


if __name__ == "__main__":
    try:
        with terminable():
            sys.exit(run_job(Path(sys.argv[1]), sys.argv[2]))
    except InterpError as error:  # the last line of the log, which the worker repeats
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt as error:
        print(f"stopped by {stop_signal(error).name}", file=sys.stderr)
        sys.exit(128 + stop_signal(error))

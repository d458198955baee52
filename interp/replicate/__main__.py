"""Repeat the paper's experiment at a scale of one's own: optimizers x variants x seeds, and ablations.

python -m interp.replicate --scale tiny --workers 2 -o replications/tiny
python -m interp.replicate -o replications/tiny                             go on with it, or join in from elsewhere
python -m interp.replicate --report -o replications/tiny                    what is known so far
python -m interp.replicate --plan mine.yaml -o replications/mine
python -m interp.replicate --scale paper --max-steps 2 --seeds 42 -o runs/check
python -m interp.replicate --scale paper --only 'ecd-*-seed42' -o runs/paper    some of the runs
"""

from pathlib import Path

import typer

from interp.errors import InterpError, few
from interp.files import owning
from interp.options import command_from, say, stop_signal
from interp.replicate.config import ReplicateConfig
from interp.replicate.job import refuse_another_plan
from interp.replicate.jobs import Job, jobs_of, named, refuse_other_results
from interp.replicate.plan import PLAN, Plan, plan_of, store_plan
from interp.replicate.workers import Workers
from interp.train.config import TrainConfig

SINGLE = 67e12  # operations a second of an H100 (SXM) in float32 without TF32, by its data sheet
UTILIZATION = 0.4
LONG = 600.0  # seconds
WAIT = 60.0  # seconds for others on the folder, which hold it while they store the plan or write the results


class Interrupted(InterpError):  # noqa: N818 - nothing went wrong
    """SIGTERM or Ctrl-C came; what was under way is saved."""

    def __init__(self, error: KeyboardInterrupt, root: Path) -> None:
        self.exit_status = 128 + stop_signal(error)
        super().__init__(f"stopped; everything is saved. Go on with: python -m interp.replicate -o {root}")


def run(config: ReplicateConfig) -> None:
    """Do all jobs of the plan that are left, and write what came out.

    Raises:
        InterpError: bad input, or jobs failed; those that need none of them are done, and their results are written.
        Interrupted: a signal came.
    """
    root = config.output
    if config.report and not (root / PLAN).is_file():
        raise InterpError(
            f"There is no {root / PLAN}, so nothing to report on; give the folder of a replication with -o."
        )
    with owning(root, WAIT):
        plan = plan_of(config)
        jobs = jobs_of(plan, config.until)
        jobs = named(jobs, config.only) if config.only else jobs
        refuse_other_results(root, plan, jobs)
        if not config.report:  # others may be at work on the plan that is there
            refuse_another_plan(root, plan)
            store_plan(plan, root / PLAN)
    say(f"{len(jobs)} jobs, {_done(jobs, config)} of them done; {config.workers} at a time")
    if told := time_told(plan):
        say(told)
    workers = Workers(root, jobs, config.workers, config.threads)
    if not config.report:
        try:
            workers.run(lambda job: say(f"[{_done(jobs, config)}/{len(jobs)}] {job.name}"))
        except KeyboardInterrupt as error:
            raise Interrupted(error, root) from error
    from interp.replicate.page import write_results  # late, so that --help is quick

    with owning(root, WAIT):
        files = write_results(plan, root)
    for file in files:
        say(str(file))
    if workers.failed:
        left = len(jobs) - _done(jobs, config)
        raise InterpError(
            f"{len(workers.failed)} of {len(jobs)} jobs failed ({few(workers.failed)}), and {left} are not done; "
            f"{root / 'logs'} tells why. Run the command again to try them again."
        )


def time_told(plan: Plan) -> str | None:
    """Return how long a run of the plan takes on one H100, computed; None where that is no matter."""
    from interp.train.loop import duration
    from interp.train.measures import DATA_SHEET, H100, flops_per_token, training_seconds
    from interp.train.setup import model_config

    config = TrainConfig(**plan.training(plan.cells()[0]))
    cfg = model_config(config)
    tokens = config.total_steps(cfg.n_ctx) * config.batch_size * cfg.n_ctx
    peak = DATA_SHEET[H100] if config.precision == "bfloat16" else SINGLE
    if (seconds := training_seconds(cfg, tokens, UTILIZATION * peak)) < LONG:
        return None
    return (
        f"a run takes {flops_per_token(cfg) * tokens:.2g} floating point operations, {duration(seconds)} on one H100 at "
        f"{UTILIZATION:.0%} of its {peak / 1e12:.0f} TFLOP/s in {config.precision}: computed, not measured; "
        "--only spreads runs over machines"
    )


def _done(jobs: list[Job], config: ReplicateConfig) -> int:
    return sum(job.is_done(config.output) for job in jobs)


HELP = """Train the paper's matrix of optimizers and bias variants, measure every run, and say what symmetry breaking did.

Learning rates are chosen on the symmetric variant, by short runs over a grid that the plan declares. Run the command again
to go on after any interruption: what is done is skipped, a run that was stopped goes on from its last saved state.
"""
command = command_from(ReplicateConfig, run, HELP)
app = typer.Typer(add_completion=False)
app.command()(command)

if __name__ == "__main__":
    app()

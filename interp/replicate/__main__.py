"""Repeat the paper's experiment at a scale of one's own: optimizers x variants x seeds, and ablations.

python -m interp.replicate --scale tiny --workers 2 -o replications/tiny
python -m interp.replicate -o replications/tiny                             go on with it, or join in from elsewhere
python -m interp.replicate --report -o replications/tiny                    what is known so far
python -m interp.replicate --plan mine.yaml -o replications/mine
python -m interp.replicate --scale paper --max-steps 2 --seeds 42 -o runs/check
"""

import typer

from interp.errors import InterpError, few
from interp.options import command_from, say
from interp.replicate.config import ReplicateConfig
from interp.replicate.jobs import Job, jobs_of, refuse_other_results
from interp.replicate.plan import PLAN, plan_of, store_plan
from interp.replicate.workers import Workers, interruptible


def run(config: ReplicateConfig) -> None:
    """Do all jobs of the plan that are left, and write what came out.

    Raises:
        InterpError: bad input, or jobs failed; those that need none of them are done, and their results are written.
        Interrupted: a signal came.
    """
    plan, root = plan_of(config), config.output
    jobs = jobs_of(plan, config.until)
    refuse_other_results(root, plan, jobs)
    if not config.report:  # others may be at work on the plan that is there
        store_plan(plan, root / PLAN)
    say(f"{len(jobs)} jobs, {_done(jobs, config)} of them done; {config.workers} at a time")
    workers = Workers(root, jobs, config.workers, config.threads)
    if not config.report:
        with interruptible(root):
            workers.run(lambda job: say(f"[{_done(jobs, config)}/{len(jobs)}] {job.name}"))
    from interp.replicate.page import write_results  # late, so that --help is quick

    for file in write_results(plan, root):
        say(str(file))
    if workers.failed:
        left = len(jobs) - _done(jobs, config)
        raise InterpError(
            f"{len(workers.failed)} of {len(jobs)} jobs failed ({few(workers.failed)}), and {left} are not done; "
            f"{root / 'logs'} tells why. Run the command again to try them again."
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

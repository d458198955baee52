"""Jobs: what needs what, who may do it, and what is refused."""

from dataclasses import replace

import pandas as pd
import pytest

from interp.errors import InterpError
from interp.files import owning
from interp.replicate import steps
from interp.replicate.__main__ import run, time_told
from interp.replicate.config import ReplicateConfig
from interp.replicate.job import TAKEN, lock_of, refuse_another_plan, run_job
from interp.replicate.jobs import (
    RATES,
    grid_of,
    jobs_of,
    named,
    read_json,
    refuse_other_results,
    settings_of,
    with_rate,
    write_json,
)
from interp.replicate.plan import PLAN, Ablation, Tuning, plan_of, scale, store_plan
from interp.replicate.results import results_table
from interp.replicate.steps import best_rate, measure_run
from interp.replicate.workers import Workers
from interp.train import __main__ as train_command
from interp.train import loop, step
from interp.train.config import TrainConfig


def test_a_plan_can_be_carried_out_in_the_order_of_its_jobs():
    for name in ("tiny", "paper"):
        jobs, done = jobs_of(scale(name)), set()
        for job in jobs:
            assert set(job.needs) <= done
            done.add(job.done)
        assert len({job.name for job in jobs}) == len(jobs) == len(done)


def test_stages_can_be_left_out_at_the_end():
    plan = scale("tiny")
    kinds = [{job.kind for job in jobs_of(plan, until)} for until in ("prepare", "tune", "choose", "train", "measure")]
    assert [len(kind) for kind in kinds] == [1, 2, 3, 4, 5]
    assert len(jobs_of(plan, "train")) == 1 + 20 + 1 + 102


def test_the_lowest_loss_wins_diverged_runs_never_do_and_the_lower_of_two_equals():
    assert best_rate("adamw", {0.1: 3.0, 0.2: 2.5, 0.4: None}) == 0.2
    assert best_rate("adamw", {0.4: 2.5, 0.2: 2.5, 0.1: 2.6}) == 0.2
    with pytest.raises(InterpError, match="All 2 learning rates of ecd diverged"):
        best_rate("ecd", {0.1: None, 0.2: None})


def test_runs_take_the_chosen_learning_rate_of_their_optimizer(small_plan, tmp_path):
    plan = small_plan(optimizers={"adamw": {}, "sgdm": {}}, learning_rates={"adamw": 0.01, "sgdm": 0.3})
    write_json(tmp_path / RATES, {"adamw": {"lr": 0.01, "losses": {}}, "sgdm": {"lr": 0.3, "losses": {}}})
    rates = {
        (j.cell.optimizer, with_rate(j, tmp_path).settings["lr"]) for j in jobs_of(plan, "train") if j.kind == "train"
    }
    assert rates == {("adamw", 0.01), ("sgdm", 0.3)}


def test_what_is_trained_is_measured_next_and_an_ablation_may_name_its_learning_rate(small_plan, tmp_path):
    slow = Ablation("slow", ["adamw"], ["bq"], [0], {"lr": 0.002})
    plan = small_plan(ablations=[slow])
    write_json(tmp_path / RATES, {"adamw": {"lr": 0.01, "losses": {}}})
    runs = jobs_of(plan)[2:]
    assert [job.kind for job in runs] == ["train", "measure"] * 3
    assert all(train.done in measure.needs for train, measure in zip(runs[::2], runs[1::2], strict=True))
    assert [with_rate(job, tmp_path).settings["lr"] for job in runs[::2]] == [0.01, 0.01, 0.002]


def test_a_job_whose_lock_another_process_holds_is_left_alone(small_plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store_plan(small_plan(), tmp_path / PLAN)
    jobs = jobs_of(small_plan())
    with lock_of(tmp_path, jobs[0]):
        assert run_job(tmp_path, jobs[0].name) == TAKEN
        assert Workers(tmp_path, jobs, 1, 1)._take(jobs) is None
    assert Workers(tmp_path, jobs, 1, 1)._take(jobs) is jobs[0]
    with pytest.raises(InterpError, match="has no job 'train/none'"):
        run_job(tmp_path, "train/none")


def test_processes_that_train_keep_their_memory(small_plan, tmp_path, monkeypatch):
    called = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(step, "keep_memory", lambda: called.append("kept"))
    monkeypatch.setattr(steps, "make_shards", lambda plan, job: called.append(job.name))
    monkeypatch.setattr(loop, "train", called.append)
    store_plan(small_plan(), tmp_path / PLAN)
    [prepare, *_] = jobs_of(small_plan())
    assert run_job(tmp_path, prepare.name) == 0 and called == ["kept", prepare.name]
    train_command.run(TrainConfig())
    assert called[2:] == ["kept", TrainConfig()]


def test_two_workers_of_one_command_take_different_jobs(small_plan, tmp_path):
    jobs = jobs_of(small_plan())
    for path in (jobs[0].done, RATES):
        write_json(tmp_path / path, {"made": True})
    workers = Workers(tmp_path, jobs, 2, 1)
    left = [job for job in jobs if not job.is_done(tmp_path)]
    trained = [job for job in left if job.kind == "train"]
    assert [workers._take(left), workers._take(left), workers._take(left)] == [*trained, None]


def test_a_job_that_fails_is_told_and_ends_only_what_needs_it(small_plan, tmp_path, monkeypatch, capsys):
    class Started:
        """A job that is done at once; one of the runs fails."""

        def __init__(self, command, stdout, stderr, env):
            job = next(job for job in jobs if job.name == command[-1])
            self.failed = job.name.startswith("train/adamw-bq")
            if self.failed:
                stdout.write(b"the disk is full.\n")
            else:
                write_json(tmp_path / job.done, {"done": True})

        def wait(self):
            return int(self.failed)

    monkeypatch.setattr("interp.replicate.workers.subprocess.Popen", Started)
    jobs, done = jobs_of(small_plan(seeds=[0, 1])), []
    workers = Workers(tmp_path, jobs, 2, 1)
    workers.run(lambda job: done.append(job.name))
    lost = {f"{kind}/adamw-bq-seed{seed}" for kind in ("train", "measure") for seed in (0, 1)}
    assert set(done) == {job.name for job in jobs} - lost
    assert sorted(workers.failed) == ["train/adamw-bq-seed0", "train/adamw-bq-seed1"]
    told = " ".join(capsys.readouterr().err.split())
    assert "failed: train/adamw-bq-seed0 ended with status 1: the disk is full." in told


def test_states_that_a_killed_job_left_beside_its_result_are_removed_by_who_reads_it(small_plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [job] = [job for job in jobs_of(small_plan()) if job.name == "measure/adamw-bq-seed0"]
    write_json(job.folder / "trained.json", {"diverged": "The loss is nan."})
    for name in ("step-00000002", ".step-00000001.pruned00"):
        (job.folder / name).mkdir()
        (job.folder / name / "state.pt").touch()
    measure_run(small_plan(), job)
    assert {path.name for path in job.folder.iterdir()} == {"trained.json", "measured.json"}


def test_runs_are_compiled_only_where_the_plan_says_so_and_not_one_way_and_then_the_other(small_plan, tmp_path):
    plan = small_plan()
    assert {job.settings["compile"] for job in jobs_of(plan) if job.settings} == {False}
    finished(plan, tmp_path)
    refuse_other_results(tmp_path, plan, jobs_of(plan))
    other = replace(plan, settings={**plan.settings, "compile": True})
    with pytest.raises(InterpError, match="was trained with compile False, the plan now says True"):
        refuse_other_results(tmp_path, other, jobs_of(other))


def finished(plan, root):
    """Pretend that every run of a plan is trained."""
    write_json(root / RATES, {name: {"lr": rate, "losses": {}} for name, rate in plan.learning_rates.items()})
    for job in jobs_of(plan, "train"):
        if job.settings:
            result = {
                "settings": settings_of(with_rate(job, root)),
                "diverged": None,
                "validation_loss": 5.0,
                "tokens": 64,
            }
            write_json(root / job.done, result)


def test_more_seeds_extend_a_replication_other_settings_are_refused(small_plan, tmp_path):
    plan = small_plan()
    finished(plan, tmp_path)
    refuse_other_results(tmp_path, plan, jobs_of(plan))
    longer = replace(plan, seeds=[0, 1])
    refuse_other_results(tmp_path, longer, jobs_of(longer))
    for changed in ({"settings": {**plan.settings, "steps": 5}}, {"optimizers": {"adamw": {"clip": 0.5}}}):
        other = replace(plan, **changed)
        with pytest.raises(
            InterpError, match=r"adamw-symmetric-seed0 was trained with (steps 4|clip None), the plan now"
        ):
            refuse_other_results(tmp_path, other, jobs_of(other))
    write_json(tmp_path / RATES, {"adamw": {"lr": 0.5, "losses": {}}})
    with pytest.raises(InterpError, match=r"trained with lr 0\.01, the plan now says 0\.5"):
        refuse_other_results(tmp_path, plan, jobs_of(plan))


def test_what_an_earlier_version_wrote_out_is_no_other_setting(small_plan, tmp_path):
    plan = small_plan()
    finished(plan, tmp_path)
    path = tmp_path / "runs" / plan.cells()[0].name / "trained.json"
    stored = read_json(path)
    assert stored["settings"]["positional"] is None  # now left to the preset
    for value, agrees in (("learned", True), ("rope", False)):
        write_json(path, {**stored, "settings": {**stored["settings"], "positional": value}})
        if agrees:
            refuse_other_results(tmp_path, plan, jobs_of(plan))
        else:
            with pytest.raises(InterpError, match="was trained with positional rope"):
                refuse_other_results(tmp_path, plan, jobs_of(plan))


def test_machines_without_a_common_folder_take_runs_by_name():
    jobs = jobs_of(scale("tiny"))
    kept = named(jobs, "ecd-*-seed4, adamw-bq-rope-*")
    assert [job for job in jobs if job.kind in ("prepare", "tune", "choose")] == [
        j for j in kept if "ure" not in j.kind
    ][:22]
    runs = [job.folder.name for job in kept if job.kind == "measure"]
    assert runs == [
        *(f"ecd-{variant}-seed4" for variant in ("symmetric", "bq", "bqbv")), *(f"adamw-bq-rope-seed{n}" for n in range(3))
    ]  # fmt: skip
    assert [job.folder.name for job in kept if job.kind == "train"] == runs
    with pytest.raises(InterpError, match=r"--only x\* matches no run; the plan has adamw-symmetric-seed0, "):
        named(jobs, "x*")
    assert named(jobs_of(scale("tiny"), "tune"), "x*")  # no run is asked for yet


def test_a_long_plan_says_how_long_a_run_takes_and_that_this_is_computed():
    told = time_told(scale("paper"))
    weights = 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 768 * 50304
    operations = 500e6 * (6 * weights + 12 * 12 * 768 * 512)
    hours = operations / (0.4 * 67e12) / 3600
    assert f"{operations:.2g} floating point operations, {int(hours)} h" in told and "computed, not measured" in told
    faster = scale("paper")
    faster = time_told(replace(faster, settings={**faster.settings, "precision": "bfloat16"}))
    assert "16 min" in faster and operations / (0.4 * 989e12) // 60 == 16
    assert time_told(scale("tiny")) is None


def test_learning_rates_from_another_grid_are_refused(small_plan, tmp_path):
    tuning = Tuning([0.5, 1], {"adamw": 0.01}, 9, {"steps": 2})
    plan = small_plan(learning_rates={}, tuning=tuning)
    assert list(grid_of(plan, "adamw")) == [0.005, 0.01]
    write_json(tmp_path / RATES, {"adamw": {"lr": 0.01, "losses": {"0.005": 5.0, "0.01": 4.0}}})
    refuse_other_results(tmp_path, plan, jobs_of(plan))
    other = replace(plan, tuning=replace(tuning, factors=[1, 2]))
    with pytest.raises(InterpError, match="the learning rate of adamw from another grid"):
        refuse_other_results(tmp_path, other, jobs_of(other))


def test_the_table_tells_waiting_trained_diverged_and_measured_runs_apart(small_plan, tmp_path):
    plan = small_plan(seeds=[0, 1])
    finished(plan, tmp_path)
    waiting, diverged, measured, _ = [tmp_path / "runs" / cell.name for cell in plan.cells()]
    (waiting / "trained.json").unlink()
    write_json(diverged / "trained.json", {**read_json(diverged / "trained.json"), "diverged": "The loss is nan."})
    write_json(measured / "measured.json", {"loss": {"loss": 4.5, "low": 4.0, "high": 5.0}})
    table = results_table(plan, tmp_path)
    assert list(table["status"]) == ["waiting", "diverged", "measured", "trained"]
    assert table["validation_loss"].dropna().to_list() == [4.5] and set(table["lr"]) == {0.01}


def test_the_stored_plan_is_gone_on_with_and_options_change_it(small_plan, tmp_path):
    assert plan_of(ReplicateConfig(output=tmp_path)) == scale("tiny")
    store_plan(small_plan(), tmp_path / PLAN)
    assert plan_of(ReplicateConfig(output=tmp_path)) == small_plan()
    changed = plan_of(ReplicateConfig(scale="tiny", output=tmp_path, seeds="5,6", max_steps=3))
    assert {cell.seed for cell in changed.cells()} == {5, 6}
    assert {changed.training(cell)["steps"] for cell in changed.cells()} == {3}
    with pytest.raises(InterpError, match="--seeds is '1;2'"):
        plan_of(ReplicateConfig(output=tmp_path, seeds="1;2"))
    with pytest.raises(InterpError, match="Both --scale tiny and --plan"):
        ReplicateConfig(scale="tiny", plan=tmp_path)


def test_a_look_at_what_is_known_leaves_the_plan_of_those_at_work_alone(small_plan, tmp_path):
    store_plan(small_plan(), tmp_path / PLAN)
    before = (tmp_path / PLAN).read_bytes()
    run(ReplicateConfig(output=tmp_path, report=True, seeds="7"))
    assert (tmp_path / PLAN).read_bytes() == before
    assert (tmp_path / "report.html").is_file() and set(pd.read_csv(tmp_path / "results.csv")["seed"]) == {7}


def test_another_plan_is_refused_while_others_work_on_the_one_that_is_there(small_plan, tmp_path):
    plan, other = small_plan(), small_plan(seeds=[1])
    refuse_another_plan(tmp_path, plan)
    store_plan(plan, tmp_path / PLAN)
    with lock_of(tmp_path, jobs_of(plan)[0]):
        refuse_another_plan(tmp_path, plan)  # to join in
        for config in (ReplicateConfig(output=tmp_path, seeds="1"), ReplicateConfig(output=tmp_path, max_steps=1)):
            with pytest.raises(
                InterpError, match=r"worked on by another plan \(prepare-shards under way\); give no plan"
            ):
                run(config)
        assert (tmp_path / PLAN).read_text() == plan.text()
    refuse_another_plan(tmp_path, other)


def test_the_plan_and_the_results_are_written_by_one_at_a_time(small_plan, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.replicate.__main__.WAIT", 0)
    store_plan(small_plan(), tmp_path / PLAN)
    with owning(tmp_path), pytest.raises(InterpError, match="is being written by process"):
        run(ReplicateConfig(output=tmp_path, report=True))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("damaged", ["", "{", "[" * 100_000, "9" * 5000, "[]", "{}"])
def test_a_damaged_result_does_not_count_as_done(small_plan, tmp_path, damaged):
    job = jobs_of(small_plan())[-1]
    write_json(tmp_path / job.done, {"diverged": True})
    assert job.is_done(tmp_path)
    (tmp_path / job.done).write_text(damaged)
    assert not job.is_done(tmp_path)
    assert set(results_table(small_plan(), tmp_path)["status"]) == {"waiting"}


def test_a_foreign_result_is_named(small_plan, tmp_path):
    job = jobs_of(small_plan())[-1]
    write_json(tmp_path / job.done, {"loss": 3})
    with pytest.raises(InterpError, match=r"measured\.json that is none of this package's .* remove it"):
        results_table(small_plan(), tmp_path)

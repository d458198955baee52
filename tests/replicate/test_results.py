"""Paired differences against sums done by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from interp.replicate.jobs import MEASURED, read_json
from interp.replicate.plan import PLAN, read_plan, scale
from interp.replicate.results import contrasts, contrasts_table, is_earlier, results_table


def seeds_of(contrast):
    """The seeds of the plan for a cell of the matrix."""
    return range(5 if contrast.optimizer in ("adamw", "ecd") else 3)


def value(table, metric, **keys):
    rows = table
    for name, wanted in keys.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1
    return rows[metric].item()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", ["validation_loss", "key_spread"])
def test_breaking_is_the_variant_minus_symmetric_of_the_same_seed(random_table, seed, metric):
    table = random_table(seed)
    found = [c for c in contrasts(table, "breaking", metric) if c.ablation == "none"]
    assert {(c.optimizer, c.variant) for c in found} == {
        (o, v) for o in ("adamw", "soap", "sgdm", "ecd") for v in ("bq", "bqbv")
    }
    for c in found:
        own = {"optimizer": c.optimizer, "ablation": "none"}
        expected = [
            value(table, metric, variant=c.variant, seed=s, **own)
            - value(table, metric, variant="symmetric", seed=s, **own)
            for s in seeds_of(c)
        ]
        assert c.differences == pytest.approx(expected)
        test = stats.ttest_1samp(expected, 0).confidence_interval()
        assert (c.estimate.mean, c.estimate.low, c.estimate.high) == pytest.approx((np.mean(expected), *test))


def test_an_ablation_with_its_own_symmetric_runs_is_held_against_them(random_table):
    table = random_table()
    found = {c.ablation: c for c in contrasts(table, "breaking") if c.ablation != "none"}
    assert set(found) == {"prelu", "rope", "rms-swiglu", "published-rate", "published-rate-soap"}
    expected = [
        value(table, "validation_loss", variant="bq", seed=s, ablation="rope")
        - value(table, "validation_loss", variant="symmetric", seed=s, ablation="rope")
        for s in (0, 1, 2)
    ]
    assert found["rope"].differences == pytest.approx(expected)


def test_a_gap_is_the_optimizer_minus_adamw_of_the_same_variant_and_seed(random_table):
    table = random_table()
    found = contrasts(table, "gap")
    assert len(found) == 9
    for c in found:
        own, adamw = (
            [
                value(table, "validation_loss", ablation="none", variant=c.variant, seed=s, optimizer=name)
                for s in (0, 1, 2) + (3, 4) * (c.optimizer == "ecd")
            ]
            for name in (c.optimizer, "adamw")
        )
        assert c.differences == pytest.approx(np.subtract(own, adamw))


def test_a_gap_narrows_by_the_difference_of_two_breakings(random_table):
    table = random_table()
    breaking = {(c.optimizer, c.variant): c.runs for c in contrasts(table, "breaking") if c.ablation == "none"}
    found = contrasts(table, "narrowing")
    assert {c.optimizer for c in found} == {"soap", "sgdm", "ecd"}
    gaps = {(c.optimizer, c.variant): c.runs for c in contrasts(table, "gap")}
    for c in found:
        for one, two in (
            (gaps[c.optimizer, c.variant], gaps[c.optimizer, "symmetric"]),
            (breaking[c.optimizer, c.variant], breaking["adamw", c.variant]),
        ):
            assert c.differences == pytest.approx([x - two.values[seed] for seed, x in one.values.items()])


def test_an_ablation_is_held_against_the_matrix_s_run_of_its_optimizer_variant_and_seed(random_table):
    table = random_table()
    found = contrasts(table, "ablation")
    assert len(found) == len(table[table["ablation"] != "none"]) / 3
    for c in found:
        own = {"optimizer": c.optimizer, "variant": c.variant}
        expected = [
            value(table, "validation_loss", ablation=c.ablation, seed=s, **own)
            - value(table, "validation_loss", ablation="none", seed=s, **own)
            for s in (0, 1, 2)
        ]
        assert c.differences == pytest.approx(expected)


def test_only_seeds_that_both_sides_have_are_paired(random_table):
    table = random_table()
    cell = (table["optimizer"] == "ecd") & (table["ablation"] == "none")
    table.loc[cell & (table["variant"] == "bq") & (table["seed"] == 0), "validation_loss"] = np.nan
    table.loc[cell & (table["variant"] == "symmetric") & (table["seed"] == 2), "validation_loss"] = np.nan
    found = {(c.optimizer, c.variant): c for c in contrasts(table, "breaking") if c.ablation == "none"}
    assert sorted(found["ecd", "bq"].runs.values) == [1, 3, 4]
    assert sorted(found["ecd", "bqbv"].runs.values) == [0, 1, 3, 4]
    assert len(found["adamw", "bq"].differences) == 5


def test_the_order_of_rows_does_not_matter(random_table):
    table = random_table()
    shuffled = table.sample(frac=1, random_state=1)
    metrics = ["validation_loss", "key_spread"]
    keys = ["metric", "kind", "optimizer", "variant", "ablation"]
    one, other = (contrasts_table(t, metrics).sort_values(keys, ignore_index=True) for t in (table, shuffled))
    ablations = table.loc[table["ablation"] != "none", ["optimizer", "variant", "ablation"]].drop_duplicates()
    assert one.equals(other) and len(one) == 2 * (8 + 5 + 9 + 6 + len(ablations))
    q = one.loc[one["metric"] == "key_spread"]
    assert q["q"].to_numpy() == pytest.approx(stats.false_discovery_control(q["p"]))


def test_an_interval_is_over_seeds_and_documents_where_the_losses_of_documents_are_known(made, tmp_path):
    plan = made(tmp_path)
    table = results_table(plan, tmp_path)
    [c] = [c for c in contrasts(table, "breaking") if (c.optimizer, c.variant, c.ablation) == ("ecd", "bq", "none")]
    losses = {
        (variant, seed): np.array(
            read_json(tmp_path / f"runs/ecd-{variant}-seed{seed}" / MEASURED)["loss"]["documents"]["loss"]
        )
        for variant in ("bq", "symmetric") for seed in range(5)
    }  # fmt: skip
    each = np.stack([losses["bq", seed] - losses["symmetric", seed] for seed in range(5)])  # [seed, document]
    assert c.differences == pytest.approx(each.mean(1))
    of_seeds, of_documents = each.mean(1).var(ddof=1) / 5, each.mean(0).var(ddof=1) / 12
    alone = (each - each.mean(1)[:, None] - each.mean(0) + each.mean()).var() * 60 / 44 / 60
    wanted = of_seeds + max(0, of_documents - alone)
    assert c.estimate.over == "seeds and documents" and c.estimate.error**2 == pytest.approx(wanted, rel=0.1)


def test_replicates_and_documents_are_those_of_the_first_articles(made, tmp_path):
    plan = scale("tiny")
    plan = made(tmp_path, plan=replace(plan, measuring=replace(plan.measuring, max_tokens=20_000, uses_tokens=30_000)))
    keys = ["optimizer", "variant", "ablation", "seed"]
    row = results_table(plan, tmp_path).set_index(keys).loc["adamw", "bq", "none", 0]
    stored = read_json(tmp_path / "runs/adamw-bq-seed0" / MEASURED)
    assert row["replicates"]["rms_beyond"][0].tolist() == stored["replicates"]["rms_beyond"]
    documents = {name: each for name, (_, each) in row["replicates"].items()}
    assert [documents[name] for name in ("validation_loss", "rms_beyond", "uses_cost")] == [12, 6, 10]
    kept = {name: np.array(values) for name, values in stored["uses"]["replicates"].items()}
    assert row["uses_cost"] == pytest.approx((kept["nothing"] - kept["unchanged"]).mean())
    assert row["uses_class"] == pytest.approx((kept["nothing"] - kept["class"]).mean())


def test_findings_are_missing_where_too_few_documents_give_them_no_interval(made, tmp_path):
    table = results_table(made(tmp_path, documents=4), tmp_path)
    assert table["findings"].isna().all() and table["singled_out"].notna().all()
    assert {c.estimate.over for c in contrasts(table, "breaking", "rms_beyond")} == {"seeds"}


def test_results_of_an_earlier_version_are_read_without_what_says_nothing_of_classes():
    root = Path(__file__).parents[2] / "docs" / "replication" / "tiny"
    stored = read_json(root / "runs" / "adamw-bq-seed0" / MEASURED)["amplification"]
    table = results_table(read_plan(root / PLAN), root)
    earlier = is_earlier(table)
    assert ("rms_beyond" in stored) != earlier.any() and not {"spread", "significant"} & set(table)
    assert table["rms_amplification"].notna().all()

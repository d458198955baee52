"""Paired differences against sums done by hand."""

import numpy as np
import pytest
from scipy import stats

from interp.replicate.results import contrasts, contrasts_table


def value(table, metric, **keys):
    rows = table
    for name, wanted in keys.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1
    return rows[metric].item()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", ["validation_loss", "spread"])
def test_breaking_is_the_variant_minus_symmetric_of_the_same_seed(random_table, seed, metric):
    table = random_table(seed)
    found = contrasts(table, "breaking", metric)
    assert {(c.optimizer, c.variant) for c in found} == {
        (o, v) for o in ("adamw", "soap", "sgdm", "ecd") for v in ("bq", "bqbv")
    }
    for c in found:
        own = {"optimizer": c.optimizer, "ablation": "none"}
        expected = [
            value(table, metric, variant=c.variant, seed=s, **own)
            - value(table, metric, variant="symmetric", seed=s, **own)
            for s in (0, 1, 2)
        ]
        assert c.differences == pytest.approx(expected)
        test = stats.ttest_1samp(expected, 0).confidence_interval()
        assert c.interval == pytest.approx((np.mean(expected), test.low, test.high))


def test_a_gap_is_the_optimizer_minus_adamw_of_the_same_variant_and_seed(random_table):
    table = random_table()
    found = contrasts(table, "gap")
    assert len(found) == 9
    for c in found:
        own, adamw = (
            [
                value(table, "validation_loss", ablation="none", variant=c.variant, seed=s, optimizer=name)
                for s in (0, 1, 2)
            ]
            for name in (c.optimizer, "adamw")
        )
        assert c.differences == pytest.approx(np.subtract(own, adamw))


def test_a_gap_narrows_by_the_difference_of_two_breakings(random_table):
    table = random_table()
    breaking = {(c.optimizer, c.variant): np.array(c.differences) for c in contrasts(table, "breaking")}
    found = contrasts(table, "narrowing")
    assert {c.optimizer for c in found} == {"soap", "sgdm", "ecd"}
    gaps = {(c.optimizer, c.variant): np.array(c.differences) for c in contrasts(table, "gap")}
    for c in found:
        assert c.differences == pytest.approx(gaps[c.optimizer, c.variant] - gaps[c.optimizer, "symmetric"])
        assert c.differences == pytest.approx(breaking[c.optimizer, c.variant] - breaking["adamw", c.variant])


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
    found = {(c.optimizer, c.variant): c for c in contrasts(table, "breaking")}
    assert len(found["ecd", "bq"].differences) == 1 and np.isnan(found["ecd", "bq"].interval[1])
    assert len(found["ecd", "bqbv"].differences) == 2
    assert len(found["adamw", "bq"].differences) == 3


def test_the_order_of_rows_does_not_matter(random_table):
    table = random_table()
    shuffled = table.sample(frac=1, random_state=1)
    metrics = ["validation_loss", "spread"]
    keys = ["metric", "kind", "optimizer", "variant", "ablation"]
    one, other = (contrasts_table(t, metrics).sort_values(keys, ignore_index=True) for t in (table, shuffled))
    assert one.equals(other) and len(one) == 2 * (8 + 9 + 6 + 8)

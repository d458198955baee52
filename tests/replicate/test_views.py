"""Figures and report say what the table says."""

import numpy as np
import pytest

from interp.replicate import published
from interp.replicate.figures import FIGURES, breaking_figure, cost_figure, loss_figure, puzzle_figure, uses_figure
from interp.replicate.hierarchy import share_of
from interp.replicate.page import evidence, losses, sections, uses, verdicts
from interp.replicate.plan import scale
from interp.replicate.results import contrasts, is_comparable, looks, results_table, runs_of


def points(figure):
    """The faint points of a figure, one per run."""
    return [(t.legendgroup, x, y) for t in figure.data if t.showlegend is False for x, y in zip(t.x, t.y, strict=True)]


def test_every_run_of_the_matrix_is_a_point_in_the_picture_of_losses(random_table):
    table = random_table()
    matrix = table[table["ablation"] == "none"]
    expected = set(zip(matrix["variant"], matrix["optimizer"], matrix["validation_loss"], strict=True))
    assert set(points(loss_figure(table, "gelu", False))) == expected


def test_published_losses_stand_beside_comparable_ones_only(random_table):
    names = [[t.name for t in loss_figure(random_table(), "gelu", known).data] for known in (False, True)]
    assert not [name for name in names[0] if "published" in name]
    assert [name for name in names[1] if "published" in name]
    assert is_comparable(scale("paper")) and not is_comparable(scale("tiny")) and not is_comparable(scale("small"))


def test_losses_measured_the_published_way_are_what_is_held_against_the_published_ones(random_table):
    table = random_table()
    assert "loss, the published way" not in losses(scale("tiny"), table)
    table["batch_validation_loss"] = table["validation_loss"] - np.linspace(1, 2, len(table))
    rows = losses(scale("tiny"), table).set_index("cell")
    own = table[(table["optimizer"] == "ecd") & (table["variant"] == "bq") & (table["ablation"] == "none")]
    assert rows["loss, the published way"]["ecd bq"].startswith(f"{own['batch_validation_loss'].mean():.4f} [")
    found = contrasts(table, "breaking", "batch_validation_loss")
    broken = [c for c in found if (c.optimizer, c.variant, c.ablation) == ("ecd", "bq", "none")]
    assert rows["minus symmetric, the published way"]["ecd bq"].startswith(f"{np.mean(broken[0].differences):+.4f} [")
    for comparable, metric in ((True, "batch_validation_loss"), (False, "validation_loss")):
        shown = {y for _, _, y in points(loss_figure(table, "gelu", comparable))}
        assert shown == set(table.loc[table["ablation"] == "none", metric])


def test_the_picture_of_breaking_holds_every_difference_and_the_published_ones(random_table):
    table = random_table()
    figure = breaking_figure(table, "gelu")
    found = [c for c in contrasts(table, "breaking") if c.ablation == "none"]
    expected = {(c.variant, c.optimizer, d) for c in found for d in c.differences}
    assert set(points(figure)) == expected
    shown = [(t.legendgroup, x, y) for t in figure.data if "published" in t.name for x, y in zip(t.x, t.y, strict=True)]
    assert sorted((variant, name, round(y, 4)) for variant, name, y in shown) == [
        ("bq", "ecd", -0.0487), ("bq", "ecd", -0.0205), ("bq", "ecd", -0.0128), ("bqbv", "adamw", -0.026),
        ("bqbv", "ecd", -0.0245), ("bqbv", "sgdm", 0.011), ("bqbv", "soap", 0.0014),
    ]  # fmt: skip


def test_published_differences_are_of_runs_of_one_seed_with_their_interval():
    found = published.published_differences("gelu", "ecd", "bq").estimate
    assert (found.mean, found.low, found.high) == pytest.approx((-0.0273, -0.0743, 0.0196), abs=5e-5)
    assert published.published_differences("prelu", "adamw", "bq").array == pytest.approx([-0.03])
    assert not published.published_differences("gelu", "adamw", "bq").values
    assert published.published_narrowing("gelu", "sgdm", "bqbv").array == pytest.approx([0.011 + 0.026])
    ahead = published.soap_minus_adamw()
    assert ahead["gelu"] == pytest.approx([3.3130 - 2.8558]) and max(ahead["prelu"]) < 0  # the order is the other one
    assert {run.seed for run in published.RUNS if run.optimizer == "ecd" and run.variant == "bq"} == {42, 83, 789}


def test_the_pictures_of_uses_hold_every_run_and_the_shares_of_the_table(made, tmp_path):
    table = results_table(made(tmp_path), tmp_path)
    figure = uses_figure(table, "gelu")
    part, whole = (runs_of(table, "ecd", "bq", name) for name in ("uses_position", "uses_cost"))
    assert {("position", "ecd", x / whole.values[seed]) for seed, x in part.values.items()} <= set(points(figure))
    [bar] = [t for t in figure.data if t.name == "position" and t.showlegend is None]
    share = share_of(part, whole)
    place = list(bar.x).index("ecd")
    assert (bar.y[place], bar.error_y.array[place]) == pytest.approx((share.mean, share.high - share.mean))
    assert f"{share:.0%}" == uses(table).set_index("runs")["position gives back"]["ecd bq"]
    assert f"{whole.estimate:+.4f}" == uses(table).set_index("runs")["cost of removing b_Q"]["ecd bq"]
    costs = {(name, x): y for name, x, y in points(cost_figure(table, "gelu")) if name == "scores of equal spread"}
    assert set(costs) == {("scores of equal spread", name) for name in ("adamw", "soap", "sgdm", "ecd")}


def test_the_table_of_evidence_has_measures_beside_their_controls(made, tmp_path):
    table = results_table(made(tmp_path), tmp_path)
    rows = evidence(table).set_index("runs")
    assert rows["beyond position"]["adamw bq"] == f"{runs_of(table, 'adamw', 'bq', 'rms_beyond').estimate:.2f}"
    assert rows["findings"]["adamw bq"] == "10 of 100" and rows["findings"]["adamw symmetric"] == "–"
    assert list(rows)[1:] == [
        "rms A", "by position", "beyond position", "shifted labels", "findings", "singled out", "key spread", "η² position",
        "at equal spread", "η² type", "η² class", "at equal spread ",
    ]  # fmt: skip


def test_the_heat_map_of_puzzles_holds_means_over_seeds(random_table):
    table = random_table()
    heat = puzzle_figure(table, "gelu").data[0]
    own = table[(table["optimizer"] == "soap") & (table["variant"] == "bq") & (table["ablation"] == "none")]
    assert heat.z[list(heat.y).index("soap bq")][list(heat.x).index("copying")] == pytest.approx(
        own["copying_top1"].mean()
    )


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn_of_half_a_replication(random_table, name):
    table = random_table()
    table.loc[10:, "validation_loss":] = np.nan
    whole = len(points(FIGURES[name](random_table(), "gelu")))
    assert len(points(FIGURES[name](table, "gelu"))) < whole or name in ("puzzles", "uses")


def test_sentences_follow_from_their_intervals(random_table):
    table, said = random_table(), set()
    for seed in range(5):
        table = random_table(seed)
        table.loc[(table["optimizer"] == "sgdm") & (table["variant"] == "bq"), "validation_loss"] -= 100
        table.loc[(table["optimizer"] == "soap") & (table["variant"] == "bq"), "validation_loss"] += 100
        known = [(c, q) for c, q in looks(table) if c.kind == "breaking"]
        for (contrast, q), sentence in zip(known, verdicts(table, "breaking"), strict=True):
            mean = np.mean(contrast.differences)
            verdict = "no evidence of a difference" if q >= 0.05 else "lower" if mean < 0 else "higher"
            assert sentence.endswith(f"{verdict}.")
            said.add(verdict)
    assert len(said) == 3


def test_the_report_tells_what_is_not_measured_yet(random_table, tmp_path):
    table = random_table()
    table["validation_loss"] = np.nan
    assert all("not measured yet" in sentence for sentence in verdicts(table, "ablation"))
    text = "\n".join(sections(scale("tiny"), table, tmp_path))
    assert "Not chosen yet" in text and "102 runs: 102 measured" in text


def test_the_table_of_losses_has_a_row_per_cell_with_published_figures(random_table):
    shown = losses(scale("tiny"), random_table()).set_index("cell")
    assert len(shown) == 12
    assert shown.loc["ecd bq", "published loss"] == "3.1365, 3.1279, 3.1556"
    assert shown.loc["ecd bq", "published difference"] == "-0.0273 [-0.0743, +0.0196]"
    assert shown.loc["adamw symmetric", "minus symmetric"] == "–"

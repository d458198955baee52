"""Figures and report say what the table says."""

import numpy as np
import pytest

from interp.replicate.page import FIGURES, breaking_figure, loss_figure, puzzle_figure, sections, verdicts
from interp.replicate.plan import scale
from interp.replicate.results import contrasts, is_comparable, losses, published_difference


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
    broken = [
        c for c in contrasts(table, "breaking", "batch_validation_loss") if (c.optimizer, c.variant) == ("ecd", "bq")
    ]
    assert rows["minus symmetric, the published way"]["ecd bq"].startswith(f"{np.mean(broken[0].differences):+.4f} [")
    for comparable, metric in ((True, "batch_validation_loss"), (False, "validation_loss")):
        shown = {y for _, _, y in points(loss_figure(table, "gelu", comparable))}
        assert shown == set(table.loc[table["ablation"] == "none", metric])


def test_the_picture_of_breaking_holds_every_difference_and_the_published_ones(random_table):
    table = random_table()
    figure = breaking_figure(table, "gelu")
    expected = {(c.variant, c.optimizer, d) for c in contrasts(table, "breaking") for d in c.differences}
    assert set(points(figure)) == expected
    shown = {(t.legendgroup, x): y for t in figure.data if "published" in t.name for x, y in zip(t.x, t.y, strict=True)}
    assert shown == {
        ("bq", "ecd"): -0.048, ("bqbv", "ecd"): -0.024, ("bqbv", "adamw"): -0.026, ("bqbv", "sgdm"): 0.011,
        ("bqbv", "soap"): 0.001,
    }  # fmt: skip
    assert published_difference("prelu", "adamw", "bq") == -0.03 and published_difference("gelu", "adamw", "bq") is None


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
    assert len(points(FIGURES[name](table, "gelu"))) < whole or name == "puzzles"


def test_sentences_follow_from_their_intervals(random_table):
    table, said = random_table(), set()
    for seed in range(5):
        table = random_table(seed)
        table.loc[(table["optimizer"] == "sgdm") & (table["variant"] == "bq"), "validation_loss"] -= 100
        table.loc[(table["optimizer"] == "soap") & (table["variant"] == "bq"), "validation_loss"] += 100
        for contrast, sentence in zip(contrasts(table, "breaking"), verdicts(table, "breaking"), strict=True):
            _, low, high = contrast.interval
            verdict = "lower" if high < 0 else "higher" if low > 0 else "no evidence of a difference"
            assert sentence.endswith(f"{verdict}.")
            said.add(verdict)
    assert len(said) == 3


def test_the_report_tells_what_is_not_measured_yet(random_table, tmp_path):
    table = random_table()
    table["validation_loss"] = np.nan
    assert all("not measured yet" in sentence for sentence in verdicts(table, "ablation"))
    text = "\n".join(sections(scale("tiny"), table, tmp_path))
    assert "Not chosen yet" in text and "60 runs: 60 measured" in text


def test_the_table_of_losses_has_a_row_per_cell_with_published_figures(random_table):
    shown = losses(scale("tiny"), random_table()).set_index("cell")
    assert len(shown) == 12
    assert shown.loc["ecd bq", "published loss"] == "3.137" and shown.loc["ecd bq", "published difference"] == "-0.048"
    assert shown.loc["adamw symmetric", "minus symmetric"] == "–"

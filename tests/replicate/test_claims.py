"""Words follow from numbers: every outcome of every sentence, on measurements that are made up."""

import numpy as np
import pytest
from scipy import stats

from interp.replicate.claims import answers, claims, size_needed, used_first, verdict
from interp.replicate.hierarchy import Estimate, estimate, largest_sd, seeds_needed
from interp.replicate.results import is_earlier, results_table, runs_of


def cell_of(cell):
    return cell.optimizer, cell.variant, cell.ablation


@pytest.fixture
def told(made, tmp_path):
    """A function that returns sentences and claims, where some cells have other numbers."""

    def tell(changes=None, everywhere=None):
        def change(cell, numbers):
            own = {**(everywhere or {}), **(changes or {}).get(cell_of(cell), {})}
            moved = {name: numbers[name] + value for name, value in own.items()}
            return {**numbers, **moved}

        root = tmp_path / str(len(list(tmp_path.iterdir())))
        root.mkdir()
        table = results_table(made(root, change), root)
        return table, answers(table), {claim.claim: (claim, claim.seen(q)) for claim, q in claims(table, "gelu")}

    return tell


def test_without_differences_nothing_is_said_to_differ(told):
    _, (loss, attention, use), found = told()
    assert "lowers" not in loss and "raises" not in loss and loss.startswith("A bias b_Q, added to every query")
    assert "makes no difference to the loss on new text that the seeds can tell with AdamW" in loss
    assert "which cannot be told from the 0.3" in attention and "that it singles out classes is not shown" in attention
    assert "which of them it is used for first cannot be told" in use and "says nothing of b_Q" not in use
    tested = [seen for claim, seen in found.values() if claim.found.seeds > 1]
    assert len(tested) == len(found) and sum("cannot be told" in seen for seen in tested) >= len(found) - 2


def test_effects_are_told_where_they_are_and_as_large_as_they_are(told):
    table, (loss, attention, use), found = told({
        ("ecd", "bq", "none"): {"loss": -0.3},
        ("soap", "bq", "none"): {"loss": 0.3},
        ("adamw", "bq", "none"): {"rms_amplification": 0.4, "rms_beyond": 0.4, "singled_out": 0.3, "position": 0.08,
                                  "class": -0.08, "enrichment_function": 1.0},
        ("adamw", "bq", "rope"): {"position": -0.09},
        ("adamw", "bqbv", "none"): {"loss": 0.5},
        ("adamw", "symmetric", "none"): {"rms_shifted": -0.2},
    })  # fmt: skip
    lower = runs_of(table, "ecd", "bq", "validation_loss") - runs_of(table, "ecd", "symmetric", "validation_loss")
    assert f"lowers the loss on new text with ECD ({lower.estimate:+.3f}); it raises it with SOAP (+0.3" in loss
    assert "it makes no difference that the seeds can tell with AdamW" in loss
    assert "more than the 0.3" in attention and "it singles out classes: " in attention
    assert "so it is used for position first" in use and "says nothing of b_Q" not in use

    def seen(name):
        return next(text for claim, (_, text) in found.items() if claim.startswith(name))

    assert seen("b_Q lowers the loss with ECD").startswith(f"yes: {lower.estimate:+.4f}, 5 seeds")
    assert seen("b_Q and b_V lower the loss with AdamW").startswith("the opposite: +0.5")
    assert seen("b_Q and b_V bring ECD nearer").startswith("yes: -0.5")
    assert seen("b_Q and b_V bring ECD nearer").endswith("; AdamW itself gets worse")
    assert seen("b_Q singles out classes, with AdamW").startswith("yes: +30")
    assert seen("b_Q singles out classes, with ECD").startswith("cannot be told")
    assert seen("A mean of 0 gives none of it, with AdamW").startswith("yes: -0.4")
    assert "not told from symmetric" in seen("A mean of 0 gives none of it, with AdamW")
    assert seen("Function words are over-represented").startswith("yes: +1.0")
    assert seen("b_Q is used for classes before position, with AdamW").startswith("the opposite: -0.16")
    assert seen("The use for position goes").startswith("yes: -0.17")
    assert seen("The use for position goes").endswith("%]") and "; shares" in seen("The use for position goes")


def test_a_use_for_classes_and_a_cost_that_says_nothing_are_told_so(told):
    own = {"class": 0.08, "position": -0.08, "rms_amplification": -0.2, "singled_out": -0.2}
    _, (_, attention, use), _ = told({("adamw", "bq", "none"): own}, {"control": 0.3})
    assert "so it is used for classes first" in use and "so the cost alone says nothing of b_Q" in use
    assert "less than the 0.3" in attention and "it singles out fewer classes" in attention
    rest = {"cost": -0.2, "position": -0.1, "type": -0.1, "class": -0.1}
    _, (_, _, use), found = told(everywhere=rest)
    assert use.startswith("That removing b_Q costs anything with AdamW is not shown")
    shown = [seen for claim, (_, seen) in found.items() if claim.startswith("b_Q is used")]
    assert len(shown) == 4 and all(seen.endswith("that removing b_Q costs anything is not shown") for seen in shown)


def test_an_effect_with_a_zero_mean_is_in_part_only(told):
    _, _, found = told(
        {("adamw", "bq", "none"): {"rms_beyond": 0.5}, ("adamw", "bq", "zero-mean"): {"rms_beyond": 0.2}}
    )
    _, seen = found["A mean of 0 gives none of it, with AdamW"]
    assert "in part: still above symmetric" in seen


def test_what_is_not_measured_or_of_one_seed_is_said_to_be_so(made, tmp_path):
    table = results_table(made(tmp_path), tmp_path)
    numbers = [
        name
        for name in table
        if name not in ("optimizer", "variant", "ablation", "seed", "status", "direction", "replicates")
    ]
    none = table.assign(**dict.fromkeys(numbers, np.nan), replicates=[{}] * len(table))
    assert all("not measured yet" in sentence for sentence in answers(none))
    assert {claim.seen(q) for claim, q in claims(none, "gelu")} == {"not measured"}
    one = table.loc[table["seed"] == 0]
    assert "not measured yet" in answers(one)[0] and "takes more seeds" in answers(one)[1]
    assert "what it is used for takes two seeds" in answers(one)[2]
    assert all("one seed: no interval" in claim.seen(q) for claim, q in claims(one, "gelu"))
    earlier = table.assign(rms_beyond=np.nan, replicates=[{}] * len(table))
    assert is_earlier(earlier).all() and "labels without meaning pass" in answers(earlier)[1]


def test_a_verdict_needs_its_side_and_its_correction():
    found = Estimate(-0.5, -0.8, -0.2, 3)
    assert verdict(found, 0.01, "below") == "yes: -0.5000 [-0.8000, -0.2000], 3 seeds"
    assert verdict(found, 0.01, "above").startswith("the opposite")
    assert verdict(found, 0.05, "below").startswith("cannot be told among so many claims") and "q 0.05" in verdict(
        found, 0.05, "below"
    )
    wide = Estimate(-0.5, -0.8, 0.2, 3)
    assert verdict(wide, 0.01, "below", -0.7).endswith("; -0.7000 is in it")
    assert verdict(wide, 0.01, "below", 0.3).endswith("; +0.3000 is outside it")


@pytest.mark.parametrize(
    ("kind", "said"),
    [((0.1, 0.0, 0.4), "used for position"), ((0.1, 0.0, 0.6), "cannot be told"), ((0.9, 0.7, 1), "cannot be told"),
     ((1.2, 0.9, 1.5), "used for classes")],
)  # fmt: skip
def test_what_is_used_first_has_an_interval_apart(kind, said):
    assert said in used_first(Estimate(0.7, 0.5, 0.8, 3), Estimate(*kind, 3))


def test_claims_are_corrected_for_their_number(made, tmp_path):
    found = claims(results_table(made(tmp_path), tmp_path), "gelu")
    p, q = np.array([(claim.found.p, q) for claim, q in found]).T
    assert len(p) > 20 and q == pytest.approx(stats.false_discovery_control(p))


def test_the_size_needed_is_that_of_the_published_effect():
    values = np.array([-0.02, 0.01, 0.03])
    found = estimate(values)
    least, most = seeds_needed(-0.03, found.sd), seeds_needed(-0.03, largest_sd(found.sd, 3))
    assert size_needed(found, -0.03) == f"{least} [{most}] seeds" and least < most
    assert size_needed(found).startswith("3 seeds find 0.0") and size_needed(found, 1e-9).startswith("over 10,000")
    assert size_needed(estimate(values[:1]), 0.1) == "–"

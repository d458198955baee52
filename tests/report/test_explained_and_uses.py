"""The panels that say what the bias score varies with and what it is used for: figures, numbers on the page, words."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from interp.analysis.findings import answers, reliance
from interp.analysis.interventions.uses import CONTROL, KEYS, USES_COLUMNS, Uses
from interp.analysis.measurements.explained import NUMBERS
from interp.errors import InterpError
from interp.report.dashboard import write_dashboard
from interp.report.figures import explained_chart, uses_chart
from interp.report.panels import explained as panel
from interp.report.panels.panel import View
from tests.report.reading import ready, watched
from tests.report.test_evidence import unpacked
from tests.report.turned import interventions


def made_explained(result):
    """One row per head and scheme; head L1H2 has no bias."""
    random = np.random.default_rng(0)
    rows = result.heads[["model", "layer", "head", "scheme"]].drop_duplicates().reset_index(drop=True)
    table = rows.assign(**{name: random.uniform(0, 0.9, len(rows)) for name in NUMBERS})
    table.loc[(table["layer"] == 1) & (table["head"] == 2), list(NUMBERS)] = np.nan
    return table


def made_uses():
    """Removing b_Q costs 0.2 nats, of which position gives back 75%; 3 controls cost 0.3 to 0.5."""
    kept = [
        ("nothing", "", 0, 0.2),
        ("position", "", 0, 0.05),
        ("class", "pos", 0, 0.18),
        ("all but type", "", 0, 0.01),
    ]
    kept += [(CONTROL, "", draw, 0.3 + 0.1 * draw) for draw in range(3)]
    rows = []
    for keeps, of, draw, cost in kept:
        back = np.nan if keeps == CONTROL else 1 - cost / 0.2
        numbers = {
            "keeps": keeps, "scheme": of, "draw": draw, "loss": 4 + cost, "loss_unchanged": 4.0, "difference": cost,
            "ci_low": cost - 0.02, "ci_high": cost + 0.02, "restored": back, "restored_ci_low": back - 0.1,
            "restored_ci_high": back + 0.1,
        }  # fmt: skip
        for predicted in (("overall", "overall", 500, 8), ("pos", "NOUN", 120, 8), ("pos", "DET", 60, 8)):
            rows.append(dict(zip(KEYS, predicted, strict=True)) | numbers)
    return Uses(pd.DataFrame(rows)[list(USES_COLUMNS)], {"controls": 3})


@pytest.fixture(scope="module")
def full(result):
    return dataclasses.replace(result, further={"explained": made_explained(result)}, uses=made_uses())


def test_every_head_is_a_ring_the_chosen_one_a_diamond_beside_chance(full):
    table = full.tables["explained"]
    rings, diamond, chance = explained_chart(table, 2, 3, "pos").data
    own = table.query("layer == 2 and head == 3 and scheme == 'pos'").iloc[0]
    assert len(rings.x) == 24 * len(panel.KINDS)
    np.testing.assert_array_equal(diamond.x, own[list(panel.KINDS)].to_numpy(float))
    marks, held = np.array(chance.x, float), np.array([name in panel.CONTROLS for name in panel.KINDS])
    np.testing.assert_array_equal(marks[held], own[list(panel.CONTROLS.values())].to_numpy(float))
    assert np.isnan(marks[~held]).all() and sum(held) == 4  # nothing to hold the others against
    earlier = table.drop(columns=["eta2_frequent_type", "eta2_frequent_type_control", "eta2_frequent_type_p"])
    assert np.isnan(explained_chart(earlier, 2, 3, "pos").data[2].x[3])
    with pytest.raises(InterpError, match="There is no head L9H9"):
        explained_chart(table, 9, 9, "pos")


def test_the_page_has_every_number_of_the_table_and_its_medians(full):
    packed = panel.payload(View.of(full))["schemes"]["pos"]
    rows = full.tables["explained"].query("scheme == 'pos'")
    for name in NUMBERS:
        np.testing.assert_allclose(unpacked(packed["values"][name]), rows[name], rtol=1e-6)
        assert packed["medians"][name] == pytest.approx(np.nanmedian(rows[name]))


def test_uses_are_dots_with_intervals_and_the_controls_one_row(full):
    [dots] = uses_chart(full.uses).data
    assert list(dots.x) == pytest.approx([0.2, 0.05, 0.18, 0.01, 0.4])
    low, high = dots.customdata[-1][:2]
    reach = 4.302653 * 0.1 * (1 + 1 / 3) ** 0.5  # Student's t of three draws, for one more
    assert (low, high) == pytest.approx((0.4 - reach, 0.4 + reach))
    assert list(uses_chart(full.uses, "pos", "DET").data[0].customdata[0]) == pytest.approx([0.18, 0.22, 60])
    with pytest.raises(InterpError, match=r"no class 'DEF' of 'pos' here; did you mean 'DET'"):
        uses_chart(full.uses, "pos", "DEF")


def test_what_the_bias_does_is_said_in_two_sentences(full, result):
    explained, used = answers(full)
    medians = full.tables["explained"].query("scheme == 'pos'")[list(NUMBERS)].median()
    position, control = medians["eta2_position"], medians["eta2_position_control"]
    assert f"position of a key explains {position:.0%} ({control:.0%}) of its bias score" in explained
    assert used.startswith("Of the +0.200 nats that removing b_Q costs")
    assert used.endswith("its position 75% [65%, 85%], its class 10% [0%, 20%].")
    assert answers(result) == []


def test_whether_the_model_relies_on_its_bias_is_told_beside_the_control_that_was_run(full, result):
    def told(change=0.0, half=0.02, draws=range(3)):
        """The sentence when removing b_Q costs 0.2 + `change`."""
        loss = full.uses.loss
        removed = loss["keeps"] == "nothing"
        cost = loss["difference"] + change * removed
        loss = loss.assign(difference=cost, ci_low=cost - half, ci_high=cost + half)
        loss = loss.loc[(loss["keeps"] != CONTROL) | loss["draw"].isin(draws)]
        return reliance(dataclasses.replace(full, uses=Uses(loss, full.uses.run)))

    assert told().startswith(
        "It is worse without it, but not shown to be worse than without other directions. Without b_Q "
    )
    assert "by +0.200 nats [+0.180, +0.220]; " in told() and "by +0.400 on average, " in told()
    assert "by as much or more in 3 of 3 draws (p = 1)" in told()
    few = told(0.9)
    assert "in 0 of 3 draws (p = 0.25)" in few and few.startswith("It is worse")  # three draws cannot say more
    assert told(-0.19).startswith("That is not shown. ") and "[−0.010, +0.030]" in told(-0.19)
    assert told(-0.5).startswith("No: it is better without it.")
    assert told(half=np.nan).startswith("That is not shown. ") and "too few documents for an interval" in told(
        half=np.nan
    )
    assert "no control was run" in told(draws=())
    many = pd.concat([
        full.uses.loss.loc[full.uses.loss["keeps"] != CONTROL],
        *(full.uses.loss.query("keeps == @CONTROL and draw == 0").assign(draw=draw, difference=0.01) for draw in range(20)),
    ])  # fmt: skip
    sure = reliance(dataclasses.replace(full, uses=Uses(many, {"controls": 20})))
    assert sure.startswith("Yes, more than on other directions.") and "in 0 of 20 draws (p = 0.048)" in sure
    made = reliance(dataclasses.replace(result, interventions=interventions(result.heads)))
    assert made.startswith("Without b_Q the loss changes by +0.100 nats [+0.080, +0.120]; ")
    assert "in a random direction changes it by +0.010 (2 draws)" in made
    assert reliance(result).endswith(
        'python -m interp.amplify tiny-bqbv --uses measures it, in Python interp.uses("tiny-bqbv").'
    )


@pytest.mark.browser
def test_both_panels_answer_in_the_browser(context, full, tmp_path):
    page = context.new_page()
    wrong = watched(page)
    ready(page, write_dashboard(full, tmp_path / "report.html").as_uri())
    own = full.tables["explained"].query("layer == 2 and head == 3 and scheme == 'pos'").iloc[0]
    page.select_option("#head", label="L2H3")
    expect(page.locator("#explained-words")).to_contain_text("In L2H3")
    words = page.text_content("#explained-words")
    assert f"token type {100 * own['eta2_type']:.3g}" in words and f"p = {own['eta2_class_p']:.3f}" in words
    page.select_option("#head", label="L1H2")
    expect(page.locator("#explained-words")).to_contain_text("L1H2 has no bias")
    assert "only position 75.0% [65.0%, 85.0%]" in page.text_content("#uses-words")
    page.select_option("#predicted", "DET")
    expect(page.locator("#uses-words")).to_contain_text("n = 60")
    assert "predicted=DET" in page.url
    page.select_option("#predicted", "VERB")
    expect(page.locator("#uses-words")).to_contain_text("not predicted")
    page.select_option("#scheme", "function")
    expect(page.locator("#predicted")).to_have_value("overall")
    expect(page.locator("#panel-uses .exports button").first).to_have_text("CSV · 5 rows")
    assert not wrong
    page.close()

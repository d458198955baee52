"""The panels that say what the bias score varies with and what it is used for: figures, numbers on the page, words."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from interp.analysis.findings import answers
from interp.analysis.interventions.uses import CONTROL, KEYS, USES_COLUMNS, Uses
from interp.analysis.measurements.explained import NUMBERS
from interp.errors import InterpError
from interp.report.dashboard import write_dashboard
from interp.report.figures import explained_chart, uses_chart
from interp.report.panels import explained as panel
from interp.report.panels.panel import View
from tests.report.reading import ready, watched
from tests.report.test_evidence import unpacked


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
    assert (low, high) == pytest.approx((0.4 - 1.959964 * 0.1, 0.4 + 1.959964 * 0.1))
    assert list(uses_chart(full.uses, "pos", "DET").data[0].customdata[0]) == pytest.approx([0.18, 0.22, 60])
    with pytest.raises(InterpError, match=r"no class 'DEF' of 'pos' here; did you mean 'DET'"):
        uses_chart(full.uses, "pos", "DEF")


def test_what_the_bias_does_is_said_in_two_sentences(full, result):
    explained, used = answers(full)
    medians = full.tables["explained"].query("scheme == 'pos'")[list(NUMBERS)].median()
    assert f"position of a key explains {medians['eta2_position']:.0%} of its bias score" in explained
    assert used.startswith("Without b_Q the loss changes by +0.200 nats [0.180, 0.220]")
    assert "the position 75% [65%, 85%], class 10% [0%, 20%]." in used
    assert answers(result) == []


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

"""Heads among heads: the figure, the numbers on the page, and what mouse, keyboard and address do there."""

import dataclasses
import json

import numpy as np
import pytest
from playwright.sync_api import expect

from interp.analysis.measurements.head_scores import SCORES
from interp.errors import InterpError
from interp.report.dashboard import write_dashboard
from interp.report.figures import head_scatter, head_table
from interp.report.panels import scatter as panel
from interp.report.panels.panel import View
from tests.report.reading import downloaded, hash_of, ready, rows_of, settle, watched
from tests.report.test_evidence import unpacked
from tests.report.test_explained_and_uses import made_explained

HASH = "#head=L0H5&class=PUNCT&scheme=pos"
STEP = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [], drag = document.querySelector("#scatter .nsewdrag"), box = drag.getBoundingClientRect();
  for (let i = 0; i < 21; i++) {
    const start = performance.now();
    const clientX = box.left + (box.width * (i + 1)) / 23, clientY = box.top + box.height / 2;
    drag.dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX, clientY }));
    await frame();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[10];
}"""
CHOOSE = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done))), times = [];
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    document.querySelector("#scatter-higher").click();
    await frame();
    times.push(performance.now() - start);
    while (Number(document.documentElement.dataset.waiting)) await frame();
  }
  return times.sort((a, b) => a - b)[3];
}"""


@pytest.fixture(scope="module")
def full(result):
    return dataclasses.replace(result, further={**result.further, "explained": made_explained(result)})


def test_the_table_of_heads_joins_what_is_known_of_each(full):
    table = head_table(full, "pos", "DET").set_index(["layer", "head"])
    assert len(table) == 24 and set(panel.HEAD_METRICS) <= {"layer", "head", *table, "log2_amplification_beyond"}
    scores = full.tables["head_scores"].set_index(["layer", "head"])
    heads = full.heads.query("scheme == 'pos' and token_class == 'DET'").set_index(["layer", "head"])
    explained = full.tables["explained"].query("scheme == 'pos'").set_index(["layer", "head"])
    for place in [(0, 0), (0, 5), (3, 2)]:
        row = table.loc[place]
        assert row["log2_amplification"] == heads.loc[place, "log2_amplification"]
        assert row["eta2_type"] == explained.loc[place, "eta2_type"]
        for name in SCORES:
            assert row[name] == scores.loc[place, name]
            assert row[f"{name}_change"] == pytest.approx(
                scores.loc[place, name] - scores.loc[place, f"{name}_unbiased"]
            )
    assert table.sort_values("previous_token").index[-1] == (0, 5)
    with pytest.raises(InterpError, match="no class 'DEF'"):
        head_table(full, "pos", "DEF")


def test_the_figure_has_a_point_for_every_head_and_marks_one(full):
    table = head_table(full, "pos", "PUNCT")
    points, chosen = head_scatter(
        table, y="entropy", colour="previous_token_change", size="induction", marked=(0, 5)
    ).data
    np.testing.assert_array_equal(points.x, table["previous_token"])
    np.testing.assert_array_equal(points.y, table["entropy"])
    np.testing.assert_array_equal(points.marker.color, table["previous_token_change"])
    assert points.marker.cmin == -points.marker.cmax < 0
    order = np.argsort(table["induction"].to_numpy())
    assert (np.diff(np.array(points.marker.size)[order]) >= 0).all()
    assert [symbol == "circle-x" for symbol in points.marker.symbol] == list(table["indistinct"])
    assert list(chosen.x) == [0.62] and list(chosen.text) == ["<b>L0H5</b>"]
    with pytest.raises(InterpError, match=r"no number 'previous_tokens' of heads; .* did you mean 'previous_token'"):
        head_scatter(table, x="previous_tokens")
    with pytest.raises(InterpError, match="no head L9H9"):
        head_scatter(table, marked=(9, 9))


def test_the_page_has_every_number_and_results_of_earlier_versions_have_fewer(full):
    packed = panel.payload(View.of(full))
    scores = full.tables["head_scores"]
    for name in SCORES:
        np.testing.assert_allclose(unpacked(packed["heads"]["values"][name]), scores[name], rtol=1e-6)
        assert packed["even"][name] == pytest.approx(scores[f"{name}_uniform"].iloc[0])
    assert packed["first"] == "previous_token" and len(packed["groups"]) == 6
    earlier = panel.payload(View.of(dataclasses.replace(full, further={})))
    assert earlier["heads"] is None and earlier["first"] == "layer"
    assert [group["title"] for group in earlier["groups"]] == ["Of the chosen class", "Place"]


@pytest.fixture(scope="module")
def once(context, full, tmp_path_factory):
    """One tab for all tests, in which nothing may go wrong."""
    page = context.new_page()
    wrong = watched(page)
    yield ready(page, write_dashboard(full, tmp_path_factory.mktemp("scatter") / "report.html").as_uri() + HASH)
    page.close()
    assert not wrong


@pytest.fixture
def tab(once):
    """The tab with every choice as at first."""
    once.evaluate(f"location.hash = {HASH!r}")
    settle(once)
    return once


@pytest.mark.browser
def test_a_head_that_amplifies_a_class_is_seen_to_be_a_previous_token_head(tab, full):
    words = tab.locator("#scatter-words")
    expect(words).to_have_text(
        "L0H5: previous token 62.0% (rank 1 of 24; even attention would give 4.3%), "
        "amplification A of PUNCT +1.62 (rank 1 of 24)."
    )
    assert tab.locator("#scatter .scatterlayer .trace").first.locator(".point").count() == 24
    tab.locator("#scatter").scroll_into_view_if_needed()
    point = tab.locator("#scatter .scatterlayer .trace").first.locator(".point").nth(13).bounding_box()
    tab.mouse.click(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    settle(tab)
    chosen = tab.locator("#head").evaluate("(select) => select.selectedOptions[0].textContent")
    assert chosen != "L0H5" and words.inner_text().startswith(f"{chosen}: previous token")
    assert tab.locator("#grid td[aria-selected=true]").get_attribute("data-head") == str(
        6 * int(chosen[1]) + int(chosen[3])
    )
    tab.locator("#grid [data-head='8']").click()  # chosen in the grid: in the chart too
    settle(tab)
    assert tab.evaluate("document.getElementById('scatter').layout.annotations[0].text") == "<b>L1H2</b>"
    expect(words).to_contain_text("L1H2: previous token")


@pytest.mark.browser
def test_choices_are_in_the_address_and_come_back_from_it(tab, full):
    for name, value in (
        ("x", "entropy"),
        ("y", "eta2_class"),
        ("colour", "previous_token_change"),
        ("size", "induction"),
    ):
        tab.select_option(f"#scatter-{name}", value)
    settle(tab)
    assert hash_of(tab) == f"{HASH}&x=entropy&y=eta2_class&colour=previous_token_change&size=induction"
    table = head_table(full, "pos", "PUNCT")
    shown = tab.evaluate("document.getElementById('scatter').data[0].y")
    np.testing.assert_allclose(
        [np.nan if y is None else y for y in shown], table["eta2_class"], rtol=1e-5
    )  # L1H2 has none
    assert "change by the bias" in tab.locator("#scatter-legend").inner_text()
    tab.reload()
    settle(tab)
    assert tab.input_value("#scatter-y") == "eta2_class" and "Entropy" in tab.locator("#scatter-sub").inner_text()
    tab.evaluate("location.hash = '#head=L0H5&class=*&scheme=pos'")
    settle(tab)
    assert tab.input_value("#scatter-x") == "previous_token"
    expect(tab.locator("#scatter-words")).to_contain_text("amplification A of PUNCT +1.62")  # its strongest class


@pytest.mark.browser
def test_the_table_is_sorted_by_the_keyboard_and_all_rows_can_be_taken_away(tab, full):
    scores = full.tables["head_scores"]
    tab.click("#scatter-table summary")
    settle(tab)
    names = tab.locator("#scatter-table tbody th")
    assert names.count() == 24 and names.first.inner_text() == "L0H5"
    assert tab.locator("#scatter-table th[aria-sort=descending]").inner_text() == "previous token ↓"
    for way, suffix in (("descending", ""), ("ascending", "-")):
        tab.locator("#scatter-table [data-by=induction]").focus()
        tab.keyboard.press("Enter")
        settle(tab)
        order = scores.sort_values("induction", ascending=way == "ascending")
        expected = [f"L{layer}H{head}" for layer, head in zip(order["layer"], order["head"], strict=True)]
        assert names.all_inner_texts() == expected
        assert tab.locator(f"#scatter-table th[aria-sort={way}]").count() == 1
        assert tab.evaluate("document.activeElement.dataset.by") == "induction"  # the focus stays
        assert f"by={suffix}induction" in hash_of(tab)
    names.first.locator("button").click()
    settle(tab)
    assert tab.locator("#scatter-table tr[aria-current] th").inner_text() == expected[0]
    assert tab.locator("[data-panel=scatter] [data-kind=csv]").inner_text() == "CSV · 24 rows"
    name, text = downloaded(tab, "scatter", "CSV")
    rows = rows_of(text)
    assert name.endswith("-pos-PUNCT-log2_amplification-by-previous_token.csv")
    assert [float(row["entropy"]) for row in rows] == pytest.approx(scores["entropy"], rel=1e-6)
    assert {row["token_class"] for row in rows} == {"PUNCT"} and "eta2_class" in rows[0]
    assert len(json.loads(downloaded(tab, "scatter", "JSON")[1])) == 24
    tab.select_option("#head", label="L0H5")
    tab.locator("#scatter-lower").focus()
    tab.keyboard.press("Enter")
    second = scores.sort_values("previous_token").iloc[-2]
    expect(tab.locator("#said")).to_contain_text(f"L{second['layer']:.0f}H{second['head']:.0f}: previous token")


@pytest.mark.browser
def test_1200_heads_keep_up_with_the_pointer(context, make, tmp_path):
    page = context.new_page()
    wrong = watched(page)
    settle(
        ready(
            page,
            write_dashboard(make(48, 25), tmp_path / "report.html").as_uri() + "#head=L0H24&class=PUNCT&scheme=pos",
        )
    )
    assert page.locator("#scatter .scatterlayer .trace").first.locator(".point").count() == 1200
    page.locator("#scatter").scroll_into_view_if_needed()
    hover, choose = page.evaluate(STEP), page.evaluate(CHOOSE)
    print(f"\nscatter of 1,200 heads: {hover:.0f} ms a frame under the pointer, {choose:.0f} ms to choose a head")
    assert hover <= 250 and choose <= 400  # the promise is 60 and 100 ms; a busy machine must not make the test flaky
    assert not wrong
    page.close()

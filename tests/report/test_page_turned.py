"""Panels "Does it matter?" and "Compare" in a browser."""

from __future__ import annotations

import dataclasses

import pytest
from axe_playwright_python.sync_playwright import Axe

from interp.report.dashboard import write_dashboard
from tests.report.reading import downloaded, hash_of, ready, rows_of, settle, watched
from tests.report.turned import comparison, interventions

pytestmark = pytest.mark.browser
WHERE = "#head=L1H0&class=NOUN&scheme=pos"


@pytest.fixture(scope="module")
def page(context, make, tmp_path_factory):
    result = make(3, 4, passages=4)
    result = dataclasses.replace(result, interventions=interventions(result.heads))
    page = context.new_page()
    wrong = watched(page)
    path = write_dashboard(result, tmp_path_factory.mktemp("turned") / "report.html", comparison(result.heads))
    settle(ready(page, path.as_uri() + WHERE))
    yield page
    page.close()
    assert not wrong


@pytest.fixture
def turned(page):
    page.goto(page.url.split("#")[0] + WHERE)
    settle(page)
    return page


def test_without_interventions_the_page_says_that_the_rest_is_observational(open_page):
    page = open_page()
    assert "all of the above is observational" in page.locator("#panel-effect").inner_text()
    assert page.locator("#panel-compare").count() == 0


def test_the_loss_is_told_with_its_interval_beside_a_random_direction(turned):
    words = turned.locator("#effect-words").inner_text()
    assert words.startswith("Removing b_Q in all heads changes the loss by +0.100 [+0.080, +0.120] nats (n = 5,000)")
    assert "the top prediction of 25.0% of the tokens" in words
    assert "A random direction of the same size changes the loss by +0.010" in words


def test_place_and_scale_choose_the_intervention_and_are_linked_to(turned):
    turned.select_option("#place", "head")
    turned.select_option("#scale", "2")
    settle(turned)
    assert turned.locator("#effect-words").inner_text().startswith("Scaling by 2 b_Q in L1H0 changes")
    [row] = [row for row in rows_of(downloaded(turned, "effect-attention", "CSV")[1]) if row["token_class"] == "NOUN"]
    assert row["intervention"] == "L1H0"
    assert float(row["log2_change"]) == pytest.approx(-1.31, abs=2e-3)  # planted
    assert float(row["log2_change_random"]) == pytest.approx(-0.131, abs=2e-3)
    address = hash_of(turned)
    turned.goto(turned.url.split("#")[0] + address)
    turned.reload()
    assert (turned.locator("#place").input_value(), turned.locator("#scale").input_value()) == ("head", "2")


def test_the_ways_of_the_amplification_add_up(turned):
    turned.click("#paths-table summary")
    settle(turned)
    texts = turned.locator("#paths-table tbody tr", has_text="NOUN").first.locator("td").all_text_contents()
    total, direct, position, beyond, indirect = (float(text.split(" ")[0].replace("−", "-")) for text in texts[1:])
    assert total == -1.31
    assert total == pytest.approx(direct + indirect, abs=0.011)
    assert direct == pytest.approx(position + beyond, abs=0.011)


def test_the_page_of_two_models_leads_with_their_comparison(turned):
    assert turned.title() == "tiny-bqbv and tiny-bq compared"
    assert turned.locator("h1").inner_text() == "tiny-bqbv and tiny-bq compared"
    head = turned.locator("#panel-about")
    assert turned.locator(".findings:visible .answer").inner_text() == (
        "Over all heads, the bias changes attention more in tiny-bq than in tiny-bqbv for 15 of 15 classes of pos, less for "
        "none. Clearest for NOUN: 1.00 doublings in tiny-bqbv, 1.50 in tiny-bq, difference "
        "+0.50 [+0.25, +0.75]."
    )
    assert "tiny-bqbv 4.500, tiny-bq 4.250, difference −0.250 (it has no interval here" in head.inner_text()
    assert "Without b_Q the loss of tiny-bqbv changes by +0.100 [+0.080, +0.120]" in head.inner_text()
    assert "tiny-bq has no b_Q to take away." in head.inner_text()
    sections = turned.locator("main > .panel").evaluate_all("all => all.map((one) => one.id)")
    assert sections[0] == "panel-compare" and sections[1] == "panel-heads"
    assert turned.locator("main > h2").inner_text() == "tiny-bqbv alone"
    charts = turned.locator("#panel-compare .chart").evaluate_all("all => all.map((one) => one.id)")
    assert charts == ["differences", "distributions", "compared"]
    top = "id => document.getElementById(id).getBoundingClientRect().top + scrollY"
    assert turned.evaluate(top, "panel-compare") < 900  # on the first screen, or just below it
    assert turned.evaluate(top, "panel-heads") > turned.evaluate(top, "compared")


def test_the_first_screen_links_to_classes_and_follows_the_scheme(turned):
    turned.locator(".findings:visible a", has_text="ADP").click()
    settle(turned)
    assert turned.locator("#compared-title").inner_text() == "class ADP"
    turned.select_option("#scheme", "function")
    assert "classes of function" in turned.locator(".findings:visible .answer").inner_text()


def test_the_distribution_over_heads_has_a_box_per_class_and_model(turned):
    assert turned.locator("#distributions .boxes").count() == 2
    boxes = turned.evaluate(
        "document.getElementById('distributions').data.slice(0, 2).map((t) => [t.q1[0], t.median[0]])"
    )
    assert boxes == [[1.25, 1.5], [1.75, 2.0]]
    rows = rows_of(downloaded(turned, "distributions", "CSV")[1])
    assert len(rows) == 2 * 20 and {row["model"] for row in rows} == {"tiny-bqbv", "tiny-bq"}
    assert {row["maximum"] for row in rows if row["side"] == "B"} == {"2.5"}


def test_heads_are_sorted_by_change_and_can_be_chosen(turned):
    rows = turned.locator("#compared-table tbody tr")
    assert rows.count() == 12
    assert "−3.00" in rows.first.inner_text()
    rows.first.locator("button").click()
    assert "head=L0H1" in hash_of(turned)
    assert turned.locator("#compared-title").inner_text() == "class NOUN"


def test_three_grids_share_one_colour_scale(turned):
    assert turned.locator("#compared .heatmaplayer").count() == 3
    assert "one scale for A, B and B − A" in turned.locator("#compared-legend").inner_text()
    titles = turned.locator("#compared .xtitle, #compared .x2title, #compared .x3title")
    assert titles.all_text_contents() == ["A", "B", "B − A"]
    records = rows_of(downloaded(turned, "compared", "CSV")[1])
    row = next(row for row in records if (row["layer"], row["head"]) == ("1", "0"))
    assert float(row["difference"]) == pytest.approx(-1.31, abs=2e-3)
    assert "do not correspond" in turned.locator("#panel-about .findings:visible .warning").inner_text()


def test_classes_are_compared_over_all_heads_by_a_statistic_of_choice(turned):
    assert turned.locator("#statistic").input_value() == "root_mean_square"
    turned.select_option("#statistic", "mean")
    settle(turned)
    assert "statistic=mean" in hash_of(turned)
    assert turned.locator("#differences-table tbody tr").count() == 20
    assert "+0.500\t[+0.250, +0.750]" in turned.locator("#differences-table tbody tr").first.inner_text()


def test_keys_reach_both_panels(turned):
    for key, panel in (("9", "effect"), ("1", "compare")):
        turned.keyboard.press(key)
        assert turned.evaluate("document.activeElement.id") == f"panel-{panel}"


def test_models_of_other_sizes_are_compared_by_class_only(context, make, tmp_path):
    result = make(2, 2, passages=2)
    page = context.new_page()
    wrong = watched(page)
    found = comparison(result.heads, same_sizes=False)
    settle(ready(page, write_dashboard(result, tmp_path / "report.html", found).as_uri()))
    assert "cannot be shown side by side" in page.locator("#compared-none").inner_text()
    assert not page.locator("#compared").is_visible()
    assert page.locator("#differences-table tbody tr").count() == 20
    assert not wrong
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(page, theme):
    page.goto(page.url.split("#")[0] + f"{WHERE}&theme={theme}")
    settle(page)
    found = Axe().run(page).response
    assert not [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    settle(page)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})

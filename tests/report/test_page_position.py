"""Panel "Is it position, not class?", and the null bands, in a browser."""

from __future__ import annotations

import pytest

from tests.report.reading import downloaded, hash_of, rows_of, settle

pytestmark = pytest.mark.browser
WHERE = "#head=L2H1&class=*&scheme=pos"


def test_the_first_token_can_be_left_out(open_page):
    page = open_page(WHERE)
    assert page.locator("#profile-words").inner_text().startswith("Highest at position 0 (+9.00 nats)")
    page.uncheck("#first-token")
    settle(page)
    assert page.locator("#profile-words").inner_text().startswith("Highest at position 47 (+2.35 nats), lowest at 1 ")
    assert [row["pos"] for row in rows_of(downloaded(page, "profile", "CSV")[1])] == [str(i) for i in range(1, 48)]
    assert "bos" not in {row["token_class"] for row in rows_of(downloaded(page, "adjusted", "CSV")[1])}
    assert "firstToken=false" in hash_of(page)


def test_position_can_be_removed_and_what_is_left_shown_in_the_grid(open_page):
    page = open_page(WHERE)
    assert page.locator("#adjusted .legendtext").all_text_contents() == ["as measured"]
    page.check("#removed-contrast_position")
    settle(page)
    assert page.locator("#adjusted .legendtext").all_text_contents() == ["as measured", "position removed"]
    assert "50.0% of the contrasts' size is left" in page.locator("#adjusted-words").inner_text()
    page.check("#removed-contrast_frequency")
    settle(page)
    assert not page.is_checked("#removed-contrast_position")
    assert "25.0% of the contrasts' size is left" in page.locator("#adjusted-words").inner_text()
    page.click("#removed-in-grid")
    assert page.locator("#metric").input_value() == "contrast_frequency"


def test_a_link_restores_both_toggles(open_page):
    page = open_page(f"{WHERE}&removed=contrast_position&firstToken=false")
    assert page.is_checked("#removed-contrast_position")
    assert not page.is_checked("#first-token")
    page = open_page(f"{WHERE}&removed=constructor")
    assert not page.is_checked("#removed-contrast_position")
    assert page.is_checked("#first-token")


def test_both_charts_are_also_tables(open_page, result):
    page = open_page(WHERE)
    for panel in ("profile", "adjusted"):
        page.click(f"#{panel}-table summary")
    settle(page)
    assert page.locator("#profile-table tbody tr").count() == 48
    assert page.locator("#profile-table tbody tr").nth(1).inner_text().split("\t")[:3] == ["1", "3,950", "+0.05"]
    assert page.locator("#adjusted-table tbody tr").count() == 20


def test_hatching_in_the_grid_follows_the_metric(open_page):
    page = open_page("#head=L0H0&class=NOUN&scheme=pos")
    marks = "els => els.map((e) => e.classList.contains('hatched'))"
    seen = []
    for metric in ("log2_amplification", "bias_score_contrast", "hedges_g"):
        page.select_option("#metric", metric)
        seen.append(page.eval_on_selector_all("#grid td[data-head]", marks))
    assert seen[0] != seen[1] != seen[2]
    page.select_option("#metric", "bias_score_contrast")
    assert "not beyond its control, directions of equal spread" in page.locator("#grid-legend").inner_text()
    assert "95% of directions of equal spread" in page.locator("#band-key").inner_text()
    page.select_option("#metric", "share")
    assert not page.locator("#band-key").is_visible()


def test_the_page_hatches_what_python_hatches(open_page, make):
    from interp.report.metrics import METRICS, indistinct, with_evidence

    table = with_evidence(make(12, 12, passages=15))
    rows = table[(table.scheme == "function") & (table.token_class == "number")].sort_values(["layer", "head"])
    for metric in ("log2_amplification", "auroc", "contrast_position"):
        page = open_page(f"#head=L0H0&class=number&scheme=function&metric={metric}")
        shown = page.eval_on_selector_all(
            "#grid td[data-head]", "els => els.map((e) => e.classList.contains('hatched'))"
        )
        assert shown == list(indistinct(rows, METRICS[metric]))

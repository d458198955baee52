"""The page for everyone: axe-core finds nothing serious, nothing is told by colour alone, paper is white."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.report.reading import settle

pytestmark = pytest.mark.browser
WITH_EVERYTHING = "#head=L0H5&class=PUNCT&scheme=pos&metric=bias_score_contrast&removed=contrast_position"


@pytest.mark.parametrize(("theme", "palette"), [("light", "red-blue"), ("dark", "orange-purple")])
def test_axe_finds_no_serious_violation(open_page, theme, palette):
    page = open_page(f"{WITH_EVERYTHING}&theme={theme}&palette={palette}")
    for table in page.locator("main details > summary").all():
        table.click()
    found = Axe().run(page).response
    for table in page.locator("main details > summary").all():
        table.click()
    assert len(found["passes"]) > 20
    assert not [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary'][:120]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_amplified_and_suppressed_are_told_by_sign_hatching_and_words(open_page):
    page = open_page("#head=L1H0&class=NOUN&scheme=pos")
    for cell in page.locator("#grid td[data-head]").all()[:24]:
        assert re.fullmatch(r"[+−]?\d\.\d\d", cell.locator("span").inner_text())
    hatched = page.locator("#grid td.hatched")
    assert 0 < hatched.count() < 144
    head = hatched.first.get_attribute("data-head")
    page.locator(f"#grid [data-head='{head}']").hover()
    assert "not beyond its control" in page.locator("#readout").inner_text()
    legend = page.locator("#grid-legend").inner_text()
    assert "suppressed" in legend and "amplified" in legend and "hatched" in legend


def test_the_theme_follows_the_system_until_it_is_chosen(open_page):
    page = open_page()
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) != light
    page.keyboard.press("t")
    settle(page)
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="light")


def test_a_printed_page_is_light_and_has_no_controls(open_page):
    page = open_page("#head=L0H5&class=*&scheme=pos&theme=dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("html").get_attribute("data-theme") == "light"
    assert not page.locator("#controls").is_visible()
    assert not page.locator(".exports").first.is_visible()
    assert page.locator("#panel-position").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_focused_control_is_outlined(open_page):
    page = open_page()
    page.keyboard.press("1")
    page.keyboard.press("Tab")
    assert float(page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")) >= 2

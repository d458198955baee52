"""The page without a mouse."""

from __future__ import annotations

import re

import pytest

from tests.report.reading import hash_of

pytestmark = pytest.mark.browser
PANELS = ("about", "heads", "classes", "tokens", "scatter", "position", "passages", "writes")


def test_the_keyboard_alone_reaches_every_panel_moves_in_the_grid_and_chooses(open_page):
    page = open_page("#head=L0H0&class=PUNCT&scheme=pos")
    for key, panel in enumerate(PANELS):
        page.keyboard.press(str(key))
        assert page.evaluate("document.activeElement.id") == f"panel-{panel}"
    page.keyboard.press("1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.head") == "0"
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator("#readout").inner_text().startswith("L1H2, PUNCT · A = ")
    page.keyboard.press("Enter")
    assert page.locator("#classes-title").inner_text() == "What does L1H2 favour?"
    page.keyboard.press("]")
    assert "class=ADP" in hash_of(page)
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#keys").is_hidden()


def test_tab_alone_walks_through_every_panel(open_page):
    page, reached = open_page(), {None}
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id^=panel-]')?.id"))
        if len(reached) == len(PANELS) + 1:
            break
    assert reached == {None, *(f"panel-{name}" for name in PANELS)}


def test_the_text_is_read_with_the_arrow_keys(open_page):
    page = open_page("#head=L2H1&class=*&scheme=pos")
    page.locator("#passages .word[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert re.search(
        r"score − mean [+−]\d\.\d\d nats · mean attention .*%, without the bias .*%",
        page.locator("#token-readout").inner_text(),
    )

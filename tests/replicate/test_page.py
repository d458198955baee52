"""The page of a replication in a real browser."""

import pytest

from interp.replicate.page import figures_of, write_page
from interp.replicate.plan import scale

pytestmark = pytest.mark.browser


def test_the_page_draws_every_panel_and_asks_for_nothing(random_table, chromium, tmp_path):
    plan, table, root = scale("tiny"), random_table(), tmp_path / "<b>one"
    root.mkdir()
    tab, wrong = chromium.new_page(viewport={"width": 1280, "height": 900}), []
    tab.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(r.url))
    tab.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(write_page(plan, table, root).as_uri())
    tab.locator("#enrichment .plot-container").wait_for()
    names = list(figures_of(plan, table, root))
    assert tab.locator(".chart").evaluate_all("charts => charts.map((chart) => chart.id)") == names
    assert tab.locator(".chart .plot-container").count() == len(names)
    assert tab.locator("tbody tr").count() == 12 and tab.locator("h1").inner_text() == "Replication: <b>one"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth") and not wrong
    tab.close()

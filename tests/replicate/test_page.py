"""The page of a replication in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from interp.replicate.claims import answers, claims
from interp.replicate.page import figures_of, write_page
from interp.replicate.results import results_table


@pytest.mark.browser
def test_the_page_draws_every_panel_and_asks_for_nothing(made, chromium, tmp_path):
    root = tmp_path / "<b>one"
    root.mkdir()
    plan = made(root)
    table = results_table(plan, root)
    tab, wrong = chromium.new_page(viewport={"width": 1280, "height": 900}), []
    tab.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(r.url))
    tab.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(write_page(plan, table, root).as_uri())
    tab.locator("#enrichment .plot-container").wait_for()
    names = list(figures_of(plan, table, root))
    assert tab.locator(".chart").evaluate_all("charts => charts.map((chart) => chart.id)") == names
    assert tab.locator(".chart .plot-container").count() == len(names)
    opened = tab.locator("h1 + p").inner_text()  # answers come before everything else
    assert opened == " ".join(answers(table)) and opened.count(".") >= 3
    found = Axe().run(tab).response
    assert not [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert tab.locator("h1").inner_text() == "Replication: <b>one"
    assert tab.locator(".claims tbody tr").count() == len(claims(table, "gelu"))
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth") and not wrong
    tab.close()

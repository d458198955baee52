"""The page of a replication in a real browser."""

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from interp.replicate import page as replication_page
from interp.replicate.claims import answers, claims
from interp.replicate.figures import FIGURES
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


def test_runs_that_single_out_more_or_fewer_pairs_are_named_only_where_that_is_beyond_chance(random_table):
    table = random_table()
    noise = np.random.default_rng(1).normal(0.05, 1e-3, len(table))
    assert "symmetric model along the same b_Q in no runs" in replication_page.singled_told(
        table.assign(singled_out=noise)
    )
    more = noise + 0.1 * ((table["optimizer"] == "ecd") & (table["variant"] == "bqbv"))
    told = replication_page.singled_told(table.assign(singled_out=more))
    assert "in ecd bqbv (+10." in told or "in ecd bqbv (+9." in told
    assert "adamw" not in told and "soap" not in told
    assert replication_page.singled_told(table.assign(singled_out=np.nan)) == ""


def test_an_interval_far_beyond_all_points_does_not_make_the_picture_of_uses(random_table):
    table = random_table()
    cost = np.where(table["optimizer"] == "sgdm", 0.02 + 0.011 * (table["seed"] - 1), 0.02)
    table = table.assign(uses_cost=cost, uses_position=0.01, uses_type=0.01, uses_class=0.01)
    low, high = FIGURES["uses"](table, "gelu").layout.yaxis.range
    assert -0.3 < low <= -0.2 and 1.2 <= high < 2


def test_pictures_by_cell_are_of_the_matrix(random_table):
    shown = {place for trace in FIGURES["singled"](random_table(), "gelu").data for place in trace.x}
    assert shown == {"symmetric", "bq", "bqbv"}

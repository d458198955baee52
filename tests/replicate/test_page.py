"""The page of a replication in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from interp.replicate.page import answers, figures_of, write_page
from interp.replicate.plan import scale


def with_losses(table, broken, gap=0.5):
    """The table with losses such that breaking adds `broken[optimizer, variant]`, and other optimizers have a gap."""
    table = table.assign(ablation="none", direction=["matrix" if v == "symmetric" else "own" for v in table["variant"]])
    table = table.drop_duplicates(["optimizer", "variant", "seed"])
    losses = [
        5 + gap * (row.optimizer != "adamw") + broken.get((row.optimizer, row.variant), 0.0) + 0.001 * row.seed**2
        * (row.variant != "symmetric") for row in table.itertuples()
    ]  # fmt: skip
    return table.assign(
        validation_loss=losses, rms_amplification=[0.5 if d == "own" else 0.2 for d in table["direction"]]
    )


def test_the_answers_count_intervals_over_seeds_and_say_where_adamw_got_worse(random_table):
    table = random_table()
    pairs = {(o, v) for o, v in zip(table["optimizer"], table["variant"], strict=True) if v != "symmetric"}
    variants, others = sorted({v for _, v in pairs}), len({o for o, _ in pairs}) - 1
    loss, gap, attention = answers(with_losses(table, dict.fromkeys(pairs, -0.3)))
    assert f"in {len(pairs)} of {len(pairs)} pairs of optimizer and variant, raises it in 0, and for 0" in loss
    assert gap == f"It brings another optimizer closer to AdamW in 0 of {others * len(variants)} pairs."
    assert "by 0.50 to 0.50 doublings" in attention and "without one, by 0.20 to 0.20" in attention
    worse = {(o, v): 0.9 if (o, v) == ("adamw", variants[0]) else 0.0 for o, v in pairs}
    loss, gap, _ = answers(with_losses(table, worse))
    assert f"in 0 of {len(pairs)} pairs of optimizer and variant, raises it in 1, and for {len(pairs) - 1}" in loss
    assert f"in {others} of {others * len(variants)} pairs, in {others} of these with a variant that makes AdamW" in gap
    none = table.assign(validation_loss=float("nan"), rms_amplification=float("nan"), direction="")
    assert all("not measured yet" in sentence for sentence in answers(none))


@pytest.mark.browser
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
    opened = tab.locator("h1 + p").inner_text()  # answers come before everything else
    assert opened == " ".join(answers(table)) and opened.count(".") >= 3
    found = Axe().run(tab).response
    assert not [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert tab.locator("tbody tr").count() == 12 and tab.locator("h1").inner_text() == "Replication: <b>one"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth") and not wrong
    tab.close()

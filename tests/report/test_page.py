"""The page in a real browser: what a reader sees, copies and takes away."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from interp.analysis.saving import write_csv
from interp.report import dashboard
from interp.report.dashboard import write_dashboard
from tests.report.made import FORMULAS, HOSTILE
from tests.report.reading import downloaded, hash_of, ready, rows_of, settle, watched

pytestmark = pytest.mark.browser
HOSTILE = set(HOSTILE)


def test_opening_choosing_and_exporting_sends_nothing_and_logs_no_error(fresh_page):
    page = fresh_page()
    page.locator("#grid [data-head='30']").click()
    page.select_option("#metric", "auroc")
    page.select_option("#scheme", "function")
    settle(page)
    for panel in ("heads", "classes"):
        assert b"<svg" in downloaded(page, panel, "SVG")[1]
        name, picture = downloaded(page, panel, "PNG")
        assert name.endswith(".png")
        assert picture.startswith(b"\x89PNG")


def test_there_is_no_button_that_uploads(open_page):
    page = open_page()
    titles = page.eval_on_selector_all(".modebar-btn", "buttons => buttons.map((button) => button.dataset.title)")
    assert any("Download plot" in title for title in titles)
    assert not [title for title in titles if re.search("cloud|chart studio|edit|share", title, re.IGNORECASE)]


def test_a_cell_chooses_the_head_everywhere(open_page):
    page = open_page()
    page.locator("#grid [data-head='12']").click()
    settle(page)
    assert set(page.locator(".head-name").all_text_contents()) == {"L1H0"}
    assert page.locator("#head").input_value() == "12"
    assert "head=L1H0" in hash_of(page)


def test_a_bar_colours_the_grid_by_its_class_and_the_class_marks_its_bar(open_page):
    page = open_page("#head=L1H0&class=*&scheme=pos&sort=n")
    box = page.locator("#bars .bars .point").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("location.hash.includes('class=NOUN')")
    assert page.locator("#grid [data-head='12']").inner_text() == "−1.31"
    assert "▸ NOUN" in page.locator("#bars .yaxislayer-above").text_content()


def test_hostile_tokens_survive_to_the_page_and_to_both_exports(open_page):
    page = open_page("#head=L0H0&class=*&scheme=pos")
    shown = page.locator("#panel-tokens .token").all_text_contents()
    assert {token.replace("\n", "↵") for token in HOSTILE} <= set(shown)
    assert {token.replace("\n", "↵") for token in HOSTILE - {" the"}} <= set(
        page.locator(".word bdi").all_text_contents()
    )
    assert page.locator("#panel-tokens tbody b, #passages b, img").count() == 0
    rows = rows_of(downloaded(page, "tokens", "CSV")[1])
    records = json.loads(downloaded(page, "tokens", "JSON")[1])
    assert {row["token_string"] for row in rows} >= HOSTILE - {"=1+1"} | {"'=1+1"}
    assert {row["token_string"] for row in records} >= HOSTILE
    assert page.locator("[data-panel=tokens] [data-kind=csv]").inner_text() == f"CSV · {len(rows)} rows"


def test_csv_of_the_page_guards_what_the_tables_of_the_folder_guard(open_page, tmp_path):
    script = (Path(dashboard.__file__).parent / "templates" / "panel.js").read_text(encoding="utf-8")
    rule = "\n".join(line for line in script.splitlines() if line.startswith(("const numeral", "const formula")))
    guarded = open_page().evaluate(
        f'(texts) => {{ {rule}\nreturn texts.map((t) => t.replace(formula, "\'")); }}', FORMULAS
    )
    write_csv(pd.DataFrame({"token": FORMULAS}), tmp_path / "table.csv")
    assert guarded == [row["token"] for row in rows_of((tmp_path / "table.csv").read_bytes())]


def test_passages_export_their_tokens_with_attention_with_and_without_the_bias(open_page, make):
    page, result = open_page("#head=L2H1&class=*&scheme=pos"), make(12, 12, passages=15)
    rows = rows_of(downloaded(page, "passages", "CSV")[1])
    [row] = [row for row in rows if (row["passage"], row["place"]) == ("3", "7")]
    score = result.passage_scores.query("layer == 2 and head == 1 and passage == 3 and place == 7").iloc[0]
    token = result.passages.query("passage == 3 and place == 7").iloc[0]
    assert (row["token_string"], row["pos"], row["passage"], row["place"]) == (token.token_string, token.pos, "3", "7")
    assert float(row["bias_score"]) == pytest.approx(score.bias_score, abs=2e-3)
    assert float(row["attention_unbiased"]) == pytest.approx(score.attention_unbiased, rel=1e-3)


def test_an_empty_class_shows_n_zero(open_page):
    page = open_page("#head=L0H3&class=EMPTY&scheme=pos")
    assert "EMPTY · n = 0" in page.locator("#bars").inner_text()
    assert page.locator("#readout").inner_text() == "L0H3, EMPTY: n = 0"
    assert set(page.locator("#grid td[data-head] span").all_text_contents()) == {"–"}


def test_a_class_without_interval_has_no_error_bar(open_page):
    page = open_page("#head=L0H3&class=*&scheme=pos")
    assert page.locator("#bars .bars .point").count() == 2 * 20  # bands and bars
    assert page.locator("#bars path.xerror").count() == 19  # not for the empty class


def test_passages_are_labelled_by_decile_and_all_of_them_can_be_shown(open_page):
    page = open_page()
    labels = [
        text.split(" · ")[0].split(",")[0] for text in page.locator("#passages article:visible h3").all_text_contents()
    ]
    assert "11 of 15 sampled passages are in this page" in page.locator("#passages-sub").inner_text()
    assert labels == [f"decile {decile} of 10" for decile in range(10, 0, -1)]
    page.check("#all-passages")
    settle(page)
    assert page.locator("#passages article:visible").count() == 11


def test_tokens_can_be_searched_and_filtered(open_page):
    page = open_page("#head=L0H0&class=*&scheme=pos")
    page.fill("#search", "SCRIPT")
    settle(page)
    assert page.locator("#panel-tokens .token").all_text_contents() == ["</script>"]
    page.fill("#search", "")
    page.fill("#count", "501")
    settle(page)
    counts = page.locator("#panel-tokens tbody td:last-child").all_text_contents()
    assert min(int(text.replace(",", "")) for text in counts) >= 501


def test_a_class_table_says_what_the_bars_say(open_page):
    page = open_page("#head=L1H0&class=*&scheme=pos")
    page.click("#classes-table summary")
    row = page.locator("#classes-table tr", has_text="NOUN").first
    assert "−1.31" in row.inner_text()
    assert "60,000" in row.inner_text()
    row.locator("button").click()
    assert "class=NOUN" in hash_of(page)


def test_without_scripts_a_table_of_the_grid_remains(chromium, address):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(address)
    assert page.locator("noscript td").count() == 144
    assert page.locator("noscript td", has_text="PUNCT +1.62").is_visible()
    assert not page.locator("main").is_visible()
    page.close()


def test_a_single_head_without_tokens_passages_or_plain_class_names_has_a_page(context, make, tmp_path):
    odd, result = "a&b=<i>c</i> %{x} #*", make(2, 1)
    heads = result.heads[result.heads["layer"] == 1].replace({"token_class": {"NOUN": odd}})
    empty = {name: getattr(result, name)[:0] for name in ("tokens", "passages", "passage_scores")}
    page = context.new_page()
    wrong = watched(page)
    ready(page, write_dashboard(dataclasses.replace(result, heads=heads, **empty), tmp_path / "odd.html").as_uri())
    page.select_option("#class", odd)
    settle(page)
    assert page.locator("#readout").inner_text().startswith(f"L1H0, {odd} · A beyond position −1.18 [")
    assert f"▸ {odd}" in page.locator("#bars .yaxislayer-above").text_content()
    page.reload()
    assert page.locator("#class").input_value() == odd
    assert page.locator("#passages-sub").inner_text() == "This result has no sample passages."
    assert not wrong
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(open_page, width):
    page = open_page()
    page.set_viewport_size({"width": width, "height": 800})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})


CLICKS = """async () => {
  const rest = () => new Promise((done) => setTimeout(done, 60)), times = [];
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (let i = 0; i < 9; i++) {
    await rest();
    const start = performance.now();
    document.querySelector(`#grid [data-head="${(i * 37 + 5) % 144}"]`).click();
    await frame();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[4];
}"""


def test_a_click_answers_within_a_tenth_of_a_second(open_page):
    median = open_page().evaluate(CLICKS)
    print(f"\nclick on a cell of 12 x 12 heads to the next painted frame: median {median:.0f} ms")
    assert median <= 400  # the promise is 100 ms; a busy machine must not make the test flaky

"""A panel made here, of its files and one line, stands on the page with its key, its choice, its link and its exports."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import plotly.graph_objects as go
import pytest

from interp.report import panels
from interp.report.dashboard import render, write_dashboard
from interp.report.panels.packing import block, columns
from interp.report.panels.panel import Panel, View
from tests.report.reading import downloaded, hash_of, ready, rows_of, settle, watched

HTML = """{% from "parts.html" import exports, table %}
<h2 id="spread-title">How far do the keys of <span class="head-name"></span> spread?</h2>
<label>Twice <input type="checkbox" id="twice"></label>
<p id="spread-words"></p>
<div id="spread" class="chart"></div>
{{ table("spread", "Spread") }}
{{ exports("spread") }}
"""

SCRIPT = """
const spread = data.panels.spread;
const numberOf = (row) => (state.twice ? 2 : 1) * row.spread;
panel({
  name: "spread",
  state: { twice: { first: false, input: "twice" } },
  watch: ["head", "twice", "theme"],
  rows: () => spread.names.map((name, i) => ({ ...headColumns(state.head), name, ...columnsAt(spread, state.head, i) })),
  draw: (rows) => (byId("spread-words").textContent = rows.map((row) => `${row.name} ${numberOf(row)}`).join(", ")),
  chart(rows) {
    const { data: [bars], layout } = look("spread");
    Object.assign(bars, { x: rows.map((row) => row.name), y: rows.map(numberOf) });
    Object.assign(themed(layout), { height: 200, margin: { l: 40, r: 8, t: 8, b: 30 } });
    return { data: [bars], layout, subject: "spread" };
  },
  table: (rows) => [["name", "spread"], rows.map((row) => [row.name, signed(numberOf(row))])],
});
"""


def payload(view: View):
    heads = view.heads[["layer", "head"]].drop_duplicates()
    table = pd.concat([heads.assign(name=name, spread=heads["layer"] + i / 4) for i, name in enumerate(("K", "Q"))])
    names = pd.DataFrame({"names": ["K", "Q"]})
    axes = {"head_number": view.head_numbers, "name": ["K", "Q"]}
    return columns(names, {}, texts=["names"]) | block(view.numbered(table), axes, ["spread"])


@pytest.fixture
def spread(tmp_path, monkeypatch):
    """The panel, registered before the last one."""
    (tmp_path / "spread.html").write_text(HTML)
    (tmp_path / "spread.js").write_text(SCRIPT)
    figures = {"spread": go.Figure(go.Bar(x=["K"], y=[1.0], marker_color="#123456"))}
    made = Panel("spread", payload=payload, figures=lambda view: figures, folder=tmp_path)
    monkeypatch.setattr(panels, "PANELS", (*panels.PANELS[:-1], made, panels.PANELS[-1]))
    return made


@pytest.mark.browser
def test_a_panel_of_a_test_file_is_drawn_linked_to_and_taken_away(spread, context, make, tmp_path):
    page = context.new_page()
    wrong = watched(page)
    address = write_dashboard(make(2, 3, passages=2), tmp_path / "report.html").as_uri()
    settle(ready(page, f"{address}#head=L1H2&class=*&scheme=pos"))
    assert page.locator("#spread-words").inner_text() == "K 1, Q 1.25"
    assert page.locator("#spread .bars .point").count() == 2
    assert "rgb(18, 52, 86)" in page.locator("#spread .bars .point path").first.get_attribute("style")  # its own look
    page.check("#twice")
    settle(page)
    assert page.locator("#spread-words").inner_text() == "K 2, Q 2.5"
    assert hash_of(page) == "#head=L1H2&class=*&scheme=pos&twice=true"
    page.click("#spread-table summary")
    settle(page)
    assert page.locator("#spread-table tbody tr").all_inner_texts() == ["K\t+2.00", "Q\t+2.50"]
    assert page.locator("[data-panel=spread] [data-kind=csv]").inner_text() == "CSV · 2 rows"
    name, text = downloaded(page, "spread", "CSV")
    assert name == "tiny-bqbv-spread-L1H2-pos-every-class-log2_amplification.csv"
    assert rows_of(text)[1] == {"layer": "1", "head": "2", "name": "Q", "spread": "1.25"}
    assert json.loads(downloaded(page, "spread", "JSON")[1])[0]["spread"] == 1
    assert b"<svg" in downloaded(page, "spread", "SVG")[1]
    page.reload()
    settle(page)
    assert page.is_checked("#twice")
    page.keyboard.press("9")
    assert page.evaluate("document.activeElement.id") == "panel-spread"
    page.keyboard.press("?")
    assert "8 effect, 9 spread" in page.locator("#keys").inner_text()
    assert not wrong
    page.close()


def test_a_panel_that_is_not_available_is_left_out_and_one_without_payload_has_no_script(spread, make, monkeypatch):
    result = make(2, 2, passages=1)
    assert 'name: "spread"' in render(result)
    for change, section in (({"available": lambda view: False}, False), ({"payload": lambda view: None}, True)):
        monkeypatch.setattr(panels, "PANELS", (dataclasses.replace(spread, **change),))
        html = render(result)
        assert ('id="panel-spread"' in html) == section
        assert 'name: "spread"' not in html


@pytest.mark.browser
def test_panels_after_the_ninth_are_reached_by_the_keys_of_the_next_and_the_previous_one(
    spread, context, make, tmp_path, monkeypatch
):
    (tmp_path / "tail.html").write_text('<h2 id="tail-title">The tenth</h2>')
    tail = Panel("tail", payload=lambda view: None, folder=tmp_path)
    monkeypatch.setattr(panels, "PANELS", (*panels.PANELS, tail))
    page = context.new_page()
    wrong = watched(page)
    settle(ready(page, write_dashboard(make(2, 3, passages=2), tmp_path / "report.html").as_uri()))
    for key, panel in (("k", "about"), ("j", "heads"), ("9", "spread"), ("j", "tail"), ("j", "tail"), ("k", "spread")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"panel-{panel}"
    page.locator("#panel-tokens button").first.focus()
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.id") == "panel-classes"
    page.keyboard.press("?")
    words = page.locator("#keys").inner_text()
    assert "9 spread\n" in words and "also tail, which has no number" in words
    assert not wrong
    page.close()


@pytest.mark.browser
def test_a_result_of_the_heads_table_alone_has_a_page_on_which_nothing_goes_wrong(context, make, tmp_path):
    """Tables that a run did not measure are frames without columns."""
    page = context.new_page()
    wrong = watched(page)
    empty = dict.fromkeys(("tokens", "positions", "passages", "passage_scores", "nulls", "adjusted"), pd.DataFrame())
    path = write_dashboard(dataclasses.replace(make(2, 2), **empty), tmp_path / "report.html")
    settle(ready(page, path.as_uri()))
    texts = {name: page.locator(f"#panel-{name}").inner_text() for name in ("tokens", "passages", "position")}
    assert "This result has no tokens." in texts["tokens"]
    assert "This result has no sample passages." in texts["passages"]
    assert "no positional profile" in texts["position"] and "no contrasts with position removed" in texts["position"]
    page.select_option("#metric", "auroc")
    settle(page)
    assert "metric=auroc" in hash_of(page)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not wrong
    page.close()

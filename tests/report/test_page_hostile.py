"""A corpus of hostile strings changes nothing on the page but its own cells."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest

from interp.report.dashboard import write_dashboard
from tests.report.made import HOSTILE
from tests.report.reading import START, downloaded, ready, rows_of, settle, watched

pytestmark = pytest.mark.browser
DANGEROUS = (
    "<img src=x onerror=document.title='owned'>", "</script><script>document.title='owned'</script>",
    "}</style><style>*{display:none}",
    "<br><b>%{x}<extra></extra>", '<a href="javascript:alert(1)">click</a>', "\x00\x07\x1b[31m\x7f", "lone \ud83d surrogate",
    "<!--<script>", "w" * 10_000, "\u202eright to left\u2066",
)  # fmt: skip
SKELETON = """() => [...document.querySelectorAll("body *")].filter((e) => !e.closest("svg, script, .modebar-container"))
  .map((e) => `${e.tagName}#${e.id}.${e.className}`.replace(/ js-plotly-plot/, ""))"""
MARKUP_IN_CHARTS = "document.querySelectorAll('svg a, svg tspan[style*=bold], svg image').length"


def with_strings(result, strings):
    """The result with its odd tokens, two classes, and the names of model and corpus replaced by `strings`."""
    tokens, classes = dict(zip(HOSTILE, strings, strict=True)), {"NOUN": strings[0], "VERB": strings[3]}
    tables = {
        "heads": result.heads.replace({"token_class": classes}),
        "nulls": result.nulls.replace({"token_class": classes}),
        "adjusted": result.adjusted.replace({"token_class": classes}),
        **{name: _renamed(getattr(result, name), tokens, classes) for name in ("tokens", "passages")},
        "further": {
            "top_passages": _spoken(result.tables["top_passages"], strings, classes),
            "writes": _renamed(result.tables["writes"], tokens, {}),
        },
    }
    return dataclasses.replace(result, **tables, run=result.run | {"model": strings[1], "corpus": strings[2]})


def _spoken(table, strings, classes):
    """Hostile before, in and after the token, and in the title of the document."""
    table = table.replace({"token_class": classes})
    columns = ("before", "token_string", "after", "title")
    each = {name: [strings[(row + at) % len(strings)] for row in range(len(table))] for at, name in enumerate(columns)}
    return table.assign(**{name: pd.Series(texts, table.index, dtype=object) for name, texts in each.items()})


def _renamed(table, tokens, classes):
    strings = [tokens.get(text, text) for text in table["token_string"]]
    kept = pd.Series(strings, table.index, dtype=object)  # strings of pandas hold no halves of surrogate pairs
    table = table.assign(token_string=kept)
    return table.assign(pos=table["pos"].replace(classes)) if classes else table


@pytest.fixture(scope="module")
def pages(context, make, tmp_path_factory):
    """A page of hostile strings beside one of harmless strings, and what went wrong on either."""
    folder, result, opened, wrong = tmp_path_factory.mktemp("hostile"), make(2, 6, passages=4), [], []
    for name, strings in (("hostile", DANGEROUS), ("harmless", [f"harmless{i}" for i in range(len(DANGEROUS))])):
        page = context.new_page()
        wrong.append(watched(page))
        path = write_dashboard(with_strings(result, strings), folder / f"{name}.html")
        settle(ready(page, path.as_uri() + START))
        opened.append(page)
    yield opened
    assert wrong == [[], []]
    for page in opened:
        page.close()


def test_elements_and_their_order_are_those_of_a_harmless_corpus(pages):
    hostile, harmless = (page.evaluate(SKELETON) for page in pages)
    assert len(harmless) > 500
    assert hostile == harmless


def test_no_string_runs_or_becomes_markup(pages):
    hostile, harmless = pages
    assert "owned" not in hostile.title() or hostile.title().startswith("Amplification by the heads of </script>")
    assert hostile.evaluate(MARKUP_IN_CHARTS) == harmless.evaluate(MARKUP_IN_CHARTS)
    assert hostile.locator("#panel-tokens").is_visible()


def test_every_string_is_seen_in_its_cell_with_what_cannot_be_seen_spelled_out(pages):
    shown = pages[0].locator("#panel-tokens .token").all_text_contents()
    assert {DANGEROUS[0], DANGEROUS[3], "\\u0000\\u0007\\u001b[31m\\u007f", "\\u202eright to left\\u2066"} <= set(shown)
    assert "w" * 64 + "… (10,000 characters)" in shown
    texts = " ".join(pages[0].locator("#panel-passages .top").all_text_contents())
    assert all(
        text in texts for text in (DANGEROUS[0], "\\u0000\\u0007\\u001b[31m\\u007f", "\\u202eright to left\\u2066")
    )
    written = pages[0].locator("#writes .token").all_text_contents()
    assert set(DANGEROUS) & set(written)
    assert pages[0].evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_hostile_token_is_found_in_all_heads(pages):
    pages[0].fill("#find", "onerror")
    settle(pages[0])
    assert DANGEROUS[0] in pages[0].locator("#find-said").inner_text()
    assert pages[0].locator("#found tbody tr").count() == 12
    pages[0].fill("#find", "")
    settle(pages[0])


def test_the_files_taken_away_hold_the_strings_as_they_were(pages):
    rows = {row["token_string"] for row in rows_of(downloaded(pages[0], "tokens", "CSV")[1])}
    records = {row["token_string"] for row in json.loads(downloaded(pages[0], "tokens", "JSON")[1])}
    whole = {text.replace("\ud83d", "\ufffd") for text in DANGEROUS}
    assert whole <= records
    assert whole <= rows


def test_a_hostile_class_can_be_chosen_and_linked_to(pages):
    page = pages[0]
    page.select_option("#class", DANGEROUS[3])
    settle(page)
    assert DANGEROUS[3] in page.locator("#readout").inner_text()
    page.reload()
    assert page.locator("#class").input_value() == DANGEROUS[3]

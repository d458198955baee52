"""In a real browser: heads found by a token, the top passages of a head and class, and what a head writes."""

from __future__ import annotations

import dataclasses
import re

import pytest

from interp.report.dashboard import write_dashboard
from tests.report.reading import downloaded, hash_of, ready, rows_of, settle, watched

pytestmark = pytest.mark.browser


def number(text):
    return float(text.replace("−", "-").replace("+", ""))


def test_a_token_lists_the_heads_by_what_they_do_to_it_and_a_click_chooses_one(open_page, make):
    page, result = open_page("#head=L0H0&class=*&scheme=pos"), make(12, 12, passages=15)
    page.fill("#find", "the")  # no such token: the one with a space is meant
    settle(page)
    found = result.find(63)  # the made-up vocabulary has it twice
    assert page.locator("#find-said").inner_text().startswith("“ the” occurs 500 times: ")
    assert page.locator("#find-count").inner_text() == "the first 25 and the last 25 of 144 heads"
    labels = page.locator("#found tbody th").all_text_contents()
    expected = {f"L{row.layer}H{row.head}": row.bias_score_contrast for row in found.itertuples()}
    shown = [expected[label] for label in labels]  # in the order of half precision
    assert shown == pytest.approx([*found["bias_score_contrast"][:25], *found["bias_score_contrast"][-25:]], abs=2e-3)
    assert labels[0] == next(iter(expected))
    values = [number(text) for text in page.locator("#found tbody td:nth-child(2)").all_text_contents()]
    assert values == pytest.approx([*found["bias_score_contrast"][:25], *found["bias_score_contrast"][-25:]], abs=0.011)
    rows = rows_of(downloaded(page, "find", "CSV")[1])
    assert len(rows) == 144 and {row["token_string"] for row in rows} == {" the"}
    assert float(rows[0]["ci_low"]) == pytest.approx(found["ci_low"][0], rel=2e-3)
    page.locator("#found tbody button").nth(3).click()
    settle(page)
    assert page.locator("#tokens-title").inner_text() == f"Which tokens does {labels[3]} move?"
    assert "find=the" in hash_of(page)


def test_what_else_is_meant_is_offered_and_what_is_not_there_is_said(open_page):
    page = open_page("#head=L0H0&class=*&scheme=pos&find=tok12")
    settle(page)
    others = page.locator("#find-others button").all_text_contents()
    assert others and all("tok12" in text for text in others)
    page.locator("#find").focus()
    page.keyboard.press("Tab")  # the keyboard reaches them from the box
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator("#find").input_value() == others[0]
    assert f"“{others[0]}” occurs" in page.locator("#find-said").inner_text()
    page.fill("#find", "no such token")
    settle(page)
    assert page.locator("#find-said").inner_text() == "No token in this page holds “no such token”."
    assert page.locator("#find-box").is_hidden()
    assert page.locator("#find-others button").count() == 0


def test_odd_tokens_are_found_by_what_is_seen_of_them(open_page):
    page = open_page("#head=L0H0&class=*&scheme=pos")
    for typed, shown in (("</script>", "</script>"), ("↵", "↵"), ("שלום", "שלום"), ("😀", "😀"), ("nan", "nan")):
        page.fill("#find", typed)
        settle(page)
        assert page.locator("#find-said").inner_text().startswith(f"“{shown}” occurs ")
        assert page.locator("#found tbody tr").count() == 50


def test_top_passages_are_those_of_the_head_and_class_highest_first(open_page, make):
    page, table = open_page("#head=L0H11&class=PUNCT&scheme=pos"), make(12, 12, passages=15).tables["top_passages"]
    own = table.query("layer == 0 and head == 11 and token_class == 'PUNCT' and scheme == 'pos'")
    for end, box, first in (("top", "highest", 3.5), ("bottom", "lowest", -4.5)):
        rows = own[own["end"] == end]
        items = page.locator(f"#{box} li")
        assert 1 <= items.count() <= 3
        assert number(items.first.locator("b").inner_text()) == first
        assert items.first.locator(".token").text_content() == rows["token_string"].iloc[0].replace("\n", "↵")
        where = items.first.locator("small").inner_text()
        assert where == f"{rows['title'].iloc[0]} · position {rows['pos'].iloc[0]}"
        assert page.locator(f"#{box}-title").inner_text() == f"Scores PUNCT {box}"
    assert "do not show that the class matters" in page.locator("#top-sub").inner_text()
    page.select_option("#class", "*")
    settle(page)
    assert page.locator("#highest li").count() <= 5
    assert page.locator("#highest-title").inner_text() == "Scores a token highest"
    assert "EMPTY" not in page.locator("#highest").inner_text()


def test_tags_of_other_classes_are_seen_where_the_passage_is_pointed_at(open_page):
    page = open_page("#head=L0H11&class=PUNCT&scheme=pos")
    settle(page)
    article = page.locator("#passages article:visible").first
    tags = article.locator(".word small")
    seen = "tags => tags.filter((tag) => getComputedStyle(tag).visibility === 'visible').map((tag) => tag.className)"
    assert set(tags.evaluate_all(seen)) <= {"chosen"}
    article.locator(".word").first.focus()
    assert len(tags.evaluate_all(seen)) == tags.count() == 40
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    article.hover()
    assert len(tags.evaluate_all(seen)) == 40


def test_passages_are_named_by_their_titles_and_without_by_number(open_page, context, make, tmp_path):
    labels = open_page().locator("#passages article:visible h3").all_text_contents()
    assert all(re.search(r" · Title \d+$", label) for label in labels)
    result = make(2, 2, passages=3)  # and as a result of an earlier version
    result = dataclasses.replace(result, passages=result.passages.drop(columns="title"), further={})
    page = context.new_page()
    wrong = watched(page)
    ready(page, write_dashboard(result, tmp_path / "earlier.html").as_uri())
    settle(page)
    assert re.search(r" · document \d$", page.locator("#passages h3").first.inner_text())
    assert page.locator("#highest").count() == 0
    assert "This result does not say what heads write" in page.locator("#panel-writes").inner_text()
    assert not wrong
    page.close()


def test_what_a_head_writes_is_listed_and_said_to_be_from_the_weights_alone(open_page, make):
    page, table = open_page("#head=L3H4&class=*&scheme=pos"), make(12, 12, passages=15).tables["writes"]
    settle(page)
    own = table.query("layer == 3 and head == 4")
    assert page.locator("#writes h3").all_text_contents() == [
        "Its b_Q points at", "Attending to these, it writes", "Its b_V writes everywhere",
    ]  # fmt: skip
    shown = page.locator("#writes .token").all_text_contents()
    assert shown == [text.replace("\n", "↵") for text in own["token_string"]]
    assert "From the weights alone" in page.locator("#panel-writes .sub").inner_text()
    assert len(rows_of(downloaded(page, "writes", "CSV")[1])) == 60

"""Addresses that name a view, and findings that lead to one."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
VIEW = "#head=L3H7&class=NOUN&scheme=pos&metric=auroc&palette=orange-purple&theme=dark&sort=n&search=the&count=50"


def test_a_permalink_restores_the_view_and_copies_as_it_stands(fresh_page, context, address):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = fresh_page(VIEW)
    shown = {
        name: page.locator(f"#{name}").input_value()
        for name in ("head", "class", "scheme", "metric", "sort", "search", "count")
    }
    assert shown == {
        "head": "43",
        "class": "NOUN",
        "scheme": "pos",
        "metric": "auroc",
        "sort": "n",
        "search": "the",
        "count": "50",
    }
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.locator("#palette").get_attribute("aria-pressed") == "true"
    page.click("#copy")
    page.wait_for_function("document.getElementById('copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == address + VIEW


def test_a_permalink_to_what_does_not_exist_falls_back_to_what_does(fresh_page):
    page = fresh_page("#head=L99H1&class=__proto__&scheme=constructor&metric=nonsense&count=-3")
    assert page.locator("#scheme").input_value() == "pos"
    assert page.locator("#class").input_value() == "*"
    assert page.locator("#metric").input_value() == "log2_amplification"


def test_a_finding_leads_to_its_head_and_class(open_page):
    page = open_page()
    finding = page.locator(".findings:visible a").first
    head, token_class = finding.inner_text().split(",")[0].split(" ")
    finding.click()
    page.wait_for_function(f"location.hash.includes('class={token_class}')")
    expect(page.locator("#classes-title")).to_have_text(f"What does {head} favour?")  # the page hears of it later
    assert page.locator("#readout").inner_text().startswith(f"{head}, {token_class} · A beyond position ")

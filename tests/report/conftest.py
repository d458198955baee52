"""The made-up result, its page, and tabs of a browser in which nothing may go wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from interp.analysis.result import Amplification
from interp.report.dashboard import write_dashboard
from tests.report.made import make_result
from tests.report.reading import START, ready, settle, watched


@pytest.fixture(scope="session")
def make() -> Callable[..., Amplification]:
    return make_result


@pytest.fixture(scope="session")
def result() -> Amplification:
    return make_result()


@pytest.fixture(scope="session")
def address(make, tmp_path_factory):
    result = make(12, 12, passages=15)
    # Every hostile token stands at an end of every head, so that it is in the page's cut.
    tokens = result.tokens.copy()
    tokens.loc[tokens.token_string == "</script>", "count"] = 501
    hostile = dataclasses.replace(result, tokens=tokens, run=result.run | {"corpus": "<img src=x onerror=alert(1)>"})
    return write_dashboard(hostile, tmp_path_factory.mktemp("page") / "report.html").as_uri()


@pytest.fixture(scope="session")
def context(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(8000)
    yield context
    context.close()


@pytest.fixture(scope="session")
def tab(context, address):
    """One tab for most tests: a page is five megabytes of script, and a new address brings every choice back to it."""
    page = context.new_page()
    page.wrong = watched(page)
    yield page
    page.close()


@pytest.fixture
def open_page(tab, address):
    """Open the page at a hash; after the test, nothing may have left the file and nothing may have gone wrong."""

    def opened(hash: str = START):
        if not tab.url.startswith("file:"):
            return ready(tab, address + hash)
        tab.mouse.move(0, 0)
        tab.goto(address + hash)
        tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        settle(tab)
        return tab

    tab.wrong.clear()
    yield opened
    assert not tab.wrong


@pytest.fixture
def fresh_page(context, address):
    """Open the page at a hash in a tab that has never seen it."""
    page = context.new_page()
    wrong = watched(page)
    yield lambda hash="": ready(page, address + hash)
    page.close()
    assert not wrong

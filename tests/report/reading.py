"""How tests open the page, wait for it, and read what it shows and gives away."""

from __future__ import annotations

import csv
import io
from pathlib import Path

START = "#head=L0H5&class=*&scheme=pos"


def watched(page):
    wrong = []
    page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or wrong.append(request.url))
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return wrong


def ready(page, url):
    page.goto(url)
    page.locator("#bars .bars .point").first.wait_for(state="attached")
    return page


def settle(page):
    """Wait until every panel is drawn: those below the fold follow one painted frame later."""
    frame = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
    waiting = "Number(document.documentElement.dataset.waiting)"
    page.evaluate(f"async () => {{ {frame} while ({waiting}) {{ {frame} }} }}")


def hash_of(page):
    return page.evaluate("location.hash")


def downloaded(page, panel, kind):
    """Press a panel's export button; return the name and the text of the file that it makes."""
    with page.expect_download() as download:
        page.locator(f"[data-panel={panel}] button", has_text=kind).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text.decode("utf-8"), newline="")))

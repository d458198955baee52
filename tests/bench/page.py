"""The page in a browser: size, time to first paint, click to next frame, hover to next frame, for three sizes of model."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs

from interp.report.dashboard import write_dashboard
from tests.bench.timing import Row
from tests.report.made import make_result

SIZES = ((4, 4), (12, 12), (48, 25))
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
# The median over 15 heads from the event to the end of the next painted frame, in ms.
ANSWER = """async ([event, heads]) => {
  const rest = () => new Promise((done) => setTimeout(done, 250)), times = [];
  for (let i = 0; i < 15; i++) {
    await rest();
    const cell = document.querySelector(`#grid [data-head="${(i * 37 + 5) % heads}"]`), start = performance.now();
    cell.dispatchEvent(new PointerEvent(event, { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[7];
}"""


def rows():
    """Four rows for each size."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for path in map(shutil.which, names) if path), None)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        for layers, heads in SIZES:
            yield from _rows_of(browser, Path(folder), layers, heads)
        browser.close()


def _rows_of(browser, folder, layers, heads):
    path, name = folder / f"{layers}x{heads}.html", f"page of {layers} x {heads} heads"
    write_dashboard(make_result(layers, heads, classes=13), path)
    budget = {4: "<= 2", 12: "<= 2", 48: ""}[layers]
    yield Row(f"{name}, beyond plotly.js", (path.stat().st_size - len(get_plotlyjs().encode())) / 1e6, "MB", budget)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    page.locator("#bars .bars .point").first.wait_for(state="attached")
    yield Row(f"{name}, first paint", page.evaluate(PAINT), "s")
    yield Row(f"{name}, click to next frame", page.evaluate(ANSWER, ["click", layers * heads]), "ms", "<= 100")
    yield Row(f"{name}, hover to next frame", page.evaluate(ANSWER, ["pointerover", layers * heads]), "ms", "<= 60")
    page.close()

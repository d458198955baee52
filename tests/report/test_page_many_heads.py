"""A page of 48 x 25 heads stays usable: a ranked list, a grid of signs, frames that keep up with the pointer."""

from __future__ import annotations

import pytest
from plotly.offline import get_plotlyjs

from interp.report.dashboard import write_dashboard
from tests.report.reading import ready, settle, watched

pytestmark = pytest.mark.browser
HOVER = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done))), times = [];
  for (let i = 0; i < 21; i++) {
    const start = performance.now();
    const cell = document.querySelector(`#grid [data-head="${(i * 57) % 1200}"]`);
    cell.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    await frame();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[10];
}"""


@pytest.fixture(scope="module")
def large(context, make, tmp_path_factory):
    page = context.new_page()
    wrong = watched(page)
    path = write_dashboard(make(48, 25), tmp_path_factory.mktemp("large") / "report.html")
    page.size = path.stat().st_size - len(get_plotlyjs().encode())
    settle(ready(page, path.as_uri() + "#head=L0H24&class=PUNCT&scheme=pos"))
    yield page
    page.close()
    assert not wrong


def test_every_head_has_a_cell_and_the_strongest_are_listed(large):
    assert large.locator("#grid td[data-head]").count() == 1200
    assert large.locator("#ranking button").count() == 50
    assert large.locator("#ranking-title").inner_text() == "Strongest 50 of 1,200 heads"
    unsure = [
        name == "unsure" for name in large.locator("#ranking button").evaluate_all("all => all.map((e) => e.className)")
    ]
    assert unsure == sorted(unsure)  # what is hatched goes last
    numbers = large.locator("#ranking button:not(.unsure) .number").all_text_contents()
    sizes = [abs(float(text.replace("−", "-"))) for text in numbers]
    assert len(sizes) > 20 and sizes[0] > sizes[-1]  # by the ends of intervals, so not quite by size


def test_a_ranked_head_can_be_chosen(large):
    button = large.locator("#ranking button").nth(3)
    name = button.locator("b").inner_text()
    button.click()
    assert large.locator("#classes-title").inner_text() == f"What does {name} favour?"


def test_the_page_does_not_grow_beyond_ten_megabytes(large):
    print(f"\n48 x 25 heads: {large.size / 1e6:.2f} MB beyond plotly.js")
    assert large.size <= 10_000_000


def test_frames_keep_up_with_the_pointer(large):
    settle(large)
    median = large.evaluate(HOVER)
    print(f"\nhover over 48 x 25 heads: {median:.0f} ms a frame")
    assert median <= 250  # the promise is 60 ms; a busy machine must not make the test flaky

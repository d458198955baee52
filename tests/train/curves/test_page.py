"""The page of curves in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from interp.train.curves.page import curves_page
from tests.train.curves.histories import rows_of, write

pytestmark = pytest.mark.browser
NAMES = (
    "x/plain",
    "<img src=x onerror=alert(1)>/script>",
    "p</script>",
)  # two parts, because the last ones are the same


@pytest.fixture(scope="module")
def page(tmp_path_factory, chromium):
    folder = tmp_path_factory.mktemp("curves")
    runs = [
        write(folder / name / "training.jsonl", rows_of(steps, charges=name == "x/plain", seed=steps))
        for name, steps in zip(NAMES, (300, 250, 5), strict=True)
    ]
    address = curves_page(runs, folder / "curves.html").as_uri()
    tab = chromium.new_page(viewport={"width": 1280, "height": 900})
    tab.wrong = []
    tab.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or tab.wrong.append(r.url))
    tab.on("console", lambda m: m.type in ("error", "warning") and tab.wrong.append(m.text))
    tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
    tab.goto(address)
    tab.locator("#speed .plot-container").wait_for()
    yield tab
    tab.close()


@pytest.fixture(autouse=True)
def nothing_wrong(page):
    yield
    assert not page.wrong


def shown(page, panel):
    """The runs whose traces a panel shows."""
    script = "id => [...new Set(document.getElementById(id).data.filter((t) => t.visible).map((t) => t.legendgroup))]"
    return page.evaluate(script, panel)


def test_every_panel_is_drawn_and_the_energy_that_no_run_logged_is_left_out(page):
    panels = page.locator(".chart").evaluate_all("charts => charts.map((chart) => chart.id)")
    assert panels == ["loss", "late-loss", "rate", "gradient", "charge-qk", "charge-vo", "speed"]
    assert page.locator(".chart .main-svg").count() >= len(panels)
    assert page.locator("table bdi").all_text_contents() == list(NAMES)
    assert page.title() == f"Training of {', '.join(NAMES)}"


def test_unticking_a_run_hides_it_in_every_panel(page):
    box = page.locator("input[data-run]").nth(1)
    box.uncheck()
    assert len(shown(page, "loss")) == len(shown(page, "speed")) == 2
    assert not [name for panel in ("loss", "speed") for name in shown(page, panel) if "img" in name]
    box.check()
    assert len(shown(page, "loss")) == 3
    assert shown(page, "charge-qk") == ["x/plain"]


def test_the_axis_is_chosen_for_all_panels_at_once(page):
    titles, ends = {}, {}
    for axis in ("seconds", "step", "share", "tokens"):
        page.locator(f"input[value={axis}]").check()
        titles[axis] = [page.locator(f"#{panel} .xtitle").text_content() for panel in ("loss", "late-loss", "rate")]
        ends[axis] = page.evaluate("document.getElementById('late-loss').layout.xaxis.range[0]")
    names = {
        "seconds": "time (minutes)",
        "step": "optimizer steps",
        "share": "share of training (%)",
        "tokens": "tokens",
    }
    assert titles == {axis: [name] * 3 for axis, name in names.items()}
    assert ends == {"seconds": pytest.approx(170 / 120), "step": 150, "share": 50, "tokens": 150 * 64}


def test_runs_of_unlike_length_end_together_and_a_logarithmic_axis_keeps_every_panel_and_range(page):
    page.locator("input[value=share]").check()
    last = "id => document.getElementById(id)._fullData.filter((t) => t.mode === 'lines').map((t) => Math.max(...t.x))"
    assert page.evaluate(last, "rate") == [100, 100, 100]
    page.locator("input[value=step]").check()
    page.locator("#log").check()
    for panel in ("loss", "late-loss", "rate"):
        assert page.evaluate(f"document.getElementById('{panel}').layout.xaxis.type") == "log"
    start = page.evaluate("document.getElementById('late-loss').layout.xaxis.range[0]")
    assert start == pytest.approx(2.17609, abs=1e-4)  # the logarithm of 150
    assert page.evaluate(last, "rate") == [300, 250, 5]
    page.locator("#log").uncheck()
    page.locator("input[value=tokens]").check()
    assert page.evaluate("document.getElementById('loss').layout.xaxis.type") == "linear"


def test_axe_finds_no_serious_violation(page):
    found = Axe().run(page).response
    assert not [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]


def test_a_picture_is_called_after_the_page_and_its_panel(page):
    options = page.evaluate("document.getElementById('late-loss')._context.toImageButtonOptions.filename")
    assert options.startswith("Training_of_x_plain") and "<" not in options


def test_hiding_a_run_keeps_the_zoom(page):
    page.evaluate("Plotly.relayout('loss', {'xaxis.range': [100, 200]})")
    box = page.locator("input[data-run]").first
    box.uncheck()
    assert page.evaluate("document.getElementById('loss').layout.xaxis.range") == [100, 200]
    box.check()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_pictures_take_the_colours_of_a_light_or_dark_page(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.wait_for_timeout(200)
    text, panel, wanted = page.evaluate(
        "() => { const {font, paper_bgcolor} = document.getElementById('rate').layout;"
        " return [font.color, paper_bgcolor, getComputedStyle(document.querySelector('.panel')).backgroundColor]; }"
    )
    assert panel == wanted
    assert text == ("rgb(232, 234, 238)" if scheme == "dark" else "rgb(27, 30, 35)")

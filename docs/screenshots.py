"""Take the pictures of the docs from fresh pages: `make screenshots` (needs a Chromium)."""

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from interp.train.curves.page import curves_page

REPORT = Path("reports/tiny-bqbv/report.html")
COMPARED = Path("reports/tiny-bqbv-vs-tiny-bq/report.html")
REPORTS = "python -m interp.amplify tiny-bqbv tiny-bq -o reports"
CURVES = Path("reports/curves.html")
RUNS = ("tiny-symmetric", "tiny-bq", "tiny-symmetric-ecd", "tiny-bq-ecd")
PICTURES = Path("docs/pictures")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
VIEWS = {  # name: (page, width, height, colour scheme)
    "report": (REPORT, 1280, 1240, "light"),
    "report-dark": (REPORT, 1280, 1240, "dark"),
    "report-phone": (REPORT, 390, 1200, "light"),
    "curves": (CURVES, 1280, 1500, "light"),
}


PANELS = (
    "heads",
    "classes",
    "tokens",
    "explained",
    "scatter",
    "position",
    "passages",
    "pattern",
    "writes",
    "uses",
    "effect",
    "compare",
)  # of the page that compares


def main() -> None:
    """Write one PNG for each view, and one for each panel."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if not REPORT.is_file() or not COMPARED.is_file() or browser is None:
        raise SystemExit(f"Two reports and a Chromium are needed; run `{REPORTS}` and install Chromium.")
    curves_page([Path("checkpoints") / name for name in RUNS], CURVES)
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        for name, (source, width, height, scheme) in VIEWS.items():
            page: Page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(source.resolve().as_uri())
            page.wait_for_timeout(2000)  # the last panel is drawn after the first paint
            page.screenshot(path=PICTURES / f"{name}.png")
            page.close()
        panels(chromium.new_page(viewport={"width": 1180, "height": 1000}))
        chromium.close()
    for picture in PICTURES.glob("*.png"):
        shrink(picture)


def shrink(path: Path) -> None:
    """Reduce a picture to 256 colours, a third of the size."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def panels(page: Page) -> None:
    """Take one picture of each panel of the page that compares two checkpoints."""
    page.goto(f"{COMPARED.resolve().as_uri()}#head=L3H0&class=*&scheme=pos&removed=contrast_position&sort=n")
    page.add_style_tag(content="#controls { position: static !important } .exports { display: none !important }")
    page.wait_for_timeout(3000)
    for name in PANELS:
        page.locator(f"#panel-{name}").screenshot(path=PICTURES / f"panel-{name}.png")


if __name__ == "__main__":
    main()

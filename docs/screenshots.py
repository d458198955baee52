"""Take the pictures of the docs from a fresh report: `make screenshots` (needs a Chromium)."""

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

REPORT = Path("reports/tiny-bqbv/report.html")
PICTURES = Path("docs/pictures")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
VIEWS = {  # name: (width, height, colour scheme, whole page)
    "report": (1280, 1240, "light", False),
    "report-dark": (1280, 1240, "dark", False),
    "report-phone": (390, 1200, "light", False),
}


def main() -> None:
    """Write one PNG for each view."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if not REPORT.is_file() or browser is None:
        raise SystemExit(f"{REPORT} and a Chromium are needed; run `make report` and install Chromium.")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        for name, (width, height, scheme, whole) in VIEWS.items():
            page: Page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(REPORT.resolve().as_uri())
            page.wait_for_timeout(2000)  # the last panel is drawn after the first paint
            page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)
        chromium.close()


if __name__ == "__main__":
    main()

"""Take the picture of the explorer in a real JupyterLab: `make screenshots` (needs a Chromium)."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from playwright.sync_api import Page, sync_playwright

from tests.jupyter import jupyterlab, open_notebook, run_explorer

PICTURE = Path("docs/pictures/explorer.png")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CELL = """\
import interp

explorer = interp.explore(interp.load_model("tiny-bqbv"))
explorer.set(head="L3H0", scale=0, where="all")
"""


def explorer_notebook() -> nbformat.NotebookNode:
    """Return a notebook that shows the explorer with the bias taken away."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": kernel})


def take(page: Page, address: str) -> None:
    """Run the notebook and write the picture of what it shows."""
    open_notebook(page, address, "explorer")
    run_explorer(page)
    page.wait_for_timeout(2000)  # figures take their width from the cell after the first paint
    page.locator(".jp-Cell-outputArea .jp-OutputArea-output").first.screenshot(path=PICTURE)


def main() -> None:
    """Write the picture."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("A Chromium is needed; install it.")
    with (
        TemporaryDirectory() as folder,
        jupyterlab(Path(folder), Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        nbformat.write(explorer_notebook(), Path(folder) / "explorer.ipynb")
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        take(chromium.new_page(viewport={"width": 1320, "height": 2200}), address)
        chromium.close()


if __name__ == "__main__":
    main()

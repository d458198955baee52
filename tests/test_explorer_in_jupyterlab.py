"""Notebooks in a real JupyterLab, in a real browser; and the explorer clicked there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.jupyter import PATIENCE, jupyterlab, open_notebook, run_explorer
from tests.report.made import make_result

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.slow
@pytest.mark.browser
def test_notebooks_open_in_jupyterlab_and_the_explorer_answers_clicks_without_an_error(chromium, tmp_path):
    folder, settings = tmp_path / "notebooks", tmp_path / "settings"
    settings.mkdir()
    shutil.copytree(NOTEBOOKS, folder)
    page = chromium.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(PATIENCE / 2)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    with jupyterlab(folder, settings) as address:
        first, second, *_ = sorted(path.stem for path in folder.glob("*.ipynb"))  # all run in tests/test_notebooks.py
        open_notebook(page, address, first)
        check_the_title(page)
        # in the same JupyterLab, as loading it takes longer than a notebook does
        page.locator(".jp-DirListing-item", has_text=f"{second}.ipynb").dblclick()
        page.locator(".lm-TabBar-tab.jp-mod-current", has_text=second).wait_for(timeout=PATIENCE)
        check_the_title(page)
        make_result(4, 6, passages=1).save(folder / "result")  # of the shape of tiny-bqbv
        (folder / "explore.ipynb").write_text(only_the_explorer())
        open_notebook(page, address, "explore")
        run_explorer(page)
        check_the_explorer(page)
        check_clicks(page)
        check_that_old_figures_are_dimmed(page)
        page.close()
    assert errors == []


def check_the_title(page):
    title = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-MarkdownOutput h1").first
    title.wait_for(timeout=PATIENCE)
    assert title.inner_text()


def only_the_explorer():
    lines = (
        'import interp\n\nmodel = interp.load_model("tiny-bqbv", device="cpu")\n'
        'interp.explore(model, interp.Amplification.load("result"))'
    )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}  # or JupyterLab asks
    cell = {
        "cell_type": "code",
        "id": "cell-0",
        "metadata": {},
        "source": lines,
        "outputs": [],
        "execution_count": None,
    }
    return json.dumps({"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def check_clicks(page):
    def chosen(name):
        shown = page.locator(f".interp-{name} select").evaluate("select => select.selectedOptions[0].textContent")
        return shown.replace("\xa0", " ")  # ipywidgets keeps blanks apart so

    def click(group, label):
        """Click, and wait for the ring round the button: it comes after the buttons, which may get another order."""
        page.locator(f".interp-{group} button", has_text=label).first.click()
        page.wait_for_function(ring, arg=[group, label])

    ring = (
        "([group, label]) => getComputedStyle([...document.querySelectorAll(`.interp-${group} button`)]"
        ".find(button => button.textContent.includes(label))).boxShadow.endsWith('inset')"
    )
    said = "([name, text]) => document.querySelector(`.interp-${name} select`).selectedOptions[0].textContent === text"
    click("heads", "L2H3")
    page.wait_for_function(said, arg=["head", "L2H3"])
    click("classes", "CCONJ")
    page.wait_for_function(said, arg=["token-class", "CCONJ"])
    assert chosen("head") == "L2H3"
    assert page.evaluate("document.activeElement.textContent").startswith("CCONJ")  # the keyboard stays where it is
    click("tokens", "said")
    page.wait_for_function(said, arg=["token-class", "VERB"])
    assert chosen("place").endswith("' said'")
    place = int(chosen("place").split()[0])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the token after it
    page.wait_for_function(
        "place => document.querySelector('.interp-place select').selectedIndex === place", arg=place + 1
    )
    shadows = (
        "group => [...document.querySelectorAll(`.interp-${group} button`)].map(b => getComputedStyle(b).boxShadow)"
    )
    beside = r"getComputedStyle(document.querySelector('.interp-heads button'), '::after').content"
    # buttons that are drawn anew have no number for a moment
    page.wait_for_function(rf"/^\"[+−]?\d\.\d\d\"$/.test({beside})")
    page.wait_for_function(f"({shadows})('heads')[15].endsWith('inset')")  # L2H3
    for group in ("heads", "classes", "tokens"):
        assert sum("inset" in shadow for shadow in page.evaluate(shadows, group)) <= 1
    columns = (
        "new Set([...document.querySelectorAll('.interp-heads button')].map(b => b.getBoundingClientRect().x)).size"
    )
    page.wait_for_function(f"{columns} === 6")  # heads to a row


def check_that_old_figures_are_dimmed(page):
    opacity = "getComputedStyle(document.querySelector('.interp-shown')).opacity"
    assert page.evaluate(opacity) == "1"
    box = page.locator(".interp-text input")
    box.fill("word " * 3000)
    box.press("Enter")
    page.wait_for_function(f"{opacity} === '0.25'")
    assert "What is dimmed is of the text" in page.locator("[role=status]").last.inner_text()
    box.fill("She said no.")
    box.press("Enter")
    page.wait_for_function(f"{opacity} === '1'")


def check_the_explorer(page):
    said = page.locator(".jp-OutputArea [role=status]").last
    before = said.inner_text()
    assert before.startswith("as trained: attention of L")
    titles = page.locator(".js-plotly-plot .gtitle")
    assert all(figure.bounding_box()["height"] > 250 for figure in page.locator(".js-plotly-plot").all())
    page.locator(".interp-where button", has_text="all heads").click()
    page.locator(".interp-typed input").fill("0")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "said => document.querySelector('[role=status]').innerText.startsWith(said)", arg="biases × 0 in all heads"
    )
    page.wait_for_function("[...document.querySelectorAll('.gtitle')].some(e => e.textContent.includes('→'))")
    assert any("→" in title for title in titles.all_text_contents())
    page.locator(".interp-head select").select_option("L0H1")
    page.wait_for_function("document.querySelector('[role=status]').innerText.includes('attention of L0H1')")
    box = page.locator(".interp-text input")
    box.fill("She said <b>no</b>.")
    box.press("Enter")
    page.wait_for_function(
        "[...document.querySelectorAll('.interp-tokens button')].some(e => e.textContent.trim() === 'said')"
    )
    assert page.locator(".jp-OutputArea b", has_text="no").count() == 0
    assert (
        page.locator('.jp-OutputArea [data-mime-type="application/vnd.jupyter.stderr"], .jp-RenderedText pre').count()
        == 0
    )

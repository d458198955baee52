"""`python -m interp.evals`: files, table and page of two small checkpoints."""

import json

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from typer.testing import CliRunner

from interp.evals.__main__ import app
from interp.evals.puzzles import evaluate, generate
from interp.files import owning
from interp.model.checkpoint import save_checkpoint
from interp.report.evaluation import class_figure, leading, position_figure, puzzle_figure

NAMES = ("first", "<b>second")
TEXTS = "The quick brown fox doesn't jump over 13 lazy dogs; it sleeps. " * 4


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evals")
    for seed, name in enumerate(NAMES):
        save_checkpoint(make_model(seed, n_ctx=300), folder / name)
    (folder / "text.txt").write_text(TEXTS)
    (folder / "mine.json").write_text(json.dumps({"mine": [{"prompt": "The quick", "expected": " brown"}] * 3}))
    return folder


@pytest.fixture(scope="module")
def written(folder):
    checkpoints = [folder / name for name in NAMES]
    done = call(
        *checkpoints, "--n-items", 8, "--corpus", folder / "text.txt", "--schemes", "surface", "-o", folder / "out"
    )
    assert done.exit_code == 0, done.output
    return folder / "out", done


@pytest.mark.slow
def test_the_files_hold_what_the_functions_return(written, make_model):
    out, _ = written
    items, families = pd.read_parquet(out / "items.parquet"), pd.read_parquet(out / "families.parquet")
    for seed, name in enumerate(NAMES):
        expected = evaluate(make_model(seed, n_ctx=300), generate(n_items=8))
        for found, table in ((items, expected.items), (families, expected.families)):
            own = found[found["model"] == name].drop(columns="model").reset_index(drop=True)
            pd.testing.assert_frame_equal(own, table, check_dtype=False)
    told = json.loads((out / "evals.json").read_text())
    assert [run["model"] for run in told["runs"]] == list(NAMES)
    assert told["families"][0]["top1"] == families["top1"].iloc[0] and len(told["overall"]) == 2
    assert all(run["mean_bias"] and len(run["weights_sha256"]) == 64 for run in told["runs"])


def test_the_table_on_screen_names_models_families_chance_and_intervals(written):
    _, done = written
    for text in ("first", "<b>second", "far_retrieval", "negation", "chance", "50.0%", "0.0% to"):
        assert text in done.stdout
    assert done.stdout.strip().splitlines()[-1].endswith("/out/evals.html")


def test_ones_own_items_are_evaluated_instead_and_the_loss_can_be_left_out(folder):
    done = call(folder / "first", "--items", folder / "mine.json", "--corpus", "none", "-o", folder / "own")
    assert done.exit_code == 0, done.output
    assert pd.read_parquet(folder / "own" / "families.parquet")[["family", "n"]].to_numpy().tolist() == [["mine", 3]]
    assert not (folder / "own" / "classes.parquet").exists() and (folder / "own" / "evals.html").exists()


def test_other_biases_than_the_mean_are_warned_of_on_screen_in_the_files_and_on_the_page(folder):
    arguments = ("--items", folder / "mine.json", "--corpus", "none", "-o", folder / "none")
    done = call(folder / "first", "--bias", "none", *arguments)
    assert "not their means" in done.output
    assert json.loads((folder / "none" / "evals.json").read_text())["runs"][0]["mean_bias"] is False
    assert "not their means" in (folder / "none" / "evals.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "no checkpoint 'nowhere'"), (("first", "first"), "Two checkpoints have one name"),
        (("first", "--n-items", 0), "n_items is 0"), (("first", "--families", "copyin"), "did you mean 'copying'"),
        (("first", "--items", "gone.json"), "Cannot read gone.json"),
        (("first", "--bias", "component"), "bias is 'component'; choose mean, sample, none or component:K"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    done = call(*arguments, "--corpus", "none", "-o", folder / "bad")
    assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output
    assert {path.name for path in folder.glob("bad/*")} <= {".lock"}


def test_a_place_that_cannot_be_written_or_that_another_writes_is_told_before_the_work(folder, monkeypatch):
    monkeypatch.setattr("interp.evals.__main__.evaluate_checkpoints", lambda _: pytest.fail("it was evaluated"))
    done = call(folder / NAMES[0], "-o", folder / "text.txt")
    assert done.exit_code == 1 and "error: Cannot write" in done.output
    with owning(folder / "held"):
        done = call(folder / NAMES[0], "-o", folder / "held")
    assert done.exit_code == 1 and "is being written by process" in done.output


def test_figures_show_the_values_intervals_and_chance_of_the_tables(written):
    out, _ = written
    families, classes, positions = (
        pd.read_parquet(out / f"{name}.parquet") for name in ("families", "classes", "positions")
    )
    figure = puzzle_figure(families, "top5")
    own = families[families["model"] == "first"].dropna(subset="top5")
    trace, chance = figure.data[0], figure.data[-1]
    np.testing.assert_allclose(trace.x, own["top5"])
    np.testing.assert_allclose(trace.x + trace.error_x.array, own["top5_high"])
    np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, own["top5_low"])
    np.testing.assert_allclose(np.unique(chance.x), own["top5_chance"].unique())
    assert figure.data[1].name == "&lt;b&gt;second" and [
        label.split("<br>")[0] for label in figure.layout.yaxis.ticktext
    ] == own["family"].tolist()  # fmt: skip
    assert all("<br>chance " in label for label in figure.layout.yaxis.ticktext)
    losses = class_figure(classes, "surface").data[1]
    shown = classes[(classes["model"] == NAMES[1]) & (classes["n_tokens"] > 0)]
    shown = shown.iloc[np.argsort(shown["n_tokens"] < 100, kind="stable")]  # rare classes last
    np.testing.assert_allclose(losses.x, shown["loss"])
    line = position_figure(positions).data[0]
    np.testing.assert_allclose(line.y, positions.query("model == 'first' and n_tokens > 0")["loss"])
    assert line.x[0] == 1


def test_a_rare_class_stands_last_and_does_not_set_the_axis_of_the_held_out_loss():
    rows = {"model": "m", "scheme": "s", "token_class": ["rare", "a", "b"], "n_tokens": [1, 100, 4000]}
    classes = pd.DataFrame({**rows, "loss": [40.0, 3.0, 5.0], "low": [np.nan, 2.5, 4.9], "high": [np.nan, 3.5, 5.1]})
    figure = class_figure(classes, "s")
    low, high = figure.layout.xaxis.range
    assert 2 < low < 2.5 and 5.1 < high < 6
    assert list(figure.layout.yaxis.ticktext) == ["a", "b", "rare"] and list(figure.data[-1].y) == [2]
    assert "beyond" not in str(class_figure(classes.assign(n_tokens=100), "s").layout.xaxis.title.text)


def test_the_head_has_means_over_families_and_the_median_of_ranks_beside_chance():
    families = pd.DataFrame({
        "model": ["m"] * 3, "family": ["a", "b", "c"], "rank": [4.0, 1000.0, 10.0], "rank_chance": [4096.5] * 3,
        "top1": [0.5, 0.1, 0.0], "top1_chance": [1 / 8192] * 3, "accuracy": [np.nan] * 3, "accuracy_chance": [np.nan] * 3,
    })  # fmt: skip
    titles, cells = leading(families)
    assert titles == ["median rank", "top-1"]
    assert cells == {"m": ["10 (chance 4,096)", "20.0% (chance 0.01%)"]}


@pytest.mark.browser
def test_the_page_draws_every_panel_and_asks_for_nothing_outside(written, chromium):
    tab, wrong = chromium.new_page(viewport={"width": 1280, "height": 900}), []
    tab.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(r.url))
    tab.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto((written[0] / "evals.html").as_uri())
    tab.locator("#class-surface .plot-container").wait_for()
    charts = tab.locator(".chart").evaluate_all("charts => charts.map((chart) => chart.id)")
    losses, shares = ["position", "rank", "first_token_loss", "completion_loss"], ["top1", "top5", "exact", "accuracy"]
    assert charts == [*losses, *shares, "ratio", "class-surface"]
    heads = tab.locator("thead th").all_text_contents()
    assert heads[:5] == ["model", "held-out loss, nats per token", "median rank", "top-1", "comparisons right"]
    cells = tab.locator("tbody tr").first.locator("td").all_text_contents()
    assert all("(chance " in cell for cell in cells[1:4]) and cells[3].endswith("(chance 50.0%)")
    found = Axe().run(tab).response
    assert not [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert tab.locator(".chart .main-svg").count() >= len(charts)
    assert tab.locator("table bdi").all_text_contents() == list(NAMES)
    assert not wrong
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.reload()
    tab.locator("#class-surface .plot-container").wait_for()
    boxes = """charts => charts.map(chart => [".gtitle", ".main-svg", ".nsewdrag"].map(part => {
        const box = chart.querySelector(part).getBoundingClientRect(); return [box.right, box.top, box.bottom] }))"""
    for title, chart, plot in tab.locator(".chart").evaluate_all(boxes):
        assert title[0] <= chart[0] and title[1] >= chart[1]  # no title is cut off
        assert title[2] <= plot[1]  # nor on the plot
    tab.close()

"""Curves: histories by their rows, pictures by their data, the command by what it leaves."""

import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.train.curves.command import plot
from interp.train.curves.figures import COLOURS, FIGURES, late_loss_figure, loss_figure, rate_figure
from interp.train.curves.histories import evenly, extremes, read_history, running_mean
from interp.train.curves.page import names_of

AXES = ("tokens", "seconds", "step")
app = typer.Typer()
app.command()(plot)


def rows_of(steps, charges=True, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        row = {"step": step, "tokens": step * 64, "loss": 8 / step**0.1 + random.normal() / 50, "lr": 1e-3 * step}
        row |= {"grad_norm": random.uniform(0.5, 2), "seconds": 20 + step * 0.5}
        if step % 10 == 0:
            row["validation_loss"] = row["loss"] + 0.1
            if charges:
                row["charges"] = {sector: random.uniform(0.1, 9, (2, 3)).tolist() for sector in ("qk", "vo")}
        rows.append(row)
    return rows


def write(path, rows, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + end)
    return path.parent


@pytest.fixture
def run(tmp_path):
    return lambda name="run", steps=300, **more: write(tmp_path / name / "training.jsonl", rows_of(steps, **more))


def test_a_history_has_a_row_per_step_and_nan_where_nothing_was_logged(run):
    history = read_history(run(steps=50))
    assert history["step"].tolist() == list(range(1, 51))
    assert history["validation_loss"].notna().tolist() == [step % 10 == 0 for step in range(1, 51)]
    assert history["energy"].isna().all()
    assert history["tokens_per_second"][1:].tolist() == pytest.approx([128] * 49)  # 64 tokens in half a second
    assert np.isnan(history["tokens_per_second"][0])
    assert np.shape(history["charges"][9]["qk"]) == (2, 3)


def test_a_logged_rate_goes_before_a_computed_one_and_the_file_itself_can_be_named(tmp_path):
    rows = [{**row, "tokens_per_second": 7.0, "energy": 3, "validation_loss": None} for row in rows_of(3)]
    folder = write(tmp_path / "run" / "training.jsonl", rows)
    history = read_history(folder / "training.jsonl")
    assert history["tokens_per_second"].tolist() == [7, 7, 7]
    assert history["energy"].tolist() == [3, 3, 3]
    assert history["validation_loss"].isna().all()


@pytest.mark.parametrize("end", ["", "\n", '\n{"step": 3, "tok', "\n12", "\n\n"])
def test_a_last_line_that_is_being_written_is_left_out(tmp_path, end):
    folder = write(tmp_path / "run" / "training.jsonl", rows_of(2), end)
    assert read_history(folder)["step"].tolist() == [1, 2]


GOOD = '{"step": 1, "tokens": 8, "loss": 2.5, "seconds": 1}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no finished row yet"),
        ('{"step": 1, "to', "no finished row yet"),
        (GOOD + "step 2\n" + GOOD, "Line 2 of .*training.jsonl is not JSON"),
        (GOOD + "[1, 2]\n", "Line 2 .* has no 'step'"),
        (GOOD + GOOD.replace("loss", "los"), "Line 2 .* has no 'loss'"),
        (GOOD.replace("2.5", '"low"'), "Line 1 .* gives 'low' as loss"),
        (GOOD.replace("2.5", "null"), "Line 1 .* gives None as loss"),
        (GOOD.replace("}", ', "lr": [1]}'), r"Line 1 .* gives \[1\] as lr"),
        (GOOD.replace("}", ', "charges": {"qk": [[1, 2], [3]]}}'), r"Line 1 .* has charges that are not"),
        (GOOD.replace("}", ', "charges": 3}'), r"Line 1 .* has charges that are not"),
        ("\xff", "cannot be read as text"),
    ],
)
def test_what_is_no_history_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "training.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(InterpError, match=message):
        read_history(tmp_path)


def test_a_folder_without_a_history_is_refused(tmp_path):
    with pytest.raises(InterpError, match=r"There is no .*training\.jsonl; give the folder"):
        read_history(tmp_path)


@pytest.mark.parametrize("length", [1, 99, 250, 1001, 5000])
def test_the_running_mean_is_the_mean_of_the_rows_around_each_row(length):
    values = np.random.default_rng(0).normal(size=length)
    half = (length // 100 | 1) // 2
    expected = [values[max(0, i - half) : i + half + 1].mean() for i in range(length)]
    np.testing.assert_allclose(running_mean(values), expected, atol=1e-12)


@pytest.mark.parametrize(("length", "limit"), [(1, 2000), (2000, 2000), (2001, 2000), (50_000, 2000), (777, 10)])
def test_thinning_keeps_order_and_every_spike_and_stays_below_its_limit(length, limit):
    random = np.random.default_rng(length)
    values = random.normal(size=length)
    values[random.integers(length)] = np.nan
    spikes = random.choice(length, min(2, length), replace=False)
    values[spikes] = [100, -100][: len(spikes)]
    shown = extremes(values, limit)
    assert len(shown) <= limit
    assert (np.diff(shown) > 0).all()
    assert set(spikes) <= set(shown)
    even = evenly(length, limit)
    assert even[0] == 0 and even[-1] == length - 1 and len(even) == min(length, limit)


def test_a_loss_picture_has_what_was_logged_faint_its_mean_and_the_validation_losses(run):
    histories = {"a": read_history(run()), "b": read_history(run("b", steps=400, seed=1))}
    traces = loss_figure(histories).data
    assert [(t.legendgroup, t.mode) for t in traces] == [
        ("a", "lines"), ("a", "lines"), ("b", "lines"), ("b", "lines"), ("a", "markers"), ("b", "markers"),
    ]  # fmt: skip
    faint, strong, marks = traces[2], traces[3], traces[5]
    loss = histories["b"]["loss"].to_numpy()
    np.testing.assert_allclose(faint.y, loss, rtol=1e-6)
    np.testing.assert_allclose(strong.y, running_mean(loss), rtol=1e-6)
    assert faint.opacity < 1 and strong.opacity is None
    assert list(marks.x) == [64 * step for step in range(10, 401, 10)]
    assert {t.line.color for t in traces[:2]} == {COLOURS[0]} == {traces[4].marker.color}
    assert [t.name for t in traces if t.showlegend] == ["a", "b"]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("x", AXES)
def test_every_picture_has_the_same_points_against_tokens_time_and_steps(run, name, x):
    histories = {"long": read_history(run(steps=250)), "short": read_history(run("short", steps=40))}
    by_step, figure = FIGURES[name](histories, "step"), FIGURES[name](histories, x)
    scale = {"tokens": lambda s: 64 * s, "seconds": lambda s: (20 + s / 2) / 60, "step": lambda s: s}[x]
    for one, other in zip(by_step.data, figure.data, strict=True):
        np.testing.assert_allclose(np.asarray(other.x), scale(np.asarray(one.x)), rtol=1e-6)
        np.testing.assert_array_equal(one.y, other.y)
    assert (
        figure.layout.xaxis.title.text
        == {"tokens": "tokens", "seconds": "time (minutes)", "step": "optimizer steps"}[x]
    )
    assert bool(figure.data) == (name != "energy")


def test_a_charge_picture_has_the_median_over_heads_between_least_and_largest(run):
    history = read_history(run())
    low, high, median = FIGURES["charge-vo"]({"a": history}, "step").data
    heads = np.array([np.ravel(charges["vo"]) for charges in history["charges"].dropna()])
    np.testing.assert_allclose(low.y, heads.min(1), rtol=1e-6)
    np.testing.assert_allclose(high.y, heads.max(1), rtol=1e-6)
    np.testing.assert_allclose(median.y, np.median(heads, 1), rtol=1e-6)
    assert list(median.x) == list(range(10, 301, 10))
    assert FIGURES["charge-vo"]({"a": history}, "step").layout.yaxis.type == "log"
    history["charges"] = [{"vo": [[0.0, 0.0]]}] * len(history)  # no logarithm of zero
    assert FIGURES["charge-vo"]({"a": history}, "step").layout.yaxis.type != "log"
    assert not FIGURES["charge-qk"]({"a": history}, "step").data


def test_the_late_loss_is_scaled_to_means_and_validation_losses_of_the_last_half(run):
    history = read_history(run(steps=1000))
    history.loc[900, "loss"] = 1000.0  # a spike in what was logged may leave the picture, its mean may not
    low, high = late_loss_figure({"a": history}, "step").layout.yaxis.range
    shown = np.concatenate([running_mean(history["loss"].to_numpy())[500:], history["validation_loss"].dropna()[50:]])
    assert low < shown.min() < shown.max() < high < 200
    assert late_loss_figure({"a": history}, "step").layout.xaxis.range[0] == 500


def test_a_long_run_is_thinned_while_its_mean_counts_every_row():
    rows = rows_of(1)[0]
    loss = np.random.default_rng(0).normal(5, 1, 60_000)
    history = frame([{**rows, "step": step, "loss": value} for step, value in enumerate(loss, 1)])
    faint, strong = loss_figure({"a": history}, "step").data
    assert len(faint.x) <= 2000 and len(strong.x) <= 500
    assert max(faint.y) == pytest.approx(loss.max()) and min(faint.y) == pytest.approx(loss.min())
    place = list(strong.x)[250] - 1
    assert strong.y[250] == pytest.approx(loss[place - 300 : place + 301].mean(), rel=1e-6)


def frame(rows):
    import pandas as pd

    return pd.DataFrame(rows).reindex(columns=["step", "tokens", "loss", "seconds", "validation_loss"])


def test_names_of_runs_are_escaped_for_plotly(run):
    trace = loss_figure({"<b>&": read_history(run())}).data[0]
    assert trace.name == trace.legendgroup == "&lt;b&gt;&amp;"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/a/last", "x/b/last"], ["a/last", "b/last"]),
        (["a/training.jsonl", "b"], ["a", "b"]),
        (["a/one.jsonl", "a/two.jsonl"], ["one.jsonl", "two.jsonl"]),
        (["a", "a"], ["a (1)", "a (2)"]),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(tmp_path, paths, names):
    assert names_of([tmp_path / path for path in paths]) == names


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#1d2126"])
def test_the_colour_of_a_run_stands_out_from_the_light_and_the_dark_page(colour, page):
    low, high = sorted((luminance(colour), luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.2, 1.4.11


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def test_the_command_writes_one_page_and_prints_its_address(run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = tmp_path / "pages" / "curves.html"
    result = CliRunner().invoke(app, [str(run()), str(run("b")), "-o", str(page), "--open"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == page.as_uri() == opened[0]
    assert [file.name for file in page.parent.iterdir()] == ["curves.html"]


def test_the_command_refuses_a_run_without_history_in_one_line_and_writes_nothing(run, tmp_path):
    page = tmp_path / "curves.html"
    result = CliRunner().invoke(app, [str(run()), str(tmp_path / "nowhere"), "-o", str(page)])
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "There is no" in result.stderr
    assert not page.exists()


def test_help_loads_neither_torch_nor_plotly_nor_pandas():
    code = (
        "import sys, typer; from typer.testing import CliRunner; from interp.train.curves.command import plot; "
        "app = typer.Typer(); app.command()(plot); result = CliRunner().invoke(app, ['--help']); "
        "assert '--output' in result.stdout; "
        "print([m for m in ('torch', 'plotly', 'pandas', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"COLUMNS": "200", "PATH": ""}
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_learning_rates_far_apart_share_a_logarithmic_axis(tmp_path):
    near, far = ({"a": 1e-3, "b": 3e-3}, {"a": 1e-3, "b": 1.0})
    for rates, kind in ((near, None), (far, "log")):
        histories = {}
        for name, rate in rates.items():
            rows = [{"step": s, "tokens": s, "loss": 1.0, "seconds": s, "lr": rate} for s in (1, 2, 3)]
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
            histories[name] = read_history(tmp_path / name)
        assert rate_figure(histories, "tokens").layout.yaxis.type == kind

"""Pictures of training by their data."""

import json

import numpy as np
import pandas as pd
import pytest

from interp.page.look import COLOURS
from interp.train.curves.figures import FIGURES, late_loss_figure, loss_figure, rate_figure, read_history, running_mean
from tests.train.curves.histories import rows_of

AXES = ("tokens", "seconds", "step", "share")


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
    steps = {"long": 250, "short": 40}
    scale = {"tokens": lambda s, _: 64 * s, "seconds": lambda s, _: (20 + s / 2) / 60, "step": lambda s, _: s,
             "share": lambda s, run: 100 * s / steps[run]}[x]  # fmt: skip
    for one, other in zip(by_step.data, figure.data, strict=True):
        np.testing.assert_allclose(np.asarray(other.x), scale(np.asarray(one.x), one.legendgroup), rtol=1e-6)
        np.testing.assert_array_equal(one.y, other.y)
    titles = {
        "tokens": "tokens",
        "seconds": "time (minutes)",
        "step": "optimizer steps",
        "share": "share of training (%)",
    }
    assert figure.layout.xaxis.title.text == titles[x]
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
    history = pd.DataFrame([{**rows, "step": step, "loss": value} for step, value in enumerate(loss, 1)])
    history = history.reindex(columns=["step", "tokens", "loss", "seconds", "validation_loss"])
    faint, strong = loss_figure({"a": history}, "step").data
    assert len(faint.x) <= 2000 and len(strong.x) <= 500
    assert max(faint.y) == pytest.approx(loss.max()) and min(faint.y) == pytest.approx(loss.min())
    place = list(strong.x)[250] - 1
    assert strong.y[250] == pytest.approx(loss[place - 300 : place + 301].mean(), rel=1e-6)


def test_names_of_runs_are_escaped_for_plotly(run):
    trace = loss_figure({"<b>&": read_history(run())}).data[0]
    assert trace.name == trace.legendgroup == "&lt;b&gt;&amp;"


def test_learning_rates_far_apart_share_a_logarithmic_axis(tmp_path):
    near, far = ({"a": 1e-3, "b": 3e-3}, {"a": 1e-3, "b": 1.0})
    for rates, kind in ((near, None), (far, "log")):
        histories = {}
        for name, rate in rates.items():
            rows = [{"step": s, "tokens": s, "loss": 1.0, "seconds": s, "lr": rate} for s in (1, 2, 3)]
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
            histories[name] = read_history(tmp_path / name)
        assert rate_figure(histories, "tokens").layout.yaxis.type == kind

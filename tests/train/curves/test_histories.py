"""Histories by their rows: what is read, averaged and thinned."""

import numpy as np
import pytest

from interp.errors import InterpError
from interp.train.curves.figures import evenly, extremes, read_history, running_mean
from tests.train.curves.histories import rows_of, write


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

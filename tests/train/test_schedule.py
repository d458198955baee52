import itertools

import numpy as np
import pytest

from interp.train.loop import on_a_plateau
from interp.train.step import learning_rate


def rates(schedule, steps=101, warmup=0.1, decay=0.3, final=0.2):
    return [learning_rate(schedule, step, steps, warmup, decay, final) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "wsd"])
def test_every_schedule_rises_linearly_to_its_peak_and_never_rises_again(schedule):
    values = rates(schedule)
    np.testing.assert_allclose(values[:10], np.arange(1, 11) / 10)
    assert values[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))
    assert values[100] == pytest.approx(1.0 if schedule == "constant" else 0.2)


def test_the_shapes_differ_in_the_middle():
    step = np.arange(101)
    falling = (step[10:] - 10) / 90
    np.testing.assert_allclose(rates("cosine")[10:], 0.2 + 0.4 * (1 + np.cos(np.pi * falling)))
    np.testing.assert_allclose(rates("linear")[10:], 1 - 0.8 * falling)
    np.testing.assert_allclose(rates("constant")[10:], 1.0)
    np.testing.assert_allclose(rates("wsd")[10:], np.minimum(1.0, 1 - 0.8 * (step[10:] - 70) / 30))


def test_a_run_of_one_step_has_a_learning_rate():
    assert learning_rate("wsd", 0, 1, 0.0, 0.2, 0.1) == 1.0
    assert learning_rate("cosine", 0, 1, 0.5, 0.2, 0.1) == 1.0


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3.0, 2.0, 2.0, 2.1], 2, True),
        ([3.0, 2.0, 2.1, 1.9], 2, False),
        ([3.0, 2.0, 2.1], 2, False),
        ([2.0, 2.0], 2, False),
        ([1.0, 2.0, 3.0, 4.0], 0, False),
        ([], 3, False),
    ],
)
def test_a_plateau_is_so_many_losses_that_are_not_lower_than_the_best_before(losses, patience, expected):
    assert on_a_plateau(losses, patience) is expected

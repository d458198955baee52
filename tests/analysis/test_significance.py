import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.significance import (
    benjamini_hochberg,
    corrected_within,
    p_of_deviation,
    p_of_projection,
    p_of_rank,
    reach_of_deviation,
    reach_of_draws,
    reach_of_projection,
)

P = st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), min_size=1, max_size=30)


@given(P, st.floats(0.01, 0.5))
def test_q_at_most_alpha_are_the_discoveries_of_the_step_up_rule(values, alpha):
    p = np.array(values)
    known = np.sort(p[~np.isnan(p)])
    passing = [threshold for rank, threshold in enumerate(known, 1) if threshold <= alpha * rank / len(known)]
    expected = p <= max(passing, default=-1.0)
    near = np.isclose(benjamini_hochberg(p), alpha, rtol=1e-9)
    np.testing.assert_array_equal((benjamini_hochberg(p) <= alpha)[~near], expected[~near])
    np.testing.assert_array_equal(np.isnan(benjamini_hochberg(p)), np.isnan(p))


def test_correction_stays_within_its_group():
    p = np.random.default_rng(0).random(12)
    frame = pd.DataFrame({"scheme": ["a"] * 5 + ["b"] * 7, "p": p})
    q = corrected_within(frame, ["scheme"])
    np.testing.assert_allclose(q, [*benjamini_hochberg(p[:5]), *benjamini_hochberg(p[5:])])


def test_ranks_count_the_value_itself_and_are_never_zero():
    draws = np.array([[-3.0], [1.0], [2.0]])
    assert p_of_rank(np.array([2.0]), draws).tolist() == [3 / 4]
    assert p_of_rank(np.array([9.0]), draws).tolist() == [1 / 4]
    assert p_of_rank(np.array([9.0]), draws, centre=9.0).tolist() == [1.0]
    assert np.isnan(p_of_rank(np.array([np.nan]), draws)).all()


def test_known_values_of_normal_student_and_circle():
    one, zero = np.array([1.0]), np.array([0.0])
    np.testing.assert_allclose(p_of_deviation(1.959964 * one, zero, one), 0.05, rtol=1e-5)
    np.testing.assert_allclose(p_of_deviation(2.776445 * one, zero, one, 4), 0.05, rtol=1e-5)
    assert np.isnan(p_of_deviation(one, zero, zero)).all()
    angles = np.array([0.3, 1.2])  # on a circle the angle is uniform; on a sphere the cosine is (Archimedes)
    np.testing.assert_allclose(p_of_projection(np.cos(angles), 2), angles / (np.pi / 2))
    np.testing.assert_allclose(p_of_projection(np.cos(angles), 3), 1 - np.cos(angles))


def test_reach_is_where_p_is_what_is_left_of_the_level():
    sd, zero = np.array([0.3, 2.0]), np.zeros(2)
    for level in (0.5, 0.95):
        for freedom in (1, 7, np.inf):
            np.testing.assert_allclose(
                p_of_deviation(reach_of_deviation(sd, freedom, level), zero, sd, freedom), 1 - level
            )
        for size in (2, 3, 64):
            np.testing.assert_allclose(p_of_projection(np.array([reach_of_projection(size, level)]), size), 1 - level)
    np.testing.assert_allclose(reach_of_draws(sd, 0), 1.959964 * sd, rtol=1e-6)


def test_eight_draws_tell_where_the_next_one_lies_and_1_96_sd_do_not():
    draws = np.random.default_rng(0).normal(5, 2, (9, 200_000))
    mean, sd = draws[:8].mean(0), draws[:8].std(0, ddof=1)
    error = 3 * np.sqrt(0.05 * 0.95 / draws.shape[1])
    assert abs((np.abs(draws[8] - mean) > reach_of_draws(sd, 8)).mean() - 0.05) < error
    assert (np.abs(draws[8] - mean) > 1.96 * sd).mean() > 0.1


def test_overlapping_classes_of_a_scheme_are_corrected_together():
    p = [0.01, 0.2, 0.03, 0.5]
    frame = pd.DataFrame({"null": "direction", "scheme": ["mine/a", "mine/b", "mine/c", "pos"], "p": p})
    q = corrected_within(frame, ["null", "scheme"])
    np.testing.assert_allclose(q, [*benjamini_hochberg(np.array(p[:3])), 0.5])

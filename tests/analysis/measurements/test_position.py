import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from interp.analysis.measurements.position import Positions, adjusted_contrasts
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from tests.analysis.passes import halves_and_whole, measurement_of
from tests.analysis.reference import contrast, jackknifed, observe, regression, rows_of

LENGTHS = [33, 7, 50, 21, 64, 40]


def sums_of(scores, classes, strata, n_classes, n_strata):
    count = np.zeros((n_classes, n_strata), dtype=np.int64)
    np.add.at(count, (classes, strata), 1)
    by_class = np.bincount(classes, scores, n_classes)[None]
    return count, by_class.astype(float), np.bincount(strata, scores, n_strata)[None].astype(float)


@given(st.integers(2, 6), st.integers(1, 8), st.integers(30, 120), st.integers(0, 1000))
def test_adjusted_contrasts_are_least_squares_on_class_and_stratum(n_classes, n_strata, tokens, seed):
    random = np.random.default_rng(seed)
    classes, strata = random.integers(n_classes, size=tokens), random.integers(n_strata, size=tokens)
    classes[:n_classes], strata[:n_classes] = np.arange(n_classes), 0  # every class is there, and all meet in stratum 0
    scores = random.normal(size=tokens) + 3 * strata + classes
    found = adjusted_contrasts(*sums_of(scores, classes, strata, n_classes, n_strata))[0]
    expected = regression(scores, classes, np.unique(strata, return_inverse=True)[1], n_classes)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    shifted = adjusted_contrasts(*sums_of(scores + 7.0 * strata**2, classes, strata, n_classes, n_strata))[0]
    np.testing.assert_allclose(shifted, found, atol=1e-7)  # what is the same for a whole stratum does not matter


def test_without_strata_or_with_balanced_ones_nothing_is_adjusted():
    random = np.random.default_rng(0)
    classes, strata = np.tile(np.repeat([0, 1, 2], [1, 2, 5]), 4), np.repeat(np.arange(4), 8)
    scores = random.normal(size=32)
    plain = [contrast(scores, classes, c) for c in range(3)]
    for of_token, size in ((strata, 4), (np.zeros(32, dtype=int), 1)):
        np.testing.assert_allclose(adjusted_contrasts(*sums_of(scores, classes, of_token, 3, size))[0], plain)


def test_classes_that_share_no_stratum_with_the_others_are_missing():
    classes, strata = np.array([0, 0, 1, 1, 1, 2, 2]), np.array([0, 1, 1, 0, 0, 2, 2])
    found = adjusted_contrasts(*sums_of(np.arange(7.0), classes, strata, 4, 3))[0]
    assert np.isnan(found[2:]).all()
    np.testing.assert_allclose(found[:2], regression(np.arange(5.0), classes[:5], strata[:5], 2))
    assert np.isnan(adjusted_contrasts(*sums_of(np.zeros(0), classes[:0], strata[:0], 2, 3))).all()


@pytest.mark.parametrize("by_frequency", [False, True])
def test_the_table_equals_a_regression_over_tokens_and_its_jackknife(
    make_model, make_documents, make_scheme, by_frequency
):
    model, schemes = make_model(), [make_scheme("other", 2), make_scheme("s", 3)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    tenth = np.random.default_rng(0).integers(2, size=model.cfg.d_vocab)
    result = measure(model, documents, schemes, Settings(nulls=0), deciles=tenth if by_frequency else None)
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    scores = np.concatenate([s[2] for s in observe(model.double(), rows, 1, 2)])
    model.float()
    places = np.concatenate([np.arange(len(row)) for row in rows])
    name = "position and frequency" if by_frequency else "position"
    strata = np.floor(4 * np.log2(places + 1)).astype(int) * 2 + tenth[torch.cat(rows)] if by_frequency else places
    folds = np.repeat(np.arange(len(documents)), LENGTHS)
    labels = np.concatenate(labels)
    value, error, freedom = jackknifed(lambda y, c, s: regression(y, c, s, 3), folds, labels, scores, labels, strata)
    assert (freedom >= 3.2).all()
    table = result.adjusted[
        (result.adjusted["adjusted_for"] == name) & (result.adjusted["scheme"] == "s")
        & (result.adjusted["layer"] == 1) & (result.adjusted["head"] == 2)
    ]  # fmt: skip
    np.testing.assert_allclose(table["bias_score_contrast"], value, atol=1e-5)
    half = stats.t.ppf(0.975, freedom) * error
    np.testing.assert_allclose(table["ci_high"] - table["bias_score_contrast"], half, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(table["p"], 2 * stats.t.sf(np.abs(value) / error, freedom), atol=1e-3)
    assert (table["folds"] == len(documents)).all()
    assert set(result.adjusted["adjusted_for"]) == {"nothing", "position", *([name] if by_frequency else [])}


def test_adjusted_for_nothing_is_the_contrast_of_the_heads_table(make_model, make_documents, make_scheme):
    model, schemes = make_model(), [make_scheme("a", 3), make_scheme("all", 1)]
    result = measure(model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes, Settings(nulls=0))
    plain = result.adjusted[result.adjusted["adjusted_for"] == "nothing"]
    np.testing.assert_allclose(plain["bias_score_contrast"], result.heads["bias_score_contrast"], atol=1e-10)
    everything = plain[plain["scheme"] == "all"]
    assert (everything["bias_score_contrast"] == 0).all() and everything["p"].isna().all()


def test_the_profile_of_positions_has_jackknife_intervals(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    positions = measure(model, documents, [scheme], Settings(nulls=0)).positions
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    scores = np.concatenate([s[2] for s in observe(model.double(), rows, 0, 1)])
    model.float()
    places = np.concatenate([np.arange(len(row)) for row in rows])
    folds = np.repeat(np.arange(len(documents)), LENGTHS)
    value, error, freedom = jackknifed(
        lambda y, p: np.bincount(p, y, 20) / np.bincount(p, minlength=20), folds, places, scores, places
    )  # fmt: skip
    table = positions[(positions["layer"] == 0) & (positions["head"] == 1)]
    assert (freedom >= 3.2).any()
    half = np.where(freedom >= 3.2, stats.t.ppf(0.975, freedom) * error, np.nan)
    np.testing.assert_allclose(table["effective_documents"], freedom + 1)
    np.testing.assert_allclose(table["ci_low"], value - half, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(table["ci_high"], value + half, rtol=1e-3, atol=1e-5)


def test_a_class_of_one_document_has_no_interval_and_no_p(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    for document in documents[1:]:
        document.classes["s"][document.classes["s"] == 2] = 1
    one = measure(model, documents, [scheme], Settings(nulls=0)).adjusted
    assert one.loc[one["token_class"] == "s2", ["ci_low", "p", "q"]].isna().all(axis=None)
    assert one.loc[one["token_class"] == "s2", "bias_score_contrast"].notna().all()
    assert one.loc[one["token_class"] == "s1", "p"].notna().all()
    alone = measure(model, documents[:1], [scheme], Settings(nulls=0)).adjusted
    assert alone["ci_low"].isna().all()


def test_adjusted_contrasts_do_not_depend_on_batches_or_workers(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    tenth = np.arange(model.cfg.d_vocab) % 10
    documents = make_documents([scheme], model.cfg.d_vocab, [20, 35, 5, 20, 40])  # rows of 20 end where documents do
    one, many = (measure(model, documents, [scheme], Settings(batch_size=b, nulls=0), deciles=tenth) for b in (1, 5))
    pd.testing.assert_frame_equal(one.adjusted, many.adjusted, rtol=1e-3, atol=1e-4)
    settings = Settings(batch_size=2, nulls=0)
    merged, whole = (
        measurement_of(found, Positions) for found in halves_and_whole(model, documents, [scheme], settings, tenth)
    )
    assert [each.strata.name for each in whole.strata] == ["position", "position and frequency"]
    torch.testing.assert_close(merged.positions.sum, whole.positions.sum, rtol=1e-6, atol=1e-6)
    for a, b in zip(merged.strata, whole.strata, strict=True):
        assert torch.equal(a.count, b.count)
        torch.testing.assert_close((a.by_class, a.by_stratum), (b.by_class, b.by_stratum), rtol=1e-6, atol=1e-6)


def test_deciles_of_another_vocabulary_are_refused_and_short_ones_filled(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], 30, LENGTHS)
    for wrong in (np.zeros(model.cfg.d_vocab + 1, dtype=np.int64), np.array([0, 10]), np.array([-1, 0])):
        with pytest.raises(InterpError, match="expected one from 0 to 9"):
            measure(model, documents, [scheme], Settings(nulls=0), deciles=wrong)
    short, full = np.arange(30) % 10, np.append(np.arange(30) % 10, np.full(model.cfg.d_vocab - 30, 9))
    tables = [measure(model, documents, [scheme], Settings(nulls=0), deciles=each).adjusted for each in (short, full)]
    pd.testing.assert_frame_equal(*tables)


def test_adjusted_contrasts_are_saved_and_loaded(make_model, make_documents, make_scheme, tmp_path):
    model, scheme = make_model(), make_scheme("s", 3)
    result = measure(model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), [scheme], Settings(nulls=0))
    result.save(tmp_path)
    pd.testing.assert_frame_equal(Amplification.load(tmp_path).adjusted, result.adjusted)

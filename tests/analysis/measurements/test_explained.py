import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.measurement import Context
from interp.analysis.measurements.explained import NUMBERS, overview
from interp.analysis.measurements.position import explained_beyond
from interp.analysis.nulls.spread import DRAWS
from interp.analysis.readers.own import OwnReader
from interp.analysis.result import Amplification
from interp.analysis.run import Pass, measure
from interp.analysis.settings import Settings
from tests.analysis.nulls.test_equal_spread import LENGTHS, Recorded, explicit, rare
from tests.analysis.planted import plant


def r_squared(scores, *groupings):
    """Part of the sum of squares that least squares on the dummies of groupings explains."""
    design = np.concatenate([np.eye(groups.max() + 1)[groups] for groups in groupings], axis=1)
    left = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    return 1 - np.square(left).sum() / np.square(scores - scores.mean()).sum()


@given(st.integers(1, 6), st.integers(1, 12), st.integers(5, 80), st.integers(0, 1000))
def test_what_classes_explain_beyond_strata_is_a_difference_of_two_fits(n_classes, n_strata, tokens, seed):
    """Groups may be empty, and classes may share no stratum with others."""
    random = np.random.default_rng(seed)
    classes = random.integers(n_classes, size=tokens)
    strata = np.where(classes % 2, random.integers(n_strata, size=tokens), random.integers(2, size=tokens) + n_strata)
    scores = random.normal(size=tokens) + classes + strata
    count = np.zeros((n_classes, n_strata + 2), dtype=np.int64)
    np.add.at(count, (classes, strata), 1)
    sums = [
        np.bincount(groups, scores, size)[None] for groups, size in zip((classes, strata), count.shape, strict=True)
    ]
    total = np.square(scores - scores.mean()).sum()
    expected = r_squared(scores, classes, strata) - r_squared(scores, strata)
    assert explained_beyond(count, *sums)[0] / total == pytest.approx(expected, abs=1e-9)


def test_the_table_equals_least_squares_over_tokens(make_model, make_documents, make_scheme, monkeypatch):
    model, schemes = make_model(n_layers=1), [make_scheme("other", 2), make_scheme("s", 5)]
    keys, documents = Recorded(model.cfg), rare(make_documents(schemes, 25, LENGTHS))
    plant(monkeypatch, keys)
    monkeypatch.setattr("interp.analysis.run.frequent_types", lambda *_: np.array([3, 7, 24, 11]))
    explained = measure(model, documents, schemes, Settings(nulls=0, passages=0, batch_size=1, fit_tokens=0)).tables[
        "explained"
    ]
    labels, places, tokens, rows = explicit(documents, model.cfg.n_ctx)
    frequent = np.select([tokens == 3, tokens == 7, tokens == 24, tokens == 11], [0, 1, 2, 3], 4)
    octaves = np.floor(4 * np.log2(places + 1)).astype(int)
    k, random = keys.flat(rows), np.random.default_rng(0)
    for head in range(model.cfg.n_heads):
        b = model.biases_in_force()[0][0, head].double().numpy()
        y = k[:, head] @ b / model.cfg.d_head**0.5
        row = explained.query("scheme == 's' and head == @head").iloc[0]
        expected = {
            "eta2_position": r_squared(y, places), "eta2_type": r_squared(y, tokens), "eta2_class": r_squared(y, labels),
            "eta2_class_beyond_position": r_squared(y, labels, places) - r_squared(y, places),
            "eta2_class_beyond_type": r_squared(y, labels, tokens) - r_squared(y, tokens),
            "eta2_position_beyond_class": r_squared(y, labels, places) - r_squared(y, labels),
            "eta2_type_beyond_position": r_squared(y, tokens, octaves) - r_squared(y, octaves),
            "eta2_frequent_type": r_squared(y, frequent),
        }  # fmt: skip
        np.testing.assert_allclose(row[list(expected)].astype(float), list(expected.values()), atol=1e-6)
        covariance = np.cov(k[:, head].T, bias=True)
        assert row["key_spread"] == pytest.approx(
            np.sqrt(y.var() * model.cfg.d_head**2 / (b @ b * np.trace(covariance))), rel=1e-6
        )
        directions = np.linalg.solve(np.linalg.cholesky(covariance).T, random.standard_normal((len(b), 4000))).T
        for name, groups in (("eta2_position", places), ("eta2_class", labels), ("eta2_frequent_type", frequent)):
            scores = k[:, head] @ directions.T
            fitted = np.stack([scores[groups == g].mean(0) for g in range(groups.max() + 1) if (groups == g).any()])
            n = np.unique(groups, return_counts=True)[1]
            etas = (n[:, None] * np.square(fitted - scores.mean(0))).sum(0) / (len(scores) * scores.var(0))
            assert row[f"{name}_control"] == pytest.approx(etas.mean(), abs=4 * etas.std() / 4000**0.5)
            p = (etas >= expected[name]).mean()
            assert row[f"{name}_p"] == pytest.approx(
                p, abs=4 * np.sqrt(p * (1 - p) * (1 / DRAWS + 1 / 4000)) + 2 / DRAWS
            )
    permuted = [r_squared(random.permutation(y), tokens) for _ in range(200)]
    assert explained["eta2_type_chance"].iloc[0] == pytest.approx(np.mean(permuted), abs=0.01)


def test_a_head_without_a_bias_is_missing_and_left_out_of_the_overview(
    make_model, make_documents, make_scheme, tmp_path
):
    model, schemes = make_model(), [make_scheme("s", 4), make_scheme("all", 1)]
    direction = model.mean_biases()[0].clone()
    direction[0, 1] = 0
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, schemes, Settings(nulls=0, direction=direction))
    explained = result.tables["explained"]
    silent = (explained["layer"] == 0) & (explained["head"] == 1)
    numbers = list(NUMBERS)
    known = explained[~silent & (explained["scheme"] == "s")]
    assert explained.loc[silent, numbers].isna().all(axis=None) and known[numbers].notna().all(axis=None)
    assert len(explained) == model.cfg.n_layers * model.cfg.n_heads * 2
    of_all = explained[~silent & (explained["scheme"] == "all")]
    assert (of_all["eta2_class"] < 1e-12).all() and of_all["eta2_class_p"].isna().all()  # one class explains nothing
    medians = overview(explained)
    assert medians["s"] == pytest.approx({name: np.median(known[name]) for name in NUMBERS})
    without = measure(model, documents, schemes, Settings(nulls=0, bias="none")).tables["explained"]
    assert np.isnan(list(overview(without)["s"].values())).all()
    result.save(tmp_path)
    pd.testing.assert_frame_equal(Amplification.load(tmp_path).tables["explained"], explained)


def test_two_halves_merge_to_the_whole(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [20, 35, 5, 20, 40])  # rows of 20 end where documents do
    with model.evaluating(), model.bias(bias="mean"):
        context = Context.of(OwnReader(model), [scheme], Settings(nulls=0, passages=0))
        whole, left, right = Pass(context), Pass(context), Pass(context)
        for part, chosen in ((whole, documents), (left, documents[:3]), (right, documents[3:])):
            part.add(chosen, None)
        left.merge(right)
        tables, merged = whole.tables(), left.tables()
    pd.testing.assert_frame_equal(merged["explained"], tables["explained"], rtol=1e-4, atol=2e-3)  # atol: sampled p
    for column in ("class_p", "class_beyond_p"):
        np.testing.assert_allclose(merged["heads"][column], tables["heads"][column], rtol=1e-3)

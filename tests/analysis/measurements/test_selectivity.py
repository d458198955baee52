import numpy as np
import pandas as pd
import pytest

from interp.analysis.measurements.selectivity import profile_clusters, selectivity_table
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.model.config import BiasConfig
from tests.analysis.reference import observe, rows_of

LENGTHS = [33, 7, 50, 21, 64]


def test_eta_squared_is_the_variance_that_class_means_explain(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, [scheme], Settings(nulls=0))
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    scores, flat = np.concatenate([s[2] for s in observe(model.double(), rows, 1, 2)]), np.concatenate(labels)
    model.float()
    fitted = np.array([scores[flat == c].mean() for c in range(4)])[flat]
    one = result.selectivity().set_index(["layer", "head"]).loc[(1, 2)]
    assert one["eta_squared"] == pytest.approx(fitted.var() / scores.var(), abs=1e-5)
    table = result.heads[(result.heads["layer"] == 1) & (result.heads["head"] == 2)].set_index("token_class")
    np.testing.assert_allclose(table["bias_score_sd"], [scores[flat == c].std(ddof=1) for c in range(4)], atol=1e-5)
    assert one["best_auroc"] == table.loc[one["best_class"], "auroc"]
    assert abs(one["best_auroc"] - 0.5) == (table["auroc"] - 0.5).abs().max()
    weights = table["log2_amplification"].abs() / table["log2_amplification"].abs().sum()
    assert one["profile_entropy"] == pytest.approx(-(weights * np.log(weights)).sum() / np.log(4))
    expected = (table["share"] * np.log2(table["share"] / table["share_unbiased"])).sum()
    assert one["divergence"] == pytest.approx(expected, abs=1e-9)
    assert (result.selectivity()["divergence"] > -1e-9).all()  # a Kullback-Leibler divergence


def heads_with(profiles, n_tokens=100):
    """A heads table of one layer whose head h amplifies class c by profiles[h][c]."""
    return pd.DataFrame([
        {"model": "m", "layer": 0, "head": h, "scheme": "s", "token_class": f"c{c}", "n_tokens": n_tokens,
         "bias_score_mean": effect, "bias_score_sd": 1.0, "auroc": 0.5 + effect / 10, "log2_amplification": effect,
         "share": 0.25}
        for h, profile in enumerate(profiles) for c, effect in enumerate(profile)
    ])  # fmt: skip


def test_heads_of_like_shape_share_a_cluster_whatever_their_strength():
    random = np.random.default_rng(0)
    shapes = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1], [1, 1, -1, -1]])
    kinds = random.integers(3, size=20)
    profiles = shapes[kinds] * random.uniform(0.2, 3, (20, 1)) + random.normal(0, 0.02, (20, 4))
    found = profile_clusters(heads_with(profiles), clusters=3)
    for kind in range(3):
        assert found["cluster"][kinds == kind].nunique() == 1
        places = np.sort(found["order"][kinds == kind])
        np.testing.assert_array_equal(places, np.arange(places[0], places[0] + len(places)))  # side by side in the tree
    assert found["cluster"].nunique() == 3
    assert sorted(found["order"]) == list(range(20))


def test_one_class_alone_has_entropy_zero_and_equal_ones_have_one():
    table = selectivity_table(heads_with([[0, 2.0, 0, 0], [1.0, -1, 1, -1], [0, 0, 0, 0]]), clusters=2)
    np.testing.assert_allclose(table["profile_entropy"], [0, 1, np.nan])
    assert table["best_class"][0] == "c1"
    assert table["cluster"][:2].notna().all() and np.isnan(table["cluster"][2])


def test_a_rare_class_is_not_called_the_best_nor_part_of_the_profile():
    heads = heads_with([[1.0, -1, 9], [1.0, 1, 9]])
    heads.loc[heads["token_class"] == "c2", "n_tokens"] = 19
    table = selectivity_table(heads)
    assert (table["best_class"] != "c2").all()
    np.testing.assert_allclose(table["profile_entropy"], 1)
    heads["n_tokens"] = 20
    assert (selectivity_table(heads)["best_class"] == "c2").all()


def test_rare_classes_make_no_profile_and_a_head_without_bias_has_no_selectivity(
    make_model, make_documents, make_scheme
):
    assert profile_clusters(heads_with([[1.0, 0], [0, 1.0]], n_tokens=19))["cluster"].isna().all()
    scheme = make_scheme("s", 4)
    model = make_model(q=BiasConfig())
    table = measure(
        model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), [scheme], Settings(nulls=0)
    ).selectivity()
    assert table[["eta_squared", "best_class", "best_auroc", "profile_entropy", "cluster"]].isna().all(axis=None)
    assert (table["divergence"] == 0).all()


def test_every_scheme_has_its_rows_and_they_are_saved_and_loaded(make_model, make_documents, make_scheme, tmp_path):
    model, schemes = make_model(), [make_scheme("a", 3), make_scheme("b", 5)]
    result = measure(model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes, Settings(nulls=0))
    assert result.selectivity().groupby("scheme").size().to_dict() == {"a": 6, "b": 6}
    result.save(tmp_path)
    pd.testing.assert_frame_equal(Amplification.load(tmp_path).selectivity(), result.selectivity())

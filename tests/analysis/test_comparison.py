from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interp.analysis.comparison.paired import OVER_DOCUMENTS, OVER_HEADS, compare_results, newcombe, stronger
from interp.analysis.comparison.result import NO_CORRESPONDENCE, Comparison
from interp.analysis.interventions.result import Interventions
from interp.analysis.interventions.uses import Uses
from interp.analysis.measurements.shares import replicate_values
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.reference import observe, rows_of

LENGTHS = [33, 7, 50, 21, 64, 12, 40, 18]
REPLICATES = 40


@pytest.fixture(scope="module")
def scheme(make_scheme):
    return make_scheme("s", 3)


@pytest.fixture(scope="module")
def documents(make_documents, scheme):
    return make_documents([scheme], 60, LENGTHS)


@pytest.fixture(scope="module")
def twins(make_model, documents, scheme):
    """Two models that differ a little: their replicates go up and down together."""
    models = make_model(seed=1), make_model(seed=1, std=0.21)
    return [measure(model, documents, [scheme], Settings(replicates=REPLICATES, seed=3, nulls=4)) for model in models]


def shares_by_document(model, documents, scheme, layer, head):
    """Sums over each document's queries of their attention per class, with and without: [document, 2, class], float64."""
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    owners = np.repeat(np.arange(len(documents)), [len(d.tokens) for d in documents])
    sums, start = np.zeros((len(documents), 2, len(scheme.classes))), 0
    for (with_bias, without, _, _), row in zip(observe(model, rows, layer, head), labels, strict=True):
        one_hot = np.eye(len(scheme.classes))[row]
        for query, owner in enumerate(owners[start : start + len(row)]):
            for place, pattern in enumerate((with_bias, without)):
                sums[owner, place] += pattern[query] @ one_hot
        start += len(row)
    return sums


@pytest.mark.slow
def test_a_paired_interval_equals_brute_force_replicates_of_both_models(make_model, documents, scheme):
    models = make_model(seed=1), make_model(seed=5, positional="rope")
    results = [
        measure(m, documents, [scheme], Settings(replicates=REPLICATES, seed=3, nulls=0, batch_size=3)) for m in models
    ]
    table = compare_results(*results).heads
    weights = np.array([np.random.default_rng([3, d]).poisson(1.0, REPLICATES) for d in range(len(documents))])
    labels = np.array([np.bincount(d.classes["s"], minlength=3) for d in documents], dtype=float)
    m = labels.sum(0) ** 2 / (labels**2).sum(0)
    for layer, head in ((0, 1), (1, 2)):
        values, replicates = [], []
        for model in models:
            sums = shares_by_document(model.double(), documents, scheme, layer, head)
            model.float()
            values.append(np.log2(sums.sum(0)[0] / sums.sum(0)[1]))
            drawn = np.einsum("dr,dsc->rsc", weights, sums) / sums.sum(0)
            replicates.append((drawn[:, 0] - drawn[:, 1]) / np.log(2))  # to first order in the weights
        difference, sd = values[1] - values[0], (replicates[1] - replicates[0]).std(0, ddof=1)
        half = stats.t.ppf(0.975, m - 1) * sd * np.sqrt(m / (m - 1))
        rows = table[(table["layer"] == layer) & (table["head"] == head)]
        np.testing.assert_allclose(rows["difference"], difference, atol=1e-4)
        np.testing.assert_allclose(rows["ci_high"] - rows["ci_low"], 2 * half, rtol=2e-3)
        np.testing.assert_allclose((rows["ci_low"] + rows["ci_high"]) / 2, difference, atol=1e-4)
        p = 2 * stats.t.sf(np.abs(difference) / (sd * np.sqrt(m / (m - 1))), m - 1)
        np.testing.assert_allclose(rows["p"], p, rtol=2e-2)


def test_pairing_is_narrower_than_the_two_intervals_for_results_that_go_together(twins):
    table = compare_results(*twins).heads
    width = {side: table[f"ci_high{side}"] - table[f"ci_low{side}"] for side in ("", "_a", "_b")}
    unpaired = np.hypot(width["_a"], width["_b"])
    assert (width[""] < unpaired).mean() > 0.9
    assert (width[""] / unpaired).median() < 0.6


def test_a_result_against_itself_differs_by_nothing_with_certainty(twins):
    found = compare_results(twins[0], twins[0])
    for table in (found.heads, found.classes[found.classes["interval_over"] == OVER_DOCUMENTS]):
        for column in ("difference", "ci_low", "ci_high"):
            assert (table[column] == 0).all(), column
    over_heads = found.classes[found.classes["interval_over"] == OVER_HEADS]
    assert len(over_heads) and (over_heads["difference"] == 0).all()
    np.testing.assert_allclose(over_heads["ci_low"], -over_heads["ci_high"])


def test_swapping_a_and_b_flips_the_signs(twins):
    there, back = compare_results(*twins), compare_results(*twins[::-1])
    for one, other in ((there.heads, back.heads), (there.classes, back.classes)):
        np.testing.assert_allclose(one["difference"], -other["difference"], atol=1e-12)
        np.testing.assert_allclose(one["ci_low"], -other["ci_high"], atol=1e-12)
    np.testing.assert_allclose(there.heads["p"], back.heads["p"])
    np.testing.assert_allclose(there.classes["value_a"], back.classes["value_b"], atol=1e-12)
    np.testing.assert_array_equal(there.heads["log2_amplification_a"], back.heads["log2_amplification_b"])


def replicate_matrix(result, place):
    numbers = result.tables["replicates"][[str(r) for r in range(REPLICATES)]].to_numpy(np.float64)
    return result.heads["log2_amplification"].to_numpy()[place::3], numbers[place::3]


STATISTICS = {
    "mean": np.mean,
    "mean_absolute": lambda x: np.mean(np.abs(x)),
    "root_mean_square": lambda x: np.sqrt(np.mean(x**2)),
    "minimum": np.min,
    "quantile_10": lambda x: np.percentile(x, 10),
    "quantile_75": lambda x: np.percentile(x, 75),
    "median": np.median,
    "maximum": np.max,
    "share_amplifying": lambda x: np.mean(x > 0),
}


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_over_heads_and_their_intervals_equal_loops_over_replicates(twins, documents, statistic):
    table = compare_results(*twins).classes.set_index(["token_class", "statistic"])
    labels = np.array([np.bincount(d.classes["s"], minlength=3) for d in documents], dtype=float)
    for place in range(3):
        (a, of_a), (b, of_b) = (replicate_matrix(result, place) for result in twins)
        row, of = table.loc[(f"s{place}", statistic)], STATISTICS[statistic]
        assert (row["value_a"], row["value_b"]) == pytest.approx((of(a), of(b)))
        replicates = [of(of_b[:, r]) - of(of_a[:, r]) for r in range(REPLICATES)]
        m = labels[:, place].sum() ** 2 / (labels[:, place] ** 2).sum()
        half = stats.t.ppf(0.975, m - 1) * np.std(replicates, ddof=1) * np.sqrt(m / (m - 1))
        assert row["ci_high"] - row["difference"] == pytest.approx(half)
        assert row["difference"] - row["ci_low"] == pytest.approx(half)
        assert (row["n_heads_a"], row["n_heads_b"]) == (6, 6)
        assert row["n_tokens"] == labels[:, place].sum()


def test_labels_that_mean_nothing_stand_beside_the_root_mean_square(twins):
    table = compare_results(*twins).classes.set_index(["token_class", "statistic"])
    for side, result in zip("ab", twins, strict=True):
        nulls = result.nulls.query("null == 'shifted' and statistic == 'amplification' and token_class == 's1'")
        rms = np.sqrt(np.mean([row["null_mean"] ** 2 + row["null_sd"] ** 2 for _, row in nulls.iterrows()]))
        assert len(nulls) == 6 and table.loc[("s1", "root_mean_square_shifted"), f"value_{side}"] == pytest.approx(rms)
    without = [replace(each, nulls=each.nulls.iloc[:0]) for each in twins]
    assert "root_mean_square_shifted" not in set(compare_results(*without).classes["statistic"])


def test_where_only_one_side_has_a_bias_the_command_along_it_is_suggested(make_model, twins, documents, scheme):
    still = make_model(seed=1, q=BiasConfig(), v=BiasConfig())
    none = measure(still, documents, [scheme], Settings(replicates=REPLICATES, seed=3, nulls=4))
    assert (none.heads["log2_amplification"].dropna() == 0).all()
    names = none.run | {"checkpoint": "my runs/none"}, twins[0].run | {"checkpoint": "twin"}
    a, b = replace(none, run=names[0]), replace(twins[0], run=names[1])
    command = "python -m interp.amplify 'my runs/none' twin --direction twin"
    assert compare_results(a, b).run["instead"] == command
    assert compare_results(b, a).run["instead"] == "python -m interp.amplify twin 'my runs/none' --direction twin"
    along = replace(a, run=a.run | {"direction": "effective"})
    for pair in ((a, a), (b, b), tuple(twins), (along, b)):  # the controls: nothing to suggest
        assert "instead" not in compare_results(*pair).run


def test_losses_come_from_the_rerun_of_all_tokens_without_the_bias(twins):
    rows = {"scheme": "overall", "n_tokens": 50, "loss_unchanged": 4.0, "ci_low": np.nan, "ci_high": 0.3}
    loss = pd.DataFrame([
        {**rows, "intervention": where, "scale": scale, "direction": direction, "difference": difference}
        for where, scale, direction, difference in (
            ("L0", 0.0, "bias", 9.0), ("all", 2.0, "bias", 8.0), ("all", 0.0, "bias", 0.2), ("all", 0.0, "random", 0.0),
            ("all", 0.0, "random", 0.1),
        )
    ])  # fmt: skip
    empty = pd.DataFrame()
    made = replace(twins[0], interventions=Interventions(empty, loss, empty, empty, {"part": "q"}))
    used = loss.iloc[2:].assign(predicted_scheme="overall", keeps=["nothing", "control", "control"])
    uses = replace(twins[1], uses=Uses(used, {}))
    found = compare_results(made, uses).run["losses"]
    expected = {"n_tokens": 50, "vector": "b_Q", "loss_unchanged": 4.0, "difference": 0.2, "ci_low": None, "ci_high": 0.3,
                "control": pytest.approx(0.05)}  # fmt: skip
    assert {key: found["a"][key] for key in expected} == expected == {key: found["b"][key] for key in expected}
    assert found["a"]["control_kind"] != found["b"]["control_kind"]
    both = compare_results(replace(made, uses=uses.uses), uses).run["losses"]["a"]
    assert both["control_kind"] == found["b"]["control_kind"]  # scores of equal spread, where they were tried
    assert compare_results(*twins).run["losses"] == {}
    value_bias = replace(made, interventions=replace(made.interventions, run={"part": "v"}))
    assert compare_results(value_bias, uses).run["losses"].keys() == {"b"}


@pytest.mark.parametrize("sizes", [(1, 1), (4, 7), (12, 3)])
def test_stronger_is_the_probability_over_all_pairs_of_heads(sizes):
    random = np.random.default_rng(sum(sizes))
    values, others = (random.integers(-3, 4, (size, 5)).astype(float) for size in sizes)
    pairs = np.abs(values)[:, None] - np.abs(others)[None]
    np.testing.assert_allclose(stronger(values, others), ((pairs > 0) + (pairs == 0) / 2).mean((0, 1)))


def test_shares_of_surviving_heads_are_counts_of_q_below_a_twentieth(twins):
    q = [np.tile([0.01, 0.2, np.nan], 6), np.repeat([0.01, 0.04, 0.05, 0.06, 0.5, np.nan], 3)]
    results = [replace(r, heads=r.heads.assign(contrast_q=v)) for r, v in zip(twins, q, strict=True)]
    table = compare_results(*results).classes
    table = table[table["statistic"] == "surviving_contrast"].set_index("token_class")
    np.testing.assert_array_equal(table["value_a"], [1, 0, np.nan])
    np.testing.assert_array_equal(table["n_heads_a"], [6, 6, 0])
    np.testing.assert_allclose(table["value_b"], [2 / 5] * 3)
    assert table["difference"].isna().tolist() == [False, False, True]
    assert table["ci_low"].isna().tolist() == [False, False, True]
    assert (table["interval_over"] == OVER_HEADS).all()


def test_newcombes_interval_equals_his_published_examples():
    # table II of the paper, method 10: 56/70 - 48/80, 9/10 - 3/10 and 10/10 - 0/20
    for (b, n_b, a, n_a), expected in (
        ((56, 70, 48, 80), (0.0524, 0.3339)), ((9, 10, 3, 10), (0.1705, 0.8090)), ((10, 10, 0, 20), (0.6791, 1.0)),
    ):  # fmt: skip
        assert newcombe(a, n_a, b, n_b) == pytest.approx(expected, abs=5e-5)
    assert np.isnan(newcombe(0, 0, 3, 4)).all()


def test_models_of_other_sizes_are_compared_as_distributions_only(make_model, twins, documents, scheme, tmp_path):
    small = measure(make_model(n_layers=1), documents, [scheme], Settings(replicates=REPLICATES, seed=3, nulls=0))
    found = compare_results(twins[0], small)
    assert found.heads.empty and "difference" in found.heads and "q" in found.heads
    assert found.classes["value_a"].notna().all() and set(found.classes["n_heads_b"]) == {3}
    assert any("A has 2 layers of 3 heads, B 1 of 3" in note for note in found.run["notes"])
    found.save(tmp_path)
    assert Comparison.load(tmp_path).heads.empty


def test_a_class_that_never_occurs_has_counts_of_0_and_missing_values(make_model, make_documents, scheme):
    documents = make_documents([scheme], 60, LENGTHS)
    for document in documents:
        document.classes["s"][document.classes["s"] == 1] = 2
    results = [measure(make_model(seed=seed), documents, [scheme], Settings(replicates=8, nulls=0)) for seed in (1, 2)]
    found = compare_results(*results)
    for table, columns in (
        (found.heads, ["difference", "ci_low", "p", "q"]),
        (found.classes, ["value_a", "difference"]),
    ):
        empty = table["token_class"] == "s1"
        assert table.loc[empty, columns].isna().all(axis=None) and (table.loc[empty, "n_tokens"] == 0).all()
        assert table.loc[~empty, columns].notna().all(axis=None)


def test_it_says_that_heads_do_not_correspond_and_what_differs_on_purpose(make_model, twins, documents, scheme):
    symmetric = make_model(q=BiasConfig(), std=0.3)
    along = measure(
        symmetric, documents, [scheme], Settings(direction=make_model(), replicates=REPLICATES, seed=3, nulls=0)
    )
    found = compare_results(along, twins[0])
    assert found.run["notes"][0] == NO_CORRESPONDENCE
    assert any("The direction is not the same: b_Q of" in note for note in found.run["notes"])
    assert found.run["a"]["model"] == along.run["model"] and found.run["shared"]["n_documents"] == len(LENGTHS)
    assert (found.heads["log2_amplification_a"] != 0).all()


def test_a_comparison_survives_saving_and_loading(twins, tmp_path):
    found = compare_results(*twins)
    files = found.save(tmp_path / "comparison")
    kinds = ("parquet", "csv", "json")
    assert {f.name for f in files} == {f"{name}.{kind}" for name in ("heads", "classes") for kind in kinds} | {
        "run.json"
    }
    loaded = Comparison.load(tmp_path / "comparison")
    pd.testing.assert_frame_equal(loaded.heads, found.heads)
    pd.testing.assert_frame_equal(loaded.classes, found.classes)
    csv = pd.read_csv(tmp_path / "comparison" / "classes.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(csv, found.classes)
    assert loaded.run == found.run
    with pytest.raises(InterpError, match=r"lacks heads\.parquet, classes\.parquet, run\.json; .* Comparison\.save"):
        Comparison.load(tmp_path)


CHANGES = {
    "n_tokens": (1, r"number of tokens \(235 and 1\)"),
    "corpus_sha256": ("0" * 64, "corpus"),
    "tokenizer_sha256": ("0" * 64, "tokenizer"),
    "schemes": (["t"], r"schemes \(\['s'\] and \['t'\]\)"),
    "seed": (4, r"seed \(3 and 4\)"),
    "replicates": (3, r"number of replicates \(40 and 3\)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_results_that_cannot_be_paired_are_refused_and_what_differs_is_named(twins, name):
    value, message = CHANGES[name]
    other = replace(twins[1], run={**twins[1].run, name: value})
    total = sum(LENGTHS)
    with pytest.raises(InterpError, match=f"they differ in {message.replace('235', str(total))}. Measure both"):
        compare_results(twins[0], other)


def test_results_without_replicates_or_with_other_labels_are_refused(twins):
    with pytest.raises(InterpError, match="The second result has fewer than 2 bootstrap replicates"):
        compare_results(twins[0], replace(twins[1], further={}))
    relabelled = replace(twins[1], heads=twins[1].heads.assign(n_tokens=7))
    with pytest.raises(InterpError, match="label their tokens differently"):
        compare_results(twins[0], relabelled)


def test_what_is_beyond_position_is_compared_like_a_itself(twins):
    a, b = twins
    found = compare_results(a, b)
    heads = found.heads
    for column in ("log2_amplification_position", "log2_amplification_beyond"):
        np.testing.assert_array_equal(heads[f"{column}_a"], a.heads[column])
    by_position = heads["log2_amplification_position_b"] - heads["log2_amplification_position_a"]
    np.testing.assert_allclose(heads["difference"], by_position + heads["beyond_difference"], atol=1e-9)
    drawn = [replicate_values(side.tables["replicates_beyond"]).astype(float) for side in twins]
    sd, m = (drawn[1] - drawn[0]).std(1, ddof=1), a.heads["effective_documents"].to_numpy()
    half = stats.t.ppf(0.975, m - 1) * sd * np.sqrt(m / (m - 1))
    np.testing.assert_allclose(heads["beyond_ci_high"] - heads["beyond_difference"], half, rtol=1e-6)
    of_one = stats.t.ppf(0.975, m - 1) * drawn[0].std(1, ddof=1) * np.sqrt(m / (m - 1))
    np.testing.assert_allclose(a.heads["beyond_ci_high"] - a.heads["log2_amplification_beyond"], of_one, rtol=1e-5)
    row = found.classes.query("statistic == 'mean_absolute_beyond' and token_class == 's1'").iloc[0]
    mine = a.heads.query("token_class == 's1'")["log2_amplification_beyond"]
    assert row["value_a"] == pytest.approx(mine.abs().mean()) and row["interval_over"] == OVER_DOCUMENTS


def test_a_result_without_parts_is_compared_without_them(twins):
    bare = [replace(side, further={"replicates": side.tables["replicates"]}) for side in twins]
    found = compare_results(bare[0], twins[1])
    assert "beyond_difference" not in found.heads and "mean_absolute_beyond" not in set(found.classes["statistic"])
    np.testing.assert_array_equal(found.heads["difference"], compare_results(*twins).heads["difference"])

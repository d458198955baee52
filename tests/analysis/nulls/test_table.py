import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.direction import random_directions
from interp.analysis.nulls.directions import DirectionNull
from interp.analysis.nulls.labels import LabelShifts
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.passes import halves_and_whole, measurement_of
from tests.analysis.reference import null_rows

LENGTHS = [33, 7, 50, 21, 64]


def test_null_values_are_those_of_the_heads_table_and_q_stands_in_both(make_model, make_documents, make_scheme):
    model, schemes = make_model(), [make_scheme("a", 3), make_scheme("b", 5)]
    result = measure(
        model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes, Settings(nulls=4, amplified_nulls=2)
    )
    columns = {"contrast": "bias_score_contrast", "auroc": "auroc", "alignment": "alignment"}
    for statistic, column in columns.items():
        table = null_rows(result, "direction", statistic)
        np.testing.assert_array_equal(table["value"], result.heads[column])
        if statistic != "auroc":  # of which no q is told
            np.testing.assert_array_equal(table["q"], result.heads[f"{statistic}_q"])
        np.testing.assert_array_equal(table["token_class"], result.heads["token_class"])
    for column in (
        "contrast_shifted_q",
        "amplification_q",
        "shifted_q",
        "beyond_shifted_q",
        "class_q",
        "class_beyond_q",
    ):
        assert result.heads[column].between(0, 1).all()


@pytest.mark.parametrize("draws", [4, 8, 64])
def test_a_value_lies_within_its_null_exactly_where_p_is_at_least_a_twentieth(
    make_model, make_documents, make_scheme, draws
):
    model, schemes = make_model(), [make_scheme("a", 6), make_scheme("b", 5)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    settings = Settings(nulls=draws, amplified_nulls=draws, shifts=draws)
    nulls = measure(model, documents, schemes, settings).nulls.dropna(subset=["p"])
    within = nulls["value"].between(nulls["null_low"], nulls["null_high"])
    np.testing.assert_array_equal(within, nulls["p"] >= 0.05)
    for null, rows in within.groupby([nulls["null"], nulls["statistic"]]):
        assert rows.any() or null[0] == "direction", null
    if draws == 8:  # the law of a direction is not normal, nor is the spread of eight draws known
        normal = (nulls["value"] - nulls["null_mean"]).abs() <= 1.96 * nulls["null_sd"]
        assert (normal != within).any()


def test_amplified_draws_equal_measurements_along_them(make_model, make_documents, make_scheme):
    model, schemes = make_model(), [make_scheme("a", 3), make_scheme("b", 2)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, schemes, Settings(nulls=5, amplified_nulls=3, seed=2, batch_size=2))
    directions = random_directions(model.biases_in_force()[0], 5, 2)
    values = []
    for number in range(3):
        along = measure(
            model, documents, schemes, Settings(direction=directions[:, :, number], nulls=0, shifts=0)
        ).heads
        values.append(along["log2_amplification"])
    table = null_rows(result, "direction", "amplification")
    np.testing.assert_allclose(table["null_mean"], np.mean(values, 0), atol=1e-4)
    np.testing.assert_allclose(table["null_sd"], np.std(values, 0, ddof=1), atol=1e-4)
    further = (np.abs(values) >= np.abs(table["value"].to_numpy())).sum(0)
    np.testing.assert_allclose(table["p_rank"], (1 + further) / 4)
    assert (table["draws"] == 3).all()


def test_nulls_do_not_depend_on_batch_size(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 5)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    one, many = (measure(model, documents, [scheme], Settings(batch_size=b, amplified_nulls=2)) for b in (1, 7))
    pd.testing.assert_frame_equal(one.nulls, many.nulls, rtol=2e-3, atol=1e-3)


def test_the_nulls_of_two_halves_merge_to_those_of_the_whole(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [20, 35, 5, 20, 40])  # rows of 20 end where documents do
    settings = Settings(nulls=3, amplified_nulls=2, replicates=2, batch_size=2)
    for kind, names in (
        (DirectionNull, {"unit_keys", "histogram.counts", "histogram.exponent", "shares"}),
        (LabelShifts, {"fixed", "mean", "variance", "received", "shares"}),
    ):
        merged, whole = (
            measurement_of(found, kind).state() for found in halves_and_whole(model, documents, [scheme], settings)
        )
        assert set(merged) == names
        for name in names:
            assert whole[name].any()
            torch.testing.assert_close(merged[name], whole[name], rtol=1e-6, atol=1e-6)


def test_what_has_no_null_has_no_p(make_model, make_documents, make_scheme):
    model, schemes = make_model(), [make_scheme("s", 4), make_scheme("all", 1)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    for document in documents:
        document.classes["s"][document.classes["s"] == 0] = 1
        document.classes["s"][document.classes["s"] == 3] = 1
        document.classes["s"][0] = 0  # as bos: the first token and no other; and class 3 is empty
    table = measure(model, documents, schemes).nulls.set_index(["null", "statistic", "token_class"])["p"]
    assert table["shifted", "contrast", "s0"].isna().all()
    assert table["shifted", "contrast", "s1"].notna().all()
    assert table["direction", "contrast", "s0"].notna().all()
    for null, statistic in (("shifted", "contrast"), ("direction", "contrast"), ("direction", "auroc")):
        assert table[null, statistic, "s3"].isna().all()
        assert table[null, statistic, "all0"].isna().all()
    without = measure(make_model(q=BiasConfig()), documents, schemes, Settings(amplified_nulls=2))
    assert without.nulls["p"].isna().all() and without.nulls["q"].isna().all()


def test_nulls_can_be_left_out_and_impossible_ones_are_refused(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, [scheme], Settings(nulls=0, shifts=0))
    assert set(result.nulls["null"]) == {"equal spread"}  # always made: it costs next to nothing
    assert {column for column in result.heads if column.endswith("_q")} == {"class_q", "class_beyond_q"}
    for nulls, amplified in ((1, 0), (4, 5)):
        with pytest.raises(InterpError, match="make no null"):
            Settings(nulls=nulls, amplified_nulls=amplified)
    with pytest.raises(InterpError, match="amplified_nulls is -1; at least 0 is needed"):
        Settings(nulls=4, amplified_nulls=-1)


@pytest.mark.parametrize("nulls", [0, 4])
def test_nulls_are_saved_and_loaded_and_older_results_have_none(
    make_model, make_documents, make_scheme, tmp_path, nulls
):
    model, scheme = make_model(), make_scheme("s", 4)
    result = measure(model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), [scheme], Settings(nulls=nulls))
    result.save(tmp_path)
    loaded = Amplification.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.heads, result.heads)
    assert ("direction" in set(loaded.nulls["null"])) == (nulls > 0)
    pd.testing.assert_frame_equal(loaded.nulls, result.nulls)
    (tmp_path / "nulls.parquet").unlink(missing_ok=True)
    assert Amplification.load(tmp_path).nulls.empty

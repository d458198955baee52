import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.measurement import Context
from interp.analysis.measurements.bias_draws import ROW, STATISTICS, BiasDraws, drawn_biases
from interp.analysis.readers.own import OwnReader
from interp.analysis.result import HEAD_COLUMNS, Amplification
from interp.analysis.resume import ResumeFile
from interp.analysis.run import measure
from interp.analysis.sentences import read_sentence
from interp.analysis.settings import Settings
from interp.data.classes.scheme import Scheme
from interp.errors import InterpError
from interp.model.bias import bias_generator
from interp.model.config import BiasConfig
from tests.analysis.blocks import KilledError, after, in_blocks, killed_after
from tests.analysis.passes import halves_and_whole, measurement_of
from tests.analysis.reference import observe, rows_of, shares

LENGTHS = [33, 7, 50, 21, 64]
DRAWS = 2
NOISY = {"q": BiasConfig(0.5, (0.3, 0.6), "batch"), "v": BiasConfig(0.3, 0.4, "batch")}
FIGURES = [*ROW, *STATISTICS]


@pytest.fixture
def schemes(make_scheme):
    return [make_scheme("a", 3), make_scheme("b", 2)]


def drawn_by_hand(model, draw, seed):
    """mean + std * N(0, 1) from the generator of (seed, step): first all layers' b_Q, then all layers' b_V."""
    generator, found = bias_generator(seed, draw), []
    for part, config in ((model.bias_q, model.cfg.q), (model.bias_v, model.cfg.v)):
        noise = torch.randn(part.value.shape, generator=generator)
        mean, std = (config.profile(name, model.cfg.d_head) for name in ("mean", "std"))
        found.append(mean + std * noise)
    return found


@pytest.mark.parametrize(
    ("changes", "direction"),
    [({}, "effective"), ({"positional": "rope"}, "bias"), ({"n_layers": 1, "n_heads": 2}, torch.linspace(-1, 1, 12))],
    ids=["effective", "rope", "given"],
)
def test_a_draw_equals_a_measurement_of_a_model_whose_bias_is_that_draw(
    make_model, make_documents, schemes, changes, direction
):
    model = make_model(**{**NOISY, **changes})
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    settings = {"direction": direction, "nulls": 0, "batch_size": 2}
    result = measure(model, documents, schemes, Settings(bias_samples=DRAWS, seed=5, **settings))
    measured = []
    for draw in range(DRAWS):
        fixed = {name: BiasConfig(0.0, 1.0, "fixed") for name in ("q", "v")}
        twin = make_model(**{**fixed, **changes})
        for part, value in zip((twin.bias_q, twin.bias_v), drawn_by_hand(model, draw, 5), strict=True):
            part.value.copy_(value)
        measured.append(measure(twin, documents, schemes, Settings(**settings)).heads)
        table = result.tables["bias_draws"][result.tables["bias_draws"]["draw"] == draw].reset_index(drop=True)
        pd.testing.assert_frame_equal(table[STATISTICS], measured[-1][STATISTICS], atol=1e-6)
    for statistic in STATISTICS:
        values = np.stack([heads[statistic] for heads in measured])
        rows = result.tables["bias_samples"][result.tables["bias_samples"]["statistic"] == statistic]
        np.testing.assert_array_equal(rows["value"], result.heads[statistic])
        for column, expected in (
            ("mean_over_draws", values.mean(0)), ("sd_over_draws", values.std(0, ddof=1)),
            ("min_over_draws", values.min(0)), ("max_over_draws", values.max(0)),
        ):  # fmt: skip
            np.testing.assert_allclose(rows[column], expected, atol=1e-6)
        assert (rows["draws"] == DRAWS).all()


def test_a_draw_equals_explicit_patterns_in_float64_under_its_bias(make_model, make_documents, schemes):
    model = make_model(**NOISY)
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    table = measure(model, documents, schemes, Settings(bias_samples=2, seed=1, nulls=0)).tables["bias_draws"]
    rows, labels = rows_of(documents, model.cfg.n_ctx, "a")
    for draw in range(2):
        bias_q, bias_v = (value.expand(-1, 3, -1) for value in drawn_by_hand(model, draw, 1))
        with model.double().bias(bias=(bias_q, bias_v)):
            seen = observe(model, rows, 1, 2)
        model.float()
        expected = shares(seen, labels, 3)
        chosen = table[
            (table["draw"] == draw) & (table["layer"] == 1) & (table["head"] == 2) & (table["scheme"] == "a")
        ]
        np.testing.assert_allclose(chosen["log2_amplification"], np.log2(expected[0] / expected[1]), atol=1e-4)
        scores, flat = np.concatenate([s[2] for s in seen]), np.concatenate(labels)
        means = [scores[flat == c].mean() - scores.mean() for c in range(3)]
        np.testing.assert_allclose(chosen["bias_score_contrast"], means, atol=1e-5)


def test_without_noise_every_draw_is_the_run_itself_and_nothing_spreads(make_model, make_documents, schemes):
    still = {"q": BiasConfig(0.5, 0.0, "batch"), "v": BiasConfig(0.3, 0.0, "batch")}
    model = make_model(**still)
    result = measure(
        model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes, Settings(bias_samples=2, nulls=0)
    )
    for draw in range(2):
        table = result.tables["bias_draws"][result.tables["bias_draws"]["draw"] == draw].reset_index(drop=True)
        pd.testing.assert_frame_equal(table[FIGURES], result.heads[FIGURES])
    np.testing.assert_allclose(result.tables["bias_samples"]["sd_over_draws"], 0, atol=1e-15)
    for column in ("mean_over_draws", "min_over_draws", "max_over_draws"):
        np.testing.assert_allclose(
            result.tables["bias_samples"][column], result.tables["bias_samples"]["value"], rtol=1e-12
        )


@pytest.mark.parametrize("mode", ["fixed", "learned", "none"])
def test_a_bias_that_is_never_drawn_anew_does_not_spread(make_model, make_documents, schemes, mode):
    model = make_model(q=BiasConfig() if mode == "none" else BiasConfig(0.5, 1.0, mode), v=BiasConfig())
    result = measure(
        model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes, Settings(bias_samples=2, nulls=0)
    )
    np.testing.assert_allclose(result.tables["bias_samples"]["sd_over_draws"].dropna(), 0, atol=1e-15)


def test_the_two_kinds_of_spread_stand_side_by_side(make_model, make_documents, schemes):
    model = make_model(**NOISY)
    result = measure(
        model, make_documents(schemes, model.cfg.d_vocab, LENGTHS), schemes, Settings(bias_samples=DRAWS, nulls=0)
    )
    table = result.tables["bias_samples"].set_index("statistic")
    assert set(table.index) == set(STATISTICS)
    own = table.loc["log2_amplification"]
    assert (own["sd_over_draws"] > 0).all()
    np.testing.assert_array_equal(own["ci_low_over_documents"], result.heads["ci_low"])
    np.testing.assert_array_equal(own["ci_high_over_documents"], result.heads["ci_high"])
    assert table.loc["auroc", "ci_low_over_documents"].isna().all()
    ordered = table["min_over_draws"].le(table["mean_over_draws"]) & table["mean_over_draws"].le(
        table["max_over_draws"]
    )
    assert ordered.all()


def test_draws_leave_the_model_as_it_was_and_depend_on_the_seed_alone(make_model):
    model = make_model(**NOISY)
    model.draw_biases(9, 9)
    before = [part.value.clone() for part in (model.bias_q, model.bias_v)]
    first, again, other = (drawn_biases(model, 2, seed) for seed in (0, 0, 1))
    for part, value in zip((model.bias_q, model.bias_v), before, strict=True):
        torch.testing.assert_close(part.value, value, rtol=0, atol=0)
    for which in (0, 1):
        assert torch.equal(first[1][which], again[1][which])
        assert not torch.equal(first[0][which], first[1][which])
        assert not torch.equal(first[0][which], other[0][which])


def test_a_scale_in_force_acts_on_the_draws_once(make_model, make_documents, schemes):
    model = make_model(**NOISY)
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    with model.bias(scale=2.0):
        scaled = measure(model, documents, schemes, Settings(bias_samples=2, seed=4, nulls=0)).tables["bias_draws"]
    with model.bias(scale=2.0):
        draws = BiasDraws(Context.of(OwnReader(model), schemes, Settings(bias_samples=2, seed=4))).draws
    found = draws[1].context.shifts.vector
    torch.testing.assert_close(found, 2 * drawn_by_hand(model, 1, 4)[0].expand(-1, 3, -1))
    scores = scaled.loc[scaled["draw"] == 1, "bias_score_mean"].to_numpy()
    plain = measure(model, documents, schemes, Settings(bias_samples=2, seed=4, nulls=0)).tables["bias_draws"]
    first_layer = scaled.loc[scaled["draw"] == 1, "layer"].to_numpy() == 0  # keys of layer 0 do not know the bias
    expected = 2 * plain.loc[plain["draw"] == 1, "bias_score_mean"].to_numpy()
    np.testing.assert_allclose(scores[first_layer], expected[first_layer], rtol=1e-4, atol=1e-6)


def test_the_samples_of_two_halves_merge_to_those_of_the_whole(make_model, make_documents, make_scheme):
    model, scheme = make_model(**NOISY), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [20, 35, 5, 20, 40])  # rows of 20 end where documents do
    settings = Settings(bias_samples=2, nulls=0, batch_size=2)
    merged, whole = (
        measurement_of(found, BiasDraws) for found in halves_and_whole(model, documents, [scheme], settings)
    )
    for mine, expected in zip(merged.draws, whole.draws, strict=True):
        (shares, scores), (all_shares, all_scores) = mine.measurements, expected.measurements
        torch.testing.assert_close(shares.sums.total, all_shares.sums.total, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(scores.scores.squares, all_scores.scores.squares, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(scores.cosines.sum, all_scores.cosines.sum, rtol=1e-6, atol=1e-6)
        assert torch.equal(scores.histogram.counts, all_scores.histogram.counts)


MIXED = {
    "q": BiasConfig(0.8, 0.1, "batch", directions=3),
    "v": BiasConfig(std=0.1, mode="batch", means=[0.5, 0.0, (-1.0, 1.0)]),
}


def test_components_are_the_heads_of_the_whole_call_with_each_in_force(make_model, make_documents, schemes, tmp_path):
    model = make_model(**MIXED)
    documents = make_documents(schemes, model.cfg.d_vocab, [30] * 6)  # enough of a size for intervals
    settings = {"direction": "effective", "nulls": 0, "shifts": 0, "fit_tokens": 0, "replicates": 20}
    result = measure(model, documents, schemes, Settings(components=True, **settings))
    table = result.tables["components"]
    columns = [*HEAD_COLUMNS, "bias_score_sd"]
    assert list(table.columns) == ["component", *columns] and len(table) == 3 * len(result.heads)
    found = []
    for k in range(3):
        found.append(table[table["component"] == k].drop(columns="component").reset_index(drop=True))
        whole = measure(model, documents, schemes, Settings(bias=f"component:{k}", **settings))
        pd.testing.assert_frame_equal(found[-1], whole.heads[columns], rtol=0, atol=1e-6)
        assert whole.run["bias"] == f"component:{k}" and OwnReader(model).told(f"component:{k}", "bias") == []
    told, *_ = OwnReader(model).told("mean", "effective")
    assert told.startswith("The bias is drawn from 3 components, and measured under the mean of all")
    assert not np.allclose(found[0]["log2_amplification"], found[1]["log2_amplification"], atol=1e-2)
    assert found[0]["ci_low"].notna().any()
    without = measure(model, documents, schemes, Settings(**settings))
    pd.testing.assert_frame_equal(without.heads, result.heads)
    assert "components" not in without.tables
    result.save(tmp_path)
    pd.testing.assert_frame_equal(Amplification.load(tmp_path).tables["components"], table)
    without.save(tmp_path)
    assert not (tmp_path / "components.parquet").exists()


def test_components_of_a_run_that_was_interrupted_are_the_same_bits(make_model, make_documents, make_scheme, tmp_path):
    model, scheme = make_model(**MIXED, n_layers=1, n_ctx=9), make_scheme("s", 3)
    lengths = np.random.default_rng(0).integers(5, 300, size=12)
    documents = in_blocks(make_documents([scheme], model.cfg.d_vocab, lengths), 9)
    settings = Settings(components=True, nulls=0, shifts=0, fit_tokens=0, replicates=5, passages=0, batch_size=64)
    whole = measure(model, documents, [scheme], settings, sample=documents)
    partial = ResumeFile(tmp_path, {}, every_seconds=0.0)
    with pytest.raises(KilledError):
        measure(model, documents, [scheme], settings, sample=documents, resume=partial, on_tokens=killed_after(2))
    partial = ResumeFile(tmp_path, {})
    assert partial.done
    resumed = measure(model, after(documents, partial), [scheme], settings, sample=documents, resume=partial)
    pd.testing.assert_frame_equal(resumed.tables["components"], whole.tables["components"], check_exact=True)


def test_all_that_takes_a_bias_takes_a_component(make_model, make_documents, schemes):
    model = make_model(**MIXED)
    single = {part: BiasConfig(getattr(model.cfg, part).components(8)[2].tolist(), 0.1, "batch") for part in MIXED}
    twin, documents = (
        make_model(**single),
        make_documents(schemes, 12, LENGTHS),
    )  # types that are frequent enough to list
    tables, own = [], Scheme("own", ("all",), False, lambda tokens, *_: 0 * tokens)
    for read, bias in ((model, "component:2"), (twin, "mean")):
        result = measure(read, documents, schemes, Settings(bias=bias, nulls=0, shifts=0, replicates=20))
        sentence = read_sentence(read, "A fox.", [own], bias=bias, scale=0)
        tables.append([
            result.heads, *result.static(read).values(), *result.values(read, documents, schemes).values(),
            sentence.scores, sentence.tokens,
        ])  # fmt: skip
    assert all(len(table) for table in tables[0])
    for found, expected in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(found, expected)


def test_components_that_are_not_there_are_refused(make_model, make_documents, schemes):
    with pytest.raises(InterpError, match="components puts each in force, and bias='none' leaves b out"):
        Settings(components=True, bias="none")
    with pytest.raises(InterpError, match="A mean query is fitted under one bias"):
        Settings(components=True, direction="mean-query")
    with pytest.raises(
        InterpError, match="bias is 'component:x'; choose mean, sample, none or component:K; did you mean"
    ):
        Settings(bias="component:x")
    model = make_model()
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    with pytest.raises(
        InterpError, match="drawn from several directions, and symmetry-broken has none such; leave it out"
    ):
        measure(model, documents, schemes, Settings(components=True))
    with pytest.raises(InterpError, match="The bias is 'component:0'; choose one of None, mean, sample, none"):
        measure(model, documents, schemes, Settings(bias="component:0"))


@pytest.mark.parametrize("samples", [0, 2])
def test_samples_are_saved_and_loaded_and_0_leaves_them_out(make_model, make_documents, schemes, tmp_path, samples):
    model = make_model(**NOISY)
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, schemes, Settings(bias_samples=samples, nulls=0))
    result.save(tmp_path)
    loaded = Amplification.load(tmp_path)
    for name in ("bias_samples", "bias_draws", "replicates")[0 if samples else 2 :]:
        assert len(result.tables[name])
        pd.testing.assert_frame_equal(loaded.tables[name], result.tables[name])
    for name in ("bias_samples", "bias_draws"):
        there = [name in result.tables, name in loaded.tables, (tmp_path / f"{name}.parquet").exists()]
        assert there == [samples > 0] * 3
    pd.testing.assert_frame_equal(measure(model, documents, schemes, Settings(nulls=0)).heads, result.heads)


def test_impossible_draws_are_refused():
    with pytest.raises(InterpError, match="1 draws of the bias show no spread"):
        Settings(bias_samples=1)
    with pytest.raises(InterpError, match="bias_samples is -1; at least 0 is needed"):
        Settings(bias_samples=-1)
    with pytest.raises(InterpError, match="bias='none' leaves b out"):
        Settings(bias_samples=2, bias="none")

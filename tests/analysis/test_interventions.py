from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from interp.analysis.amplification import measure
from interp.analysis.batch import class_ranges
from interp.analysis.bootstrap import BootstrapSums, poisson_weights
from interp.analysis.interventions import runs as runs_module
from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.places import Place, places
from interp.analysis.interventions.plan import Intervention, changes
from interp.analysis.interventions.result import TABLES, Interventions
from interp.analysis.interventions.sums import InterventionSums
from interp.analysis.result import Amplification
from interp.analysis.significance import interval_over_documents, replicate_deviation
from interp.data.contexts import pack
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.intervened import Observed, kl, mean_by_class, rows_about, top1_changed

LENGTHS = [28, 7, 20, 17, 20]
PER_HEAD = BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)


@pytest.fixture(scope="module")
def corpus(make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    return scheme, make_documents([scheme], 60, LENGTHS)


def check_against(before, after, found, name, scale, direction="bias"):
    attention = rows_about(found.attention, name, scale, direction)
    for (layer, head), rows in attention.groupby(["layer", "head"]):
        share, unchanged = (x.shares[layer, head].sum(0) / sum(LENGTHS) for x in (after, before))
        np.testing.assert_allclose(rows["share"], share, atol=1e-5)
        np.testing.assert_allclose(rows["share_unchanged"], unchanged, atol=1e-5)
        np.testing.assert_allclose(rows["log2_change"], np.log2(share / unchanged), atol=1e-4)
    loss, overall = (
        rows_about(found.loss, name, scale, direction),
        rows_about(found.loss, name, scale, direction, scheme="overall"),
    )
    np.testing.assert_allclose(loss["loss"], mean_by_class(after.loss, after.label, 3), atol=1e-5)
    np.testing.assert_allclose(loss["loss_unchanged"], mean_by_class(before.loss, before.label, 3), atol=1e-5)
    np.testing.assert_allclose(loss["difference"], mean_by_class(after.loss - before.loss, after.label, 3), atol=1e-5)
    np.testing.assert_array_equal(loss["n_tokens"], np.bincount(after.label))
    np.testing.assert_allclose(overall["difference"], [(after.loss - before.loss).mean()], atol=1e-5)
    predictions = rows_about(found.predictions, name, scale, direction)
    np.testing.assert_allclose(predictions["kl"], mean_by_class(kl(before, after), after.label, 3), atol=1e-5)
    np.testing.assert_allclose(predictions["top1_changed"], mean_by_class(top1_changed(before, after), after.label, 3))
    return attention


@torch.no_grad()
@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, "q"),
        ({}, "v"),
        ({"positional": "rope", "activation": "prelu", "n_layers": 3, "seed": 2}, "qv"),
        ({"q": PER_HEAD, "v": PER_HEAD, "n_layers": 1}, "qv"),
    ],
    ids=str,
)
def test_every_number_equals_the_whole_model_run_again_in_float64(make_model, corpus, changes, part):
    model, (scheme, documents) = make_model(**changes), corpus
    found = intervene(
        model, documents, [scheme], where="all,layers,L0H1", scales=(0, 2.5), part=part, batch_size=3, stack=3,
        random_directions=0, replicates=2,
    )  # fmt: skip
    model.double()
    before = Observed(model, documents, "s", 3)
    cases = [("all", {}), (f"L{model.cfg.n_layers - 1}", {"layers": [-1]}), ("L0H1", {"layers": [0], "heads": [1]})]
    for name, where in cases:
        for scale in (0, 2.5):
            kept = model.biases_in_force()
            with model.bias(scale=scale, **where):
                scaled = model.biases_in_force()
                pair = tuple(new if which in part else old for which, new, old in zip("qv", scaled, kept, strict=True))
            with model.bias(bias=pair):
                after = Observed(model, documents, "s", 3)
            attention = check_against(before, after, found, name, scale)
            first = where.get("layers", [0])[0] % model.cfg.n_layers
            assert set(attention["layer"]) == set(range(first, model.cfg.n_layers))
    model.float()
    assert rows_about(found.loss, "all", 0)["difference"].abs().max() > 0.01


@torch.no_grad()
def test_a_control_moves_the_same_biases_as_far_in_a_direction_that_has_nothing_to_do_with_them(make_model, corpus):
    model, (scheme, documents) = make_model(d_model=96, seed=3), corpus
    biases = torch.stack(model.biases_in_force())
    plan = [Intervention(place, scale, kind, draw) for place in (Place("all"), Place("L1H2", 1, 2)) for scale in (0.0, 3.0)
            for kind, draw in (("bias", 0), ("random", 0), ("random", 1))]  # fmt: skip
    for part in ("q", "v", "qv"):
        found = changes(biases, plan, part, seed=5)
        for own, first, second in zip(found[::3], found[1::3], found[2::3], strict=True):
            torch.testing.assert_close(own.norm(dim=-1), first.norm(dim=-1))
            torch.testing.assert_close(own.norm(dim=-1), second.norm(dim=-1))
            cosines = [
                torch.nn.functional.cosine_similarity(a, b, dim=-1)[own.any(-1)]
                for a, b in ((own, first), (first, second))
            ]
            assert max(c.abs().mean() for c in cosines) < 0.45  # of 32 dimensions: about 0.14 on average
        assert all((own[0] == 0).all() == ("q" not in part) for own in found)
    found = intervene(model, documents, [scheme], where="L1", scales=(0,), random_directions=2, replicates=2, seed=5)
    drawn = changes(biases, [Intervention(Place("L1", 1), 0.0, "random", draw) for draw in (0, 1)], "q", 5)
    model.double()
    before = Observed(model, documents, "s", 3)
    with model.bias(bias=(biases[0] + drawn[0][0]).double()):
        check_against(before, Observed(model, documents, "s", 3), found, "L1", 0, "random")
    model.float()


def test_a_scale_of_one_changes_exactly_nothing(make_model, corpus):
    scheme, documents = corpus
    found = intervene(
        make_model(), documents, [scheme], where="all,L1,L0H1", scales=(1,), part="qv", random_directions=1
    )
    assert set(found.loss["direction"]) == {"bias", "random"}
    assert (found.loss[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (found.predictions[["kl", "kl_ci_low", "kl_ci_high", "top1_changed", "top1_ci_high"]] == 0).all(axis=None)
    assert (found.loss["loss"] == found.loss["loss_unchanged"]).all()
    assert len(found.attention) == 0  # no layer is reached


def test_a_model_without_a_bias_has_nothing_to_lose(make_model, corpus):
    scheme, documents = corpus
    found = intervene(make_model(q=BiasConfig()), documents, [scheme], where="all,layers", scales=(0, 2))
    assert found.run["runs"] == 1
    assert (found.loss["difference"] == 0).all() and (found.paths["log2_amplification"] == 0).all()


@pytest.mark.parametrize("changes", [{"n_layers": 3}, {"positional": "rope"}], ids=str)
def test_sharing_layers_that_do_not_change_changes_no_result(make_model, corpus, monkeypatch, changes):
    model, (scheme, documents) = make_model(**changes), corpus
    calls, run_changed = [], runs_module.run_changed

    def from_layer_zero(runs):
        return runs_module.Runs(runs.changes, runs.of, runs.unchanged, [0] * len(runs.first))

    def counted(model, stream, first, added, see):
        calls.append((first, len(added)))
        return run_changed(model, stream, first, added, see)

    monkeypatch.setattr("interp.analysis.interventions.sums.run_changed", counted)
    arguments = (model, documents, [scheme])
    shared = intervene(*arguments, where="all,layers", scales=(0,), replicates=20)
    layers = [model.cfg.n_layers - first for first, runs in calls for _ in range(runs)]
    calls.clear()
    monkeypatch.setattr(
        "interp.analysis.interventions.measure.runs_of", lambda c: from_layer_zero(runs_module.runs_of(c))
    )
    whole = intervene(*arguments, where="all,layers", scales=(0,), replicates=20)
    assert all(first == 0 for first, _ in calls)
    assert sum(layers) < model.cfg.n_layers * sum(runs for _, runs in calls)
    keys = ["intervention", "direction", "layer", "head", "token_class"]
    reached = whole.attention.merge(shared.attention[keys], on=keys)
    pd.testing.assert_frame_equal(reached[shared.attention.columns], shared.attention, rtol=1e-4, atol=1e-5)
    before = whole.attention.merge(shared.attention[keys], on=keys, how="left", indicator=True)
    assert before.loc[before["_merge"] == "left_only", "log2_change"].abs().max() < 1e-5
    for name in ("loss", "predictions", "paths"):
        pd.testing.assert_frame_equal(getattr(shared, name), getattr(whole, name), rtol=1e-4, atol=1e-5)


def test_interventions_do_not_depend_on_batch_size_or_stack_and_leave_the_model(make_model, corpus):
    model, (scheme, documents) = make_model(), corpus
    model.train()
    one, many = (
        intervene(model, documents, [scheme], where="all,L0,L1H1", scales=(0, 2), batch_size=b, stack=s, part="qv")
        for b, s in ((1, 1), (6, 5))
    )
    assert model.training and not any(hook.has_hooks() for hook in model.hook_points())
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(many, name), rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("part", ["q", "qv"])
def test_paths_equal_a_slow_reference_and_their_parts_sum_to_the_total(make_model, corpus, part):
    model, (scheme, documents) = make_model(n_layers=3, seed=1), corpus
    found = intervene(model, documents, [scheme], where="L0", scales=(2,), part=part, replicates=30).paths
    tables = {name: rows.set_index(["layer", "head", "token_class"])["log2_amplification"]
              for name, rows in found.groupby("path")}  # fmt: skip
    sources = found[found["path"] == "source"].groupby(["layer", "head", "token_class"])["log2_amplification"].sum()
    pd.testing.assert_series_equal(tables["direct"] + tables["indirect"], tables["total"], check_names=False)
    indirect = tables["indirect"][tables["indirect"].index.get_level_values("layer") > 0]
    pd.testing.assert_series_equal(sources, indirect, check_names=False, rtol=1e-9)
    assert (tables["indirect"].loc[0] == 0).all()
    heads = measure(model, documents, [scheme], nulls=0).heads.set_index(["layer", "head", "token_class"])
    np.testing.assert_allclose(tables["direct"], heads.loc[tables["direct"].index, "log2_amplification"], atol=1e-4)
    model.double()

    def share(present):  # log2 of the shares in layer 2 with the biases of the layers below `present` only
        off = torch.arange(3)[:, None, None] >= present
        q, v = model.biases_in_force()
        with model.bias(bias=(q.masked_fill(off, 0), v.masked_fill(off, 0) if "v" in part else None)):
            return np.log2(Observed(model, documents, "s", 3).shares[2].sum(1))

    found = found[found["layer"] == 2]
    steps = [share(present) for present in range(4)]
    model.float()
    for (path, source), value in {
        ("total", None): steps[3] - steps[0], ("direct", 2): steps[3] - steps[2], ("indirect", None): steps[2] - steps[0],
        ("source", 0): steps[1] - steps[0], ("source", 1): steps[2] - steps[1],
    }.items():  # fmt: skip
        here = (found["path"] == path) & (
            found["source_layer"].isna() if source is None else found["source_layer"] == source
        )
        np.testing.assert_allclose(found.loc[here, "log2_amplification"], value.ravel(), atol=1e-4)


def test_a_value_bias_has_no_direct_path_to_the_attention_of_its_own_layer(make_model, corpus):
    scheme, documents = corpus
    found = intervene(make_model(), documents, [scheme], where="L0", scales=(0,), part="v", replicates=20)
    direct = found.paths[found.paths["path"] == "direct"]
    assert (direct[["log2_amplification", "ci_low", "ci_high"]] == 0).all(axis=None)
    own = found.attention["layer"] == 0
    assert (found.attention.loc[own, "log2_change"] == 0).all() and (
        found.attention.loc[~own, "log2_change"] != 0
    ).any()


@torch.no_grad()
def test_a_planted_effect_is_found_where_it_was_planted_and_its_control_is_smaller(
    make_model, make_documents, make_scheme
):
    """Only head 1 of layer 1 has a bias, along the keys of odd tokens: removing it takes attention from them."""
    model, scheme = make_model(d_model=96, seed=4, std=0.05, q=PER_HEAD), make_scheme("s", 2)
    documents = make_documents([scheme], 60, [40] * 16)
    for document in documents:
        document.classes["s"][:] = document.tokens % 2
    keys, rows = [], torch.from_numpy(np.concatenate([document.tokens for document in documents])).view(-1, 20)
    model.bias_q.value.zero_()
    hook = ("blocks.1.attn.hook_k", lambda k, hook: keys.append(k[:, :, 1].flatten(0, 1)))
    model.run_with_hooks(rows, fwd_hooks=[hook], return_type=None)
    odd = (rows.flatten() % 2).bool()
    toward = keys[0][odd].mean(0) - keys[0][~odd].mean(0)
    model.bias_q.value[1, 1] = toward / toward.square().sum() * 32**0.5  # 1 nat on average
    found = intervene(
        model, documents, [scheme], where="all,L0,L1H0,L1H1", scales=(0, 2), random_directions=8, replicates=20
    )
    for name in ("all", "L1H1"):
        removed, doubled = (rows_about(found.attention, name, scale) for scale in (0, 2))
        for rows, sign in ((removed, -1), (doubled, 1)):
            here = rows[(rows["layer"] == 1) & (rows["head"] == 1) & (rows["token_class"] == "s1")].iloc[0]
            assert sign * here["log2_change"] > 0.05 and np.sign(here["ci_low"]) == np.sign(here["ci_high"]) == sign
            assert (rows.loc[rows["head"] != 1, "log2_change"].abs() < 1e-5).all()
        controls = found.attention[
            (found.attention["intervention"] == name) & (found.attention["direction"] == "random")
        ]
        at = controls[(controls["scale"] == 0) & (controls["head"] == 1) & (controls["token_class"] == "s1")]
        assert len(at) == 8 and at["log2_change"].abs().median() < 0.1
    nothing = found.loss[found.loss["intervention"].isin(["L0", "L1H0"])]
    assert (nothing["difference"] == 0).all()
    whole, only = (rows_about(found.loss, name, 0) for name in ("all", "L1H1"))
    np.testing.assert_array_equal(whole["difference"], only["difference"])


@torch.no_grad()
def test_intervals_are_those_of_paired_bootstrap_replicates_over_documents(make_model, corpus):
    model, (scheme, documents) = make_model(), corpus
    found = intervene(model, documents, [scheme], where="all", scales=(0,), replicates=300, seed=7)
    model.double()
    before = Observed(model, documents, "s", 3)
    with model.bias(bias=(torch.zeros(model.cfg.d_head), None)):
        after = Observed(model, documents, "s", 3)
    model.float()
    weights = poisson_weights(torch.arange(len(LENGTHS)), 300, 7).numpy()  # [document, replicate]
    effective = np.array([sum(n) ** 2 / sum(i**2 for i in n) for n in (
        [(document.classes["s"] == c).sum() for document in documents] for c in range(3)
    )])  # fmt: skip

    def half_of(replicates):
        factor = stats.t.ppf(0.975, effective - 1) * np.sqrt(effective / (effective - 1))
        return factor * np.nanstd(replicates, axis=0, ddof=1)

    def resampled(values):
        return np.stack([
            [np.average(values[after.label == c], weights=w[after.label == c]) if w[after.label == c].any() else np.nan
             for c in range(3)]
            for w in weights.T[:, after.document]
        ])  # fmt: skip

    loss, predictions = rows_about(found.loss, "all", 0), rows_about(found.predictions, "all", 0)
    np.testing.assert_allclose(
        loss["ci_high"] - loss["difference"], half_of(resampled(after.loss - before.loss)), rtol=1e-3
    )
    np.testing.assert_allclose(
        predictions["kl_ci_high"] - predictions["kl"], half_of(resampled(kl(before, after))), rtol=1e-3
    )
    changed = half_of(resampled(top1_changed(before, after)))
    np.testing.assert_allclose(predictions["top1_changed"] - predictions["top1_ci_low"], changed, rtol=1e-3)
    attention = rows_about(found.attention, "all", 0)
    rows = attention[(attention["layer"] == 1) & (attention["head"] == 2)]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log2(weights.T @ x.shares[1, 2]) for x in (after, before)]
        difference = np.where(np.isfinite(logs[0]), logs[0] - logs[1], np.nan)
    np.testing.assert_allclose(rows["ci_high"] - rows["log2_change"], half_of(difference), rtol=1e-3)
    paths = found.paths[(found.paths["path"] == "total") & (found.paths["layer"] == 1) & (found.paths["head"] == 2)]
    np.testing.assert_allclose(paths["ci_high"], -rows["ci_low"], rtol=1e-6)


def test_intervals_of_a_paired_difference_cover_it_at_their_nominal_rate():
    """Documents of unequal length with levels of their own; the mean over tokens of all documents to come is 0.3."""
    covered, n_documents = [], 12
    for seed in range(400):
        random = np.random.default_rng(seed)
        lengths = random.integers(20, 60, n_documents)
        level = 0.3 + 0.1 * random.standard_normal(n_documents)
        values = np.array([random.normal(at, 0.5, length).sum() for at, length in zip(level, lengths, strict=True)])
        sums = BootstrapSums((1, 2), 200)
        sums.add(0, torch.tensor(np.stack([values, lengths], 1)), poisson_weights(torch.arange(n_documents), 200, seed))
        replicates = (sums.resampled[:, 0, 0] / sums.resampled[:, 0, 1]).numpy()
        mean = np.array([values.sum() / lengths.sum()])
        effective = np.array([lengths.sum() ** 2 / (lengths**2).sum()])
        low, high = interval_over_documents(mean, replicate_deviation(replicates[None]), effective)
        covered.append(low[0] <= 0.3 <= high[0])
    assert 0.92 < np.mean(covered) < 0.98  # 95%, three standard errors of 400 simulations to either side


def test_bootstrap_sums_of_two_halves_merge_to_those_of_the_whole():
    per_document = torch.randn(6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, left, right = (BootstrapSums((2, 3, 4), 20) for _ in range(3))
    for sums, part in ((whole, range(6)), (left, range(3)), (right, range(3, 6))):
        sums.add(1, per_document[list(part)], poisson_weights(torch.tensor(list(part)), 20, 3))
    left.merge(right)
    torch.testing.assert_close(left.total, whole.total)
    torch.testing.assert_close(left.resampled, whole.resampled)
    assert (whole.total[0] == 0).all()
    np.testing.assert_allclose(whole.resampled[:, 1].mean(0), whole.total[1], atol=3)


def test_half_the_corpus_and_the_other_half_merge_to_the_whole(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], 60, [20, 40, 20, 40])  # contexts end where documents do
    runs = runs_module.runs_of(
        changes(torch.stack(model.biases_in_force()), [Intervention(Place("L1", 1), 0.0)], "q", 0)
    )

    def over(chosen):
        sums = InterventionSums(model, runs, [0, 1], class_ranges({"s": list(scheme.classes)}), 10, 0, 8)
        for contexts in pack(chosen, 20, 3, 0):
            sums.update(contexts)
        return sums

    whole, left, right = over(documents), over(documents[:2]), over(documents[2:])
    left.merge(right)
    for mine, expected in zip([*left.attention, left.predictions, left.predicted],
                              [*whole.attention, whole.predictions, whole.predicted], strict=True):  # fmt: skip
        torch.testing.assert_close(mine.total, expected.total, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(mine.resampled, expected.resampled, rtol=1e-6, atol=1e-5)


def test_no_document_gives_more_than_a_twentieth_of_the_tokens(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 2)
    documents = make_documents([scheme], 60, [300, 5, 200, 40])
    found = intervene(model, documents, [scheme], where="L1", scales=(0,), max_tokens=600, replicates=2, paths=False)
    assert found.run["n_tokens"] == 30 + 5 + 30 + 30 and found.run["n_documents"] == 4
    few = intervene(model, documents, [scheme], where="L1", scales=(0,), max_tokens=60, replicates=2, paths=False)
    assert few.run["n_tokens"] == 4 * 3
    assert found.paths.empty


def test_interventions_survive_saving_and_loading(make_model, corpus, tmp_path):
    scheme, documents = corpus
    found = intervene(make_model(), documents, [scheme], where="all,L1,L0H2", scales=(0, 2), replicates=10)
    files = found.save(tmp_path / "found")
    text = {f"{name}.{kind}" for name in ("loss", "predictions", "paths") for kind in ("csv", "json")}
    assert {f.name for f in files} == {f"{name}.parquet" for name in TABLES} | text | {"run.json"}
    loaded = Interventions.load(tmp_path / "found")
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(found, name))
    assert loaded.run == found.run
    (tmp_path / "found" / "paths.parquet").unlink()
    with pytest.raises(InterpError, match=r"lacks paths\.parquet"):
        Interventions.load(tmp_path / "found")


def test_they_go_with_an_amplification_and_do_not_outlive_it(make_model, corpus, tmp_path):
    scheme, documents = corpus
    found = intervene(make_model(), documents, [scheme], where="all", scales=(0,), replicates=10)
    result = measure(make_model(), documents, [scheme], nulls=0, replicates=10)
    replace(result, interventions=found).save(tmp_path)
    pd.testing.assert_frame_equal(Amplification.load(tmp_path).interventions.loss, found.loss)
    result.save(tmp_path)
    assert Amplification.load(tmp_path).interventions is None
    assert not (tmp_path / "interventions").exists()


def test_words_name_places_once_each_and_wrong_ones_are_told():
    assert places("all, layers", 2, 3) == [Place("all"), Place("L0", 0), Place("L1", 1)]
    assert places(["L1H2", "heads", "l1"], 2, 3) == [
        Place("L1H2", 1, 2), *(Place(f"L{x}H{y}", x, y) for x in range(2) for y in range(3) if (x, y) != (1, 2)),
        Place("L1", 1),
    ]  # fmt: skip
    for word, message in (
        ("L2", "no L2"),
        ("L1H3", "layers 0 to 1 with heads 0 to 2"),
        ("layer", "'layer'"),
        ("", "No place"),
    ):
        with pytest.raises(InterpError, match=message):
            places(word, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": ()}, "The scales are"),
        ({"scales": (float("nan"),)}, "The scales are"),
        ({"random_directions": -1}, "random_directions is -1"),
        ({"where": "L9"}, "There is no L9"),
    ],
)
def test_what_makes_no_sense_is_refused(make_model, corpus, arguments, message):
    scheme, documents = corpus
    with pytest.raises(InterpError, match=message):
        intervene(make_model(), documents, [scheme], **arguments)


def test_an_empty_corpus_and_a_scheme_that_takes_the_name_of_all_tokens_are_refused(
    make_model, make_documents, make_scheme
):
    model = make_model()
    with pytest.raises(InterpError, match="no document"):
        intervene(model, [], [make_scheme("s", 2)])
    scheme = make_scheme("overall", 2)
    with pytest.raises(InterpError, match="'overall', which stands for all tokens"):
        intervene(model, make_documents([scheme], 60, [20]), [scheme])

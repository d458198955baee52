"""Changes of attention, loss and predictions, against the whole model run again."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.analysis.interventions import run as runs_module
from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.plan import Intervention, Place, changes
from interp.analysis.interventions.result import TABLES, Interventions
from interp.analysis.interventions.run import Predicted, compare_predictions, losses_of
from interp.analysis.readers.own import OwnAttended, OwnReader
from interp.analysis.settings import InterventionSettings
from interp.model.config import BiasConfig
from tests.analysis.interventions.observed import LENGTHS, Observed, kl, mean_by_class, rows_about, top1_changed
from tests.analysis.sharing import folders_of_two_processes, write_case
from tests.model.cases import LLAMA, MIXED

PER_HEAD = BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)


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


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, "q"),
        ({}, "v"),
        ({"positional": "rope", "activation": "prelu", "n_layers": 3, "seed": 2}, "qv"),
        ({"q": PER_HEAD, "v": PER_HEAD, "n_layers": 1}, "qv"),
        ({**LLAMA, "q": PER_HEAD, "v": PER_HEAD}, "qv"),
        ({**MIXED, "qk_norm": True}, "qv"),
    ],
    ids=str,
)
def test_every_number_equals_the_whole_model_run_again_in_float64(make_model, corpus, changes, part):
    model, (scheme, documents) = make_model(**changes), corpus
    settings = InterventionSettings(
        where="all,layers,L0H1", scales=(0, 2.5), part=part, batch_size=3, random_directions=0, replicates=2
    )
    found = intervene(model, documents, [scheme], settings, stack=3)
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
    found = intervene(
        model,
        documents,
        [scheme],
        InterventionSettings(where="L1", scales=(0,), random_directions=2, replicates=2, seed=5),
    )
    drawn = changes(biases, [Intervention(Place("L1", 1), 0.0, "random", draw) for draw in (0, 1)], "q", 5)
    model.double()
    before = Observed(model, documents, "s", 3)
    with model.bias(bias=(biases[0] + drawn[0][0]).double()):
        check_against(before, Observed(model, documents, "s", 3), found, "L1", 0, "random")
    model.float()


def test_a_scale_of_one_changes_exactly_nothing(make_model, corpus):
    scheme, documents = corpus
    found = intervene(
        make_model(),
        documents,
        [scheme],
        InterventionSettings(where="all,L1,L0H1", scales=(1,), part="qv", random_directions=1),
    )
    assert set(found.loss["direction"]) == {"bias", "random"}
    assert (found.loss["difference"] == 0).all()
    assert (found.loss[["ci_low", "ci_high"]].dropna() == 0).all(axis=None) and found.loss["ci_low"].notna().any()
    assert (found.predictions[["kl", "top1_changed"]] == 0).all(axis=None)
    assert (found.predictions[["kl_ci_low", "kl_ci_high", "top1_ci_high"]].dropna() == 0).all(axis=None)
    assert (found.loss["loss"] == found.loss["loss_unchanged"]).all()
    assert len(found.attention) == 0  # no layer is reached


def test_blocks_of_the_vocabulary_make_no_difference_between_a_run_and_itself(make_model):
    model = make_model()
    tokens = torch.randint(model.cfg.d_vocab, (2, 12), generator=torch.Generator().manual_seed(0))
    ran = OwnReader(model).run(tokens)
    loss, kl, changed = compare_predictions(Predicted(ran, tokens), ran, [0])[0]
    assert len(list(ran.logits(0))) > 2 and not kl.any() and not changed.any()
    rows = [ran.log_probabilities(row)[0, :-1].gather(1, tokens[row, 1:, None])[:, 0] for row in range(2)]
    torch.testing.assert_close(loss, -torch.stack(rows))
    torch.testing.assert_close(losses_of(ran, [0], tokens)[0], loss, rtol=0, atol=0)


def test_attention_is_left_out_where_it_is_not_asked_for_and_nothing_else_changes(make_model, corpus, monkeypatch):
    model, (scheme, documents), looked_at = make_model(n_layers=3), corpus, []
    shares = OwnAttended.shares

    def counted(attended, values, rows=None):
        looked_at.append(len(values))
        return shares(attended, values, rows)

    monkeypatch.setattr(OwnAttended, "shares", counted)

    def found(attention, paths):
        looked_at.clear()
        asked = InterventionSettings(where="all,L0,L1", scales=(0, 2), replicates=5, attention=attention, paths=paths)
        return intervene(model, documents, [scheme], asked), sum(looked_at)

    (every, most), (changed, fewer), (none, least) = found("all", True), found("changed", True), found("none", True)
    assert most > fewer > least > found("none", False)[1] == 0
    for other in (changed, none):
        for name in ("loss", "predictions", "paths"):
            pd.testing.assert_frame_equal(getattr(other, name), getattr(every, name), atol=1e-6, rtol=1e-5)
    own = every.attention["changed_layer"].isna() | (every.attention["changed_layer"] == every.attention["layer"])
    expected = every.attention[own].reset_index(drop=True)
    pd.testing.assert_frame_equal(changed.attention, expected, atol=1e-6, rtol=1e-5)
    assert 0 < len(expected) < len(every.attention) and len(none.attention) == 0


def test_processes_share_even_one_stack_and_every_run_is_made_once():
    for size, processes, sizes in ((8, 1, [5]), (8, 2, [3, 2]), (2, 2, [2, 2, 1]), (8, 9, [1] * 5)):
        found = list(runs_module.stacked(range(5), size, processes))
        assert [len(each) for each in found] == sizes and [run for each in found for run in each] == list(range(5))


def test_a_model_without_a_bias_has_nothing_to_lose(make_model, corpus):
    scheme, documents = corpus
    found = intervene(
        make_model(q=BiasConfig()), documents, [scheme], InterventionSettings(where="all,layers", scales=(0, 2))
    )
    assert found.run["runs"] == 1
    assert (found.loss["difference"] == 0).all() and (found.paths["log2_amplification"].dropna() == 0).all()


@pytest.mark.parametrize("changes", [{"n_layers": 3}, {"positional": "rope"}], ids=str)
def test_sharing_layers_that_do_not_change_changes_no_result(make_model, corpus, monkeypatch, changes):
    model, (scheme, documents) = make_model(**changes), corpus
    calls, rerun = [], OwnReader.rerun

    def from_layer_zero(runs):
        return runs_module.Runs(runs.changes, runs.of, runs.unchanged, [0] * len(runs.first))

    def counted(reader, ran, added, see, first):
        calls.append((first, len(added)))
        return rerun(reader, ran, added, see, first)

    monkeypatch.setattr(OwnReader, "rerun", counted)
    arguments = (model, documents, [scheme])
    shared = intervene(*arguments, InterventionSettings(where="all,layers", scales=(0,), replicates=20))
    layers = [model.cfg.n_layers - first for first, runs in calls for _ in range(runs)]
    calls.clear()
    monkeypatch.setattr(
        "interp.analysis.interventions.measure.runs_of", lambda c: from_layer_zero(runs_module.runs_of(c))
    )
    whole = intervene(*arguments, InterventionSettings(where="all,layers", scales=(0,), replicates=20))
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
        intervene(
            model,
            documents,
            [scheme],
            InterventionSettings(where="all,L0,L1H1", scales=(0, 2), batch_size=b, part="qv"),
            stack=s,
        )
        for b, s in ((1, 1), (6, 5))
    )
    assert model.training and not any(hook.has_hooks() for hook in model.hook_points())
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(many, name), rtol=1e-3, atol=1e-5)


def test_no_document_gives_more_than_a_twentieth_of_the_tokens(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 2)
    documents = make_documents([scheme], 60, [300, 5, 200, 40])
    found = intervene(
        model,
        documents,
        [scheme],
        InterventionSettings(where="L1", scales=(0,), max_tokens=600, replicates=2, paths=False),
    )
    assert found.run["n_tokens"] == 30 + 5 + 30 + 30 and found.run["n_documents"] == 4
    few = intervene(
        model,
        documents,
        [scheme],
        InterventionSettings(where="L1", scales=(0,), max_tokens=60, replicates=2, paths=False),
    )
    assert few.run["n_tokens"] == 4 * 3
    assert found.paths.empty


def intervened(folder, world):
    return interp.interventions(
        folder / "model", folder / "texts.jsonl", ("surface",), pipeline="blank:en", workers=0, replicates=20,
        where="all,layers,L1H2", scales=(0, 2), part="qv", world=world,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_two_processes_share_the_runs_and_both_find_what_one_finds(make_model, tmp_path):
    write_case(tmp_path, make_model())
    one = intervened(tmp_path, None)
    assert one.run["runs"] > 10
    for folder in folders_of_two_processes(intervened, tmp_path):
        two = Interventions.load(folder)
        for name in TABLES:
            assert len(getattr(one, name))
            pd.testing.assert_frame_equal(getattr(two, name), getattr(one, name), rtol=1e-6, atol=1e-6)
        assert two.run == json.loads(json.dumps(one.run))

"""What b_Q is used for, against the whole model in float64 with explicit patterns; planted uses; intervals of shares."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from interp.analysis.accumulators import poisson_weights
from interp.analysis.interventions.measure import classes_with_overall, with_overall
from interp.analysis.interventions.measure_uses import given_back, measure_uses
from interp.analysis.interventions.scores import KeysOfText, TokenGroups
from interp.analysis.interventions.uses import NOTHING, USES_COLUMNS, Uses
from interp.analysis.nulls.spread import Spread
from interp.analysis.readers.own import OwnReader
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.settings import Settings, UsesSettings
from interp.data.contexts import TaggedDocument, pack
from interp.data.corpora.corpus import Document
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.interventions.observed import Observed, mean_by_class
from tests.analysis.reference import rows_of
from tests.model import reference

PER_HEAD = BiasConfig(0.5, 1.0, "fixed", shared_across_heads=False)
head_scores = reference.head_scores


class Explicit:
    """The rows of a corpus with their keys' groups, and losses of the model under any bias scores, by loops in float64."""

    def __init__(self, model, documents, monkeypatch):
        self.model, self.patch = model, monkeypatch
        self.rows, self.labels = rows_of(documents, model.cfg.n_ctx, "s")
        lengths = [len(document.tokens) for document in documents]
        cuts = np.cumsum([len(row) for row in self.rows])[:-1]
        self.owners = np.split(np.repeat(np.arange(len(lengths)), lengths), cuts)
        self.known = {
            "position": [np.arange(len(row)) for row in self.rows],
            "class": self.labels,
            "type": [row.numpy() for row in self.rows],
            "nothing": [np.zeros(len(row), int) for row in self.rows],
        }

    def losses(self, new_scores):
        """Return the losses of all predicted tokens where ``new_scores(row, layer, head, beta)`` stands for beta."""
        found = []
        for number, row in enumerate(self.rows):

            def scores(model, layer, head, normalized, bias, number=number):
                without, v, k = head_scores(model, layer, head, normalized, torch.zeros_like(bias))
                beta = k @ bias / model.cfg.d_head**0.5
                return without + torch.as_tensor(new_scores(number, layer, head, beta)), v, k

            with self.patch.context() as patch, torch.no_grad():
                patch.setattr(reference, "head_scores", scores)
                log_probabilities = reference.forward(self.model, row)[:-1].log_softmax(-1)
            found.append(-log_probabilities[torch.arange(len(row) - 1), row[1:]].numpy())
        return np.concatenate(found)

    def scores(self):
        """Return the unchanged model's bias scores by (row, layer, head)."""
        found = {}

        def keep(number, layer, head, beta):
            found[number, layer, head] = beta.numpy()
            return beta

        self.losses(keep)
        return found

    def offset_given(self, scores, known, row, layer, head):
        """Return the estimated mean score of the keys like each key of a row, less that of all, in the other half."""
        size = range(len(self.rows))
        values = np.concatenate([scores[r, layer, head] for r in size])
        owner, group = np.concatenate(self.owners), np.concatenate(self.known[known])
        offsets = []
        for document, x in zip(self.owners[row], self.known[known][row], strict=True):
            other = owner % 2 != document % 2
            offsets.append(estimated(values[other], group[other]).get(x, 0.0))
        return np.array(offsets)


def estimated(values, group):
    """Best linear estimates of the groups' means, less the mean of all, by a one-way analysis of variance."""
    parts = {x: values[group == x] for x in np.unique(group)}
    if len(parts) == 1:
        return {}
    n = np.array([len(part) for part in parts.values()])
    within = sum(((part - part.mean()) ** 2).sum() for part in parts.values()) / (len(values) - len(parts))
    between = sum(len(p) * (p.mean() - values.mean()) ** 2 for p in parts.values()) / (len(parts) - 1)
    t = max(0.0, (between - within) / ((len(values) - (n**2).sum() / len(values)) / (len(parts) - 1)))
    return {x: (p.mean() - values.mean()) * len(p) * t / (len(p) * t + within) for x, p in parts.items()}


def of(table, keeps, scheme="overall", draw=0):
    return table[(table["keeps"] == keeps) & (table["predicted_scheme"] == scheme) & (table["draw"] == draw)]


def keys_of(model, documents, scheme):
    classes = classes_with_overall([scheme])
    text = list(pack(with_overall(documents, None), model.cfg.n_ctx, 3, 0))
    reader = OwnReader(model)
    return KeysOfText(reader, reader.shifts("bias"), TokenGroups(classes, model.cfg.n_ctx, text), classes, text), text


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"q": PER_HEAD}, {"q": PER_HEAD, "positional": "rope", "n_layers": 3}], ids=str)
def test_every_loss_equals_the_whole_model_with_explicit_patterns_in_float64(make_model, corpus, monkeypatch, changes):
    model, (scheme, documents) = make_model(**changes).double(), corpus
    found = measure_uses(model, documents, [scheme], UsesSettings(controls=1, replicates=2, batch_size=3), stack=3)
    explicit = Explicit(model, documents, monkeypatch)
    scores = explicit.scores()
    label = np.concatenate([labels[1:] for labels in explicit.labels])
    unchanged = explicit.losses(lambda row, layer, head, beta: beta)
    differences = []
    for known in ("nothing", "position", "class", "type"):

        def kept(row, layer, head, beta, known=known):
            return explicit.offset_given(scores, known, row, layer, head)

        cases = {known: explicit.losses(kept)}
        if known != "nothing":
            cases[f"all but {known}"] = explicit.losses(
                lambda *where: where[-1] - torch.tensor(kept(*where[:-1], None))
            )
        else:
            np.testing.assert_allclose(cases[known], explicit.losses(lambda *where: 0 * where[-1]), atol=1e-9)
        for name, losses in cases.items():
            by_class, overall = of(found.loss, name, "s"), of(found.loss, name)
            np.testing.assert_allclose(by_class["loss"], mean_by_class(losses, label, 3), atol=1e-8)
            np.testing.assert_allclose(by_class["difference"], mean_by_class(losses - unchanged, label, 3), atol=1e-8)
            np.testing.assert_allclose(overall["loss"], [losses.mean()], atol=1e-8)
            np.testing.assert_allclose(overall["loss_unchanged"], [unchanged.mean()], atol=1e-8)
            differences.append(overall["difference"].item())
            np.testing.assert_allclose(overall["restored"].dropna(), 1 - differences[-1] / differences[0])
        np.testing.assert_array_equal(by_class["n_tokens"], np.bincount(label))
    assert len(set(np.round(differences, 6))) == 7  # every replacement does something else
    keys, _ = keys_of(model, documents, scheme)
    drawn = keys.spread().directions(keys.bias, 1, 0)[:, :, 0]
    for layer_head, beta in scores.items():  # a control takes the scores along its direction away
        assert np.abs(beta).max() > 0 and drawn[layer_head[1:]].abs().max() > 0
    with model.bias(bias=(model.biases_in_force()[0] - drawn, None)):
        control = explicit.losses(lambda row, layer, head, beta: beta)
    np.testing.assert_allclose(of(found.loss, "control")["loss"], [control.mean()], atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_scores_to_which_nothing_is_added_change_nothing_and_a_constant_in_their_place_removes_b_q(
    make_model, corpus, positional
):
    model, (scheme, documents) = make_model(positional=positional, q=PER_HEAD), corpus
    _, [contexts, *_] = keys_of(model, documents, scheme)
    reader, cfg = OwnReader(model), model.cfg
    ran = reader.run(contexts.tokens)
    changes = torch.zeros(2, 2, cfg.n_layers, cfg.n_heads, cfg.d_head)
    changes[1, 0] = -model.biases_in_force()[0]
    added = torch.zeros(cfg.n_layers, 2, len(contexts.tokens), cfg.n_heads, cfg.n_ctx)
    added[:, 1] = 3.7
    same, constant = reader.rerun(ran, changes, scores=added).log_probabilities(0)
    torch.testing.assert_close(same, ran.log_probabilities(0)[0], rtol=1e-4, atol=1e-4)
    removed = reader.rerun(ran, changes[1:]).log_probabilities(0)[0]
    torch.testing.assert_close(constant, removed, rtol=1e-4, atol=1e-4)
    assert (removed - same).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"q": PER_HEAD, "positional": "rope"}], ids=str)
def test_scores_of_every_control_spread_as_those_of_b_q(make_model, make_documents, make_scheme, changes):
    model, scheme = make_model(**changes), make_scheme("s", 3)
    documents = make_documents([scheme], 60, [30, 25, 40, 45])
    keys, text = keys_of(model, documents, scheme)
    directions = keys.spread().directions(keys.bias, 20, 5)
    found = {}
    name = "hook_rot_k" if model.cfg.positional == "rope" else "hook_k"
    for batch in text:
        _, cache = model.run_with_cache(batch.tokens)
        for layer in range(model.cfg.n_layers):
            found.setdefault(layer, []).append(cache[f"blocks.{layer}.attn.{name}"][batch.mask].double())
    for layer, parts in found.items():
        k = torch.cat(parts)  # [token, head_index, d_head]
        along = torch.einsum("thd,hrd->hrt", k, directions[layer].double()).std(-1)
        expected = torch.einsum("thd,hd->ht", k, keys.bias[layer].double()).std(-1)
        torch.testing.assert_close(along, expected[:, None].expand_as(along), rtol=1e-5, atol=0)
    cosines = torch.nn.functional.cosine_similarity(directions[..., :1, :], directions[..., 1:, :], dim=-1)
    assert cosines.abs().max() < 1 - 1e-3  # no two are alike
    none = keys.spread().directions(torch.zeros_like(keys.bias), 3, 5)
    assert (none == 0).all()


def test_where_keys_do_not_vary_controls_have_no_part():
    basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    variances = torch.tensor([4.0, 1.0, 0.3, 0.1, 0.0, 0.0], dtype=torch.float64)
    covariance = (basis * variances) @ basis.T
    u = Spread.of(covariance[None, None].numpy()).directions(torch.ones(1, 1, 6), 50, 0)[0, 0].double()
    torch.testing.assert_close(((u @ covariance) * u).sum(-1), covariance.sum().expand(50), rtol=1e-5, atol=0)
    assert (u @ basis[:, 4:]).abs().max() < 1e-5 * u.abs().max()
    scores = (u @ basis[:, :4]) * variances[:4].sqrt()  # equally large along all axes in which keys vary
    np.testing.assert_allclose(scores.square().mean(0) / scores.square().mean(), 1, atol=0.6)


@torch.no_grad()
def written_by(model, n_documents, seed=0):
    """Documents of one context each that the model itself writes, so that every change of it costs."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.cfg.d_vocab, (n_documents, 1), generator=generator)
    while tokens.shape[1] < model.cfg.n_ctx:
        probabilities = model(tokens)[:, -1].softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], 1)
    labels = torch.randint(3, tokens.shape, generator=generator).numpy()
    return [
        TaggedDocument(n, Document(str(n), "text"), row, np.zeros((len(row), 2), dtype=np.int64), {"s": labels[n]})
        for n, row in enumerate(tokens.numpy())
    ]


def test_a_bias_score_that_depends_on_the_position_alone_is_given_back_by_position_and_not_by_class(
    make_model, make_scheme
):
    model = make_model(std=0.3)
    unit = torch.nn.functional.normalize(model.biases_in_force()[0].detach(), dim=-1)
    at = 6 * torch.sin(torch.arange(model.cfg.n_ctx) * 2.0)

    def turned(k, hook):
        u = unit[hook.layer()]
        return k + (at[: k.shape[1], None] - (k * u).sum(-1))[..., None] * u

    for layer in range(model.cfg.n_layers):
        model.add_hook(f"blocks.{layer}.attn.hook_k", turned, is_permanent=True)
    found = measure_uses(model, written_by(model, 60), [make_scheme("s", 3)], UsesSettings(max_tokens=None, controls=3))
    restored = {keeps: of(found.loss, keeps)["restored"].item() for keeps in found.loss["keeps"].unique()}
    cost = of(found.loss, NOTHING)
    assert cost["ci_low"].item() > 0.01
    assert restored["position"] == pytest.approx(1, abs=1e-3) and restored["all but class"] > 0.9
    assert abs(restored["class"]) < 0.1 and abs(restored["all but position"]) < 0.02
    assert of(found.loss, "position")["difference"].item() == pytest.approx(0, abs=1e-5)


def test_fiellers_interval_covers_the_share_at_its_nominal_rate_and_is_missing_where_nothing_is_lost():
    """Documents of one length with correlated costs of x (true mean 0.1) and of removing (0.25): 0.6 is given back."""
    n_documents, covered, told = 12, [], []
    for seed in range(500):
        random = np.random.default_rng(seed)
        y = 0.25 + 0.15 * random.standard_normal(n_documents)
        x = 0.1 + 0.5 * (y - 0.25) + 0.1 * random.standard_normal(n_documents)
        weights = poisson_weights(torch.arange(n_documents), 200, seed).numpy().T  # [replicate, document]
        pairs = [(np.array([v.mean()]), (weights @ v / weights.sum(1))[:, None]) for v in (x, y, y - 0.25)]
        found = given_back(pairs[0], pairs[1], np.array([12.0]))
        if np.isfinite(found["restored"][0]):
            assert found["restored"][0] == pytest.approx(1 - x.mean() / y.mean())
            covered.append(found["restored_ci_low"][0] <= 0.6 <= found["restored_ci_high"][0])
            exact = given_back(pairs[1], pairs[1], np.array([12.0]))
            np.testing.assert_allclose([exact["restored_ci_low"], exact["restored_ci_high"]], 0, atol=1e-6)
        told.append(np.isfinite(given_back(pairs[0], pairs[2], np.array([12.0]))["restored"][0]))
    assert len(covered) > 480 and 0.91 < np.mean(covered) < 0.98
    assert np.mean(told) < 0.09  # of removing something that costs nothing a share is told in a twentieth of the runs


def test_fiellers_ends_are_where_the_paired_difference_reaches_its_half_length():
    random = np.random.default_rng(3)
    xs, ys = random.multivariate_normal([0.2, 0.5], [[0.01, 0.004], [0.004, 0.006]], 400).T
    found = given_back((np.array([0.2]), xs[:, None]), (np.array([0.5]), ys[:, None]), np.array([20.0]))
    half = stats.t.ppf(0.975, 19) * np.sqrt(20 / 19)
    for end in ("restored_ci_low", "restored_ci_high"):
        ratio = 1 - found[end].item()
        assert abs(0.2 - ratio * 0.5) == pytest.approx(half * np.std(xs - ratio * ys, ddof=1))


def test_controls_are_beside_the_removal_with_their_rank(make_model, corpus):
    scheme, documents = corpus
    found = measure_uses(make_model(), documents, [scheme], UsesSettings(controls=9, replicates=20))
    table = found.controls
    assert (table["draws"] == 9).all() and len(table) == 4
    for row in table.to_dict("records"):
        chosen = found.loss[found.loss["predicted_class"] == row["predicted_class"]]
        drawn = chosen.loc[chosen["keeps"] == "control", "difference"]
        assert row["difference"] == chosen.loc[chosen["keeps"] == NOTHING, "difference"].item()
        assert (row["control_mean"], row["control_sd"]) == pytest.approx((drawn.mean(), drawn.std()))
        assert row["p"] == (1 + (drawn.abs() >= abs(row["difference"])).sum()) / 10
    assert chosen["restored"][chosen["keeps"] == "control"].isna().all()


def test_uses_do_not_depend_on_batch_size_or_stack_and_leave_the_model(make_model, corpus):
    model, (scheme, documents) = make_model(), corpus
    model.train()
    settings = {"controls": 2, "replicates": 10}
    one, many = (
        measure_uses(model, documents, [scheme], UsesSettings(**settings, batch_size=size), stack=stack)
        for size, stack in ((1, 1), (4, 8))
    )
    assert model.training and list(one.loss) == list(USES_COLUMNS)
    pd.testing.assert_frame_equal(one.loss, many.loss, rtol=1e-3, atol=1e-5)


def test_without_a_bias_nothing_changes_and_one_warning_says_so(make_model, corpus):
    scheme, documents = corpus
    found = measure_uses(make_model(), documents, [scheme], UsesSettings(bias="none", replicates=10))
    assert (found.loss["difference"] == 0).all() and "control" not in set(found.loss["keeps"])
    assert found.loss["restored"].isna().all() and found.controls.empty
    assert found.run["warnings"] == ["No query bias is in force, so nothing changes."]


def test_a_single_document_has_no_other_to_fit_on_and_none_at_all_is_refused(make_model, corpus):
    scheme, documents = corpus
    found = measure_uses(make_model(), documents[:1], [scheme], UsesSettings(controls=1, replicates=10))
    assert of(found.loss, "position")["difference"].isna().all() and of(found.loss, "nothing")["difference"].item()
    assert "Only one document" in found.run["warnings"][0]
    with pytest.raises(InterpError, match="no document"):
        measure_uses(make_model(), [], [scheme])


def test_uses_survive_saving_and_go_with_an_amplification(make_model, corpus, tmp_path):
    scheme, documents = corpus
    found = measure_uses(make_model(), documents, [scheme], UsesSettings(controls=2, replicates=10))
    names = {"loss.parquet", "replicates.parquet", "loss.csv", "loss.json", "run.json"}
    assert {f.name for f in found.save(tmp_path / "own")} == names
    loaded = Uses.load(tmp_path / "own")
    pd.testing.assert_frame_equal(loaded.loss, found.loss)
    pd.testing.assert_frame_equal(loaded.replicates, found.replicates)
    pd.testing.assert_frame_equal(loaded.controls, found.controls)
    assert loaded.run == found.run
    result = measure(make_model(), documents, [scheme], Settings(nulls=0, replicates=10))
    replace(result, uses=found).save(tmp_path / "report")
    pd.testing.assert_frame_equal(Amplification.load(tmp_path / "report").uses.loss, found.loss)
    result.save(tmp_path / "report")
    assert Amplification.load(tmp_path / "report").uses is None and not (tmp_path / "report" / "uses").exists()
    (tmp_path / "own" / "replicates.parquet").unlink()  # as an earlier version saved it
    assert Uses.load(tmp_path / "own").replicates.empty


def test_replicates_are_the_losses_under_the_weights_of_documents(make_model, corpus):
    model, (scheme, documents) = make_model(), corpus
    found = measure_uses(model, documents, [scheme], UsesSettings(controls=2, replicates=10, seed=3)).replicates
    assert set(found["keeps"]) == {"nothing", "position", "class", "type", "control"} | {
        f"all but {name}" for name in ("position", "class", "type")
    }
    unchanged = Observed(model, documents, "s", len(scheme.classes))
    with model.bias(bias=(torch.zeros(model.cfg.d_head), None)):  # b_V stays
        removed = Observed(model, documents, "s", len(scheme.classes))
    weights = poisson_weights(torch.arange(len(documents)), 10, 3).numpy()[unchanged.document]
    seen = found.query("keeps == 'nothing'")
    for name, run in (("loss_unchanged", unchanged), ("loss", removed)):
        np.testing.assert_allclose(seen[name], np.average(np.tile(run.loss[:, None], 10), 0, weights), atol=1e-5)

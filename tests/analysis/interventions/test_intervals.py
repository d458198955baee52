"""Intervals over documents, and sums of parts of a corpus."""

import numpy as np
import torch
from scipy import stats

from interp.analysis.accumulators import BootstrapSums, poisson_weights
from interp.analysis.batch import Classes
from interp.analysis.interventions import run as runs_module
from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.plan import Intervention, Place, changes
from interp.analysis.interventions.run import InterventionSums
from interp.analysis.readers.own import OwnReader
from interp.analysis.settings import InterventionSettings
from interp.analysis.significance import interval_over_documents, replicate_deviation
from interp.data.contexts import pack
from tests.analysis.interventions.observed import LENGTHS, Observed, kl, rows_about, top1_changed


@torch.no_grad()
def test_intervals_are_those_of_paired_bootstrap_replicates_over_documents(make_model, corpus):
    model, (scheme, documents) = make_model(), corpus
    found = intervene(
        model, documents, [scheme], InterventionSettings(where="all", scales=(0,), replicates=300, seed=7)
    )
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
        return np.where(effective >= 4.2, factor, np.nan) * np.std(replicates, axis=0, ddof=1)

    def resampled(values):
        return np.stack([
            [np.mean(w[after.label == c] * (values[after.label == c] - values[after.label == c].mean())) for c in range(3)]
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
    logs = [weights.T @ x.shares[1, 2] / x.shares[1, 2].sum(0) / np.log(2) for x in (after, before)]  # to first order
    difference = logs[0] - logs[1]
    assert (effective >= 4.2).sum() == 1
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
        mean = np.array([values.sum() / lengths.sum()])
        resampled = sums.resampled[:, 0].numpy()
        replicates = mean + (resampled[:, 0] - mean * resampled[:, 1]) / lengths.sum()
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
        settings = InterventionSettings(replicates=10)
        sums = InterventionSums(OwnReader(model), runs, [0, 1], Classes.of([scheme]), settings, stack=8)
        for contexts in pack(chosen, 20, 3, 0):
            sums.update(contexts)
        return sums

    whole, left, right = over(documents), over(documents[:2]), over(documents[2:])
    left.merge(right)
    for mine, expected in zip([*left.attention, left.predictions, left.predicted],
                              [*whole.attention, whole.predictions, whole.predicted], strict=True):  # fmt: skip
        torch.testing.assert_close(mine.total, expected.total, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(mine.resampled, expected.resampled, rtol=1e-6, atol=1e-5)

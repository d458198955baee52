import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.accumulators import GroupedMoments, ScoreHistogram
from interp.analysis.attention import class_shares
from interp.analysis.batch import DocumentCounts
from interp.analysis.measurements.shares import ShareSums
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from tests.analysis.reference import auroc


def random_scores(seed, tokens, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, tokens, generator=generator) * scale, torch.randint(4, (tokens,), generator=generator)


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=6, max_size=60),
    st.integers(0, 5),
    st.sampled_from([8, 64, 512]),
)
def test_auroc_from_the_histogram_is_within_its_bound_of_all_pairs(values, seed, bins):
    scores = torch.tensor(values)
    classes = torch.arange(len(values)) % 3
    histogram = ScoreHistogram(1, 1, 3, bins=bins)
    for piece in torch.arange(len(values)).split(7):  # ranges that grow on the way
        histogram.update(0, scores[None, piece], classes[None, piece])
    found, bound = histogram.auroc(0, 3)
    for c in range(3):
        expected = auroc(scores[classes == c].numpy(), scores[classes != c].numpy())
        assert abs(found[0, 0, c] - expected) <= bound[0, 0, c] + 1e-9


def test_a_histogram_depends_on_neither_order_nor_batches_nor_merging():
    scores, classes = random_scores(0, 300, scale=3.0)
    whole, pieces, left, right = (ScoreHistogram(1, 2, 4) for _ in range(4))
    whole.update(0, scores, classes[None])
    for piece in torch.randperm(300).split(11):
        pieces.update(0, scores[:, piece], classes[None, piece])
    left.update(0, scores[:, :50] * 1, classes[None, :50])
    right.update(0, scores[:, 50:], classes[None, 50:])
    left.merge(right)
    for other in (pieces, left):
        assert torch.equal(other.counts, whole.counts)
        assert torch.equal(other.exponent, whole.exponent)


def test_moments_merge_to_those_of_the_whole():
    scores, classes = random_scores(1, 200)
    whole, left, right = (GroupedMoments(1, 2, 4) for _ in range(3))
    for moments, part in ((whole, slice(None)), (left, slice(90)), (right, slice(90, None))):
        moments.count_groups(classes[part])
        moments.update(0, scores[:, part], classes[part])
    left.merge(right)
    torch.testing.assert_close(left.mean(), whole.mean())
    for c in range(4):
        own = scores[0, classes == c].double()
        torch.testing.assert_close(whole.mean()[0, 0, c], own.mean())
        torch.testing.assert_close(whole.variance()[0, 0, c], own.var())


@pytest.mark.parametrize(("d_head", "n_classes"), [(8, 3), (8, 8), (8, 21), (3, 7)])
@pytest.mark.parametrize("strength", [0.0, 1.0, 10.0, 100.0])  # the last spreads scores over more than 50 nats
def test_class_shares_equal_explicit_patterns_of_both_queries(d_head, n_classes, strength):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, 9, 3, d_head, generator=generator)
    vector = torch.randn(3, d_head, generator=generator) * strength
    one_hot = torch.nn.functional.one_hot(torch.randint(n_classes, (2, 9), generator=generator), n_classes).float()
    found = class_shares(q, k, vector, torch.cat([one_hot, one_hot.flip(-1)], -1))  # two schemes side by side
    for query, shares in zip((q + vector, q), found, strict=True):
        scores = torch.einsum("bihd,bjhd->bhij", query.double(), k.double()) / d_head**0.5
        scores = scores.masked_fill(torch.ones(9, 9, dtype=torch.bool).triu(1), -torch.inf)
        expected = torch.einsum("bhij,bjc->bihc", scores.softmax(-1), one_hot.double())
        torch.testing.assert_close(shares[..., :n_classes].double(), expected, rtol=1e-4, atol=2e-6)
        torch.testing.assert_close(shares[..., n_classes:].double(), expected.flip(-1), rtol=1e-4, atol=2e-6)
    if strength == 0:
        assert torch.equal(found[0], found[1])


def test_effective_documents_count_equal_documents_and_discount_unequal_ones(make_documents, make_scheme):
    scheme = make_scheme("s", 2)
    counts = DocumentCounts(["s"], [0], 2, 30)
    documents = make_documents([scheme], 30, [10, 10, 10, 1000])
    for document, only in zip(documents, ([0] * 10, [0] * 10, [0] * 10, [1] * 1000), strict=True):
        document.classes["s"][:] = only
    list(counts.passing(documents, None))
    np.testing.assert_allclose(counts.effective(), [3, 1])
    assert counts.n_documents.tolist() == [3, 1]


def test_two_halves_merge_to_the_bootstrap_of_the_whole():
    shares = torch.rand(2, 40, 3, 4)  # with/without, query, head, class
    documents = torch.nn.functional.one_hot(torch.arange(40) // 10, 4).double()
    whole, left, right = (ShareSums(1, 3, 4, 50, 0, "cpu") for _ in range(3))
    for sums, part in ((whole, [0, 1, 2, 3]), (left, [0, 1]), (right, [2, 3])):
        rows = documents[:, part].any(1)
        sums.update(0, shares[:, rows], documents[rows][:, part], sums.weights(torch.tensor(part)))
    left.merge(right)
    torch.testing.assert_close(left.resampled, whole.resampled)
    torch.testing.assert_close(left.total, whole.total)


@pytest.mark.slow
@pytest.mark.parametrize("n_documents", [8, 12, 40])
def test_with_random_labels_the_intervals_cover_zero_at_their_nominal_rate(
    make_model, make_documents, make_scheme, n_documents
):
    """Labels drawn by chance: the true A of every class is 0, as any class is attended like any other in expectation.

    Documents of unequal length, as real ones; heads of one model share their labels, so only simulations count as draws.
    """
    model, scheme = make_model(n_layers=1, n_heads=2, n_ctx=16, d_model=16), make_scheme("s", 3)
    covered, simulations = [], 100
    for seed in range(simulations):
        lengths = np.random.default_rng(seed).integers(16, 80, size=n_documents)
        documents = make_documents([scheme], model.cfg.d_vocab, lengths, seed=seed)
        heads = measure(model, documents, [scheme], Settings(batch_size=64, passages=0, nulls=0, seed=seed)).heads
        covered.append(((heads["ci_low"] <= 0) & (heads["ci_high"] >= 0)).mean())
    mean, error = np.mean(covered), np.std(covered) / np.sqrt(simulations)
    print(f"{n_documents} documents: coverage {mean:.3f} +- {error:.3f}")
    # within sampling error of 95%; and never far below it
    assert mean + 3 * error > 0.95 - 0.01
    assert mean - 3 * error < 0.95 + 0.03

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.accumulators import GroupedMoments, ScoreHistogram, Sums, TypeSums
from interp.analysis.attention import class_shares
from interp.analysis.batch import Classes, DocumentCounts
from interp.analysis.measurements.position import octave_strata
from interp.analysis.measurements.shares import Shares
from interp.analysis.settings import Settings
from interp.errors import InterpError
from tests.analysis.passes import alone, halves_and_whole, measurement_of, pass_over
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
    counts = DocumentCounts(Classes.of([scheme]))
    documents = make_documents([scheme], 30, [10, 10, 10, 1000])
    for document, only in zip(documents, ([0] * 10, [0] * 10, [0] * 10, [1] * 1000), strict=True):
        document.classes["s"][:] = only
    list(counts.passing(documents, None))
    np.testing.assert_allclose(counts.effective(), [3, 1])
    assert counts.n_documents.tolist() == [3, 1]


def test_two_halves_merge_to_the_bootstrap_of_the_whole(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 4)
    documents = make_documents([scheme], model.cfg.d_vocab, [20, 35, 5, 20, 40])  # rows of 20 end where documents do
    settings = Settings(replicates=50, nulls=0)
    merged, whole = (
        measurement_of(found, Shares).sums for found in halves_and_whole(model, documents, [scheme], settings)
    )
    torch.testing.assert_close(merged.resampled, whole.resampled, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(merged.total, whole.total, rtol=1e-6, atol=1e-6)
    assert whole.total.sum((0, 1, 2, 3)) == pytest.approx(2 * 2 * 3 * 120)  # every query shares out 1, with and without


class Everything(Sums):
    """One part of every kind that sums may have."""

    PARTS = ("number", "tensor", "array", "inner", "inners", "tensors")

    def __init__(self, start):
        self.number, self.tensor, self.array = start, torch.tensor([start, 1]), np.array([[start]])
        self.inner, self.inners = GroupedMoments(1, 1, 2), [GroupedMoments(1, 1, 2), GroupedMoments(1, 1, 3)]
        self.tensors = [torch.tensor([start]), torch.tensor([10.0 * start, 0])]
        for moments in (self.inner, *self.inners):
            moments.sum += start


def test_sums_of_every_kind_merge_and_come_back_and_those_of_another_make_are_refused():
    one, two = Everything(1), Everything(2)
    one.merge(two)
    back = Everything(0)
    back.restore({name: tensor.clone() for name, tensor in one.state().items()})
    for found in (one, back):
        assert found.number == 3 and isinstance(found.number, int)
        assert found.tensor.tolist() == [3, 2] and found.array.tolist() == [[3]]
        assert [moments.sum.unique().tolist() for moments in (found.inner, *found.inners)] == [[3]] * 3
        assert [each.tolist() for each in found.tensors] == [[3], [30, 0]]
    assert set(one.state()) == {
        "number", "tensor", "array", "inner.count", "inner.sum", "inner.squares", "tensors.0", "tensors.1",
        *(f"inners.{n}.{name}" for n in (0, 1) for name in ("count", "sum", "squares")),
    }  # fmt: skip
    for changed in ({"tensor": torch.zeros(3)}, {"further": torch.zeros(1)}, {"inner.further": torch.zeros(1)}):
        with pytest.raises(InterpError, match="are of other sums than this run's; remove them to start over"):
            Everything(0).restore({**one.state(), **changed})
    for left_out in ("number", "inners.1.sum"):
        with pytest.raises(InterpError, match="are of other sums"):
            Everything(0).restore({name: tensor for name, tensor in one.state().items() if name != left_out})


def added(sums, tokens, values):
    rows = sums.count_tokens(tokens)
    sums.sums[0].index_add_(0, rows, values)
    sums.count_at(1, rows, tokens % 2)


def bytes_of(thing):
    """Bytes of all tensors and arrays that sums hold."""
    if isinstance(thing, torch.Tensor | np.ndarray):
        return thing.nbytes
    if isinstance(thing, list | tuple):
        return sum(map(bytes_of, thing))
    return sum(map(bytes_of, vars(thing).values())) if isinstance(thing, Sums) else 0


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=2, max_size=6), st.integers(0, 3))
def test_sums_by_token_type_are_those_of_a_whole_vocabulary_however_they_are_cut_merged_and_kept(batches, cut):
    generator, dense, count = (
        torch.Generator().manual_seed(0),
        torch.zeros(41, 2, 3).double(),
        torch.zeros(41, 2).long(),
    )
    whole, left, right, kept = (TypeSums([(2, 3), (2,)]) for _ in range(4))
    for number, batch in enumerate(batches):
        tokens = torch.tensor(batch, dtype=torch.int64)
        values = torch.randn(len(batch), 2, 3, generator=generator).double()
        for token, value in zip(batch, values, strict=True):
            dense[token] += value
            count[token, token % 2] += 1
        added(whole, tokens, values)
        added(left if number < cut else right, tokens, values)
        fresh = TypeSums([(2, 3), (2,)])
        fresh.restore(kept.state())
        added(fresh, tokens, values)
        kept = fresh
    left.merge(right)
    occurring = count.sum(1).nonzero().flatten()
    for found in (whole, left, kept):
        types, occurrences = found.types()
        assert types.tolist() == occurring.tolist() and occurrences.tolist() == count.sum(1)[occurring].tolist()
        torch.testing.assert_close(found.read(0), dense[occurring], rtol=1e-12, atol=1e-12)
        assert torch.equal(found.read(1), count[occurring].double())
    assert torch.equal(kept.read(0), whole.read(0))  # to the bit
    assert {name: len(rows) for name, rows in whole.state().items()} == dict.fromkeys(
        ("ids", "count", "sums.0", "sums.1"), len(occurring)
    )
    with pytest.raises(InterpError, match="are of other sums"):
        kept.restore({"count": count, "sum": dense})  # as earlier versions kept them


def test_memory_of_a_pass_grows_with_the_types_that_occur_and_not_with_the_vocabulary(
    make_model, make_documents, make_scheme
):
    scheme, settings = make_scheme("s", 3), Settings(nulls=0, replicates=0, passages=0)
    found = {}
    for d_vocab in (300, 50_000):
        model = make_model(d_vocab=d_vocab, n_layers=3, n_heads=4, d_model=16)
        for types in (100, 300):
            documents = make_documents([scheme], types, [3000])
            documents[0].tokens[:] += d_vocab - types  # the last ones
            found[d_vocab, types] = bytes_of(pass_over(model, documents, [scheme], settings))
    row = (
        3 * 4 * 3 * 8 + 3 * 4 + (octave_strata(20)) * 4 + 3 * 2 * 8
    )  # of Tokens, the counts of classes and of positions
    for d_vocab in (300, 50_000):
        assert found[d_vocab, 300] - found[d_vocab, 100] == pytest.approx(
            200 * row, rel=0.35
        )  # there may be room for more
    index = 49_700 * (8 + 3 * 4)  # numbers: the groups of frequent types, and where the rows are
    assert found[50_000, 300] - found[300, 300] == pytest.approx(index, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("n_documents", [8, 40])
def test_with_random_labels_the_intervals_cover_zero_at_their_nominal_rate(
    make_model, make_documents, make_scheme, n_documents
):
    """Labels drawn by chance: the true A of every class is 0, as any class is attended like any other in expectation.

    Documents of unequal length, as real ones; heads of one model share their labels, so only simulations count as draws.
    """
    model, scheme = make_model(n_layers=1, n_heads=2, n_ctx=16, d_model=16), make_scheme("s", 3)
    covered, simulations = [], 50
    for seed in range(simulations):
        lengths = np.random.default_rng(seed).integers(16, 80, size=n_documents)
        documents = make_documents([scheme], model.cfg.d_vocab, lengths, seed=seed)
        shares, found = alone(Shares, model, documents, [scheme], Settings(batch_size=64, fit_tokens=0, seed=seed))
        with np.errstate(invalid="ignore"):  # as in a run
            columns = shares.columns(found)
        covered.append(((columns["ci_low"] <= 0) & (columns["ci_high"] >= 0)).mean())
    mean, error = np.mean(covered), np.std(covered) / np.sqrt(simulations)
    print(f"{n_documents} documents: coverage {mean:.3f} +- {error:.3f}")
    # within sampling error of 95%; and never far below it
    assert mean + 3 * error > 0.95 - 0.01
    assert mean - 3 * error < 0.95 + 0.03

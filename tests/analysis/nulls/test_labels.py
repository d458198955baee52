import numpy as np
import pytest

from interp.analysis.batch import permuted_name, with_permuted_labels
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from tests.analysis.reference import all_relabellings, null_rows, observe, rows_of

LENGTHS = [33, 7, 50, 21, 64]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_label_null_equals_every_permutation_within_documents(make_model, make_documents, make_scheme, batch_size):
    model, scheme = make_model(n_layers=1, n_ctx=4), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [6, 1, 7, 5, 2], seed=3)
    result = measure(model, documents, [scheme], Settings(batch_size=batch_size, passages=0))
    rows, labels = rows_of(documents, 4, "s")
    scores = np.concatenate([s[2] for s in observe(model.double(), rows, 0, 2)])
    model.float()
    borders = np.cumsum([len(d.tokens) for d in documents])[:-1]
    flat = np.concatenate(labels)
    mean, variance = np.zeros(3), np.zeros(3)
    for own, label in zip(np.split(scores, borders), np.split(flat, borders), strict=True):
        sums = np.array([[own[x == c].sum() for c in range(3)] for x in all_relabellings(label)])
        mean, variance = mean + sums.mean(0), variance + sums.var(0)
    table = null_rows(result, "label", "contrast", 0, 2)
    counts = np.bincount(flat, minlength=3)
    np.testing.assert_allclose(table["null_mean"], mean / counts - scores.mean(), atol=1e-6)
    np.testing.assert_allclose(table["null_sd"], np.sqrt(variance) / counts, rtol=1e-4)


def test_permuted_labels_stay_in_their_document_together_and_bos_stays_first(make_documents, make_scheme):
    schemes = [make_scheme("a", 5), make_scheme("b", 7)]
    documents = make_documents(schemes, 30, [1, 2, 40])
    carried = list(with_permuted_labels(documents, 2, 0))
    again = list(with_permuted_labels(reversed(documents), 2, 0))[::-1]
    for before, after, other in zip(documents, carried, again, strict=True):
        pairs = sorted(zip(before.classes["a"], before.classes["b"], strict=True))
        for number in range(2):
            a, b = (after.classes[permuted_name(s, number)] for s in "ab")
            assert sorted(zip(a, b, strict=True)) == pairs
            assert a[0] == before.classes["a"][0]
            np.testing.assert_array_equal(a, other.classes[permuted_name("a", number)])
    assert (carried[2].classes["a permuted 0"] != carried[2].classes["a permuted 1"]).any()

"""Loss by position and class against one forward pass a context, and intervals against a simulation of documents."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from interp.data.classes.built_in import build_schemes
from interp.data.contexts import token_stream
from interp.data.corpora.corpus import open_corpus
from interp.data.shards.open import open_shards
from interp.data.tagging.documents import tag_documents
from interp.errors import InterpError
from interp.evals.held_out import DocumentRatios, held_out_loss, open_held_out, validation_loss

TEXTS = [
    "The quick brown fox doesn't jump over 13 lazy dogs; it sleeps.",
    "In 1905 Albert Einstein published four papers, and none of them mentions a fox. Why would they?",
    "Fox",
    "Prices rose by $5.30 to 12% in well-known markets. The fox sleeps, and 7 dogs jump over it.",
]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


def by_hand(model, texts, scheme_names):
    """A row per predicted token: document, position, class in each scheme, loss."""
    corpus = open_corpus(texts)
    schemes = build_schemes(scheme_names, model.tokenizer, corpus)
    rows = []
    for document in tag_documents(model.tokenizer, corpus, schemes, workers=0, cache=None):
        named = {s.name: [s.classes[c] for c in document.classes[s.name]] for s in schemes}
        rows += [
            {"token": int(token), "document": document.index, **{name: named[name][i] for name in named}}
            for i, token in enumerate(document.tokens)
        ]
    for start in range(0, len(rows), model.cfg.n_ctx):
        context = rows[start : start + model.cfg.n_ctx]
        logits = model(torch.tensor([[row["token"] for row in context]]))[0].double().log_softmax(-1)
        for place, row in enumerate(context[1:]):
            row |= {"pos": place, "loss": -logits[place, row["token"]].item()}
    return pd.DataFrame(rows).dropna().astype({"pos": int})


def test_every_table_is_the_mean_over_the_tokens_it_says(model):
    expected, result = by_hand(model, TEXTS, ["surface"]), held_out_loss(model, TEXTS, ["surface"], batch_size=3)
    assert result.overall.loc[0, "loss"] == pytest.approx(expected["loss"].mean(), abs=1e-5)
    for table, column, name in ((result.positions, "pos", "pos"), (result.classes, "surface", "token_class")):
        found = table[table["n_tokens"] > 0].set_index(name)
        own = expected.groupby(column)
        pd.testing.assert_series_equal(
            found["loss"].sort_index(), own["loss"].mean(), check_names=False, atol=1e-5, rtol=0
        )
        assert (found["n_tokens"].sort_index() == own.size()).all()
        assert (found["n_documents"].sort_index() == own["document"].nunique()).all()
    assert len(result.positions) == model.cfg.n_ctx - 1
    assert result.classes["n_tokens"].sum() == result.overall.loc[0, "n_tokens"]


def test_the_overall_loss_is_the_validation_loss_of_training_and_the_mode_is_restored(model):
    stream = token_stream(model.tokenizer, open_corpus(TEXTS))
    model.train()
    found = held_out_loss(model, TEXTS, []).overall.loc[0]
    assert model.training and len(held_out_loss(model, TEXTS, []).classes) == 0
    model.eval()
    assert found["loss"] == pytest.approx(validation_loss(model, stream), abs=1e-5)
    assert found["n_documents"] == 4


@pytest.mark.parametrize("batch_size", [1, 4])
def test_tables_do_not_depend_on_the_batch_size(model, batch_size):
    expected, found = held_out_loss(model, TEXTS), held_out_loss(model, TEXTS, batch_size=batch_size)
    for name in ("overall", "positions", "classes"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-4)


def test_whole_documents_are_used_up_to_max_tokens_and_always_the_first(model):
    lengths = np.cumsum([1 + len(model.tokenizer.encode(text)) for text in TEXTS])
    for limit, documents in ((1, 1), (int(lengths[1]), 2), (int(lengths[2]) + 1, 3)):
        found = held_out_loss(model, TEXTS, [], max_tokens=limit).overall.loc[0]
        expected = validation_loss(model, token_stream(model.tokenizer, open_corpus(TEXTS[:documents])))
        assert found["loss"] == pytest.approx(expected, abs=1e-5)


def test_the_loss_of_every_document_adds_up_to_the_whole(model):
    found = held_out_loss(model, TEXTS, [], batch_size=2)
    documents, overall = found.documents, found.overall.loc[0]
    assert list(documents["document"]) == list(range(len(TEXTS)))
    assert np.average(documents["loss"], weights=documents["n_tokens"]) == pytest.approx(overall["loss"], rel=1e-12)
    first = held_out_loss(model, TEXTS[:1], []).overall.loc[0]
    assert documents.loc[0, "n_tokens"] == first["n_tokens"]
    assert documents.loc[0, "loss"] == pytest.approx(first["loss"], abs=1e-5)


def test_a_corpus_with_nothing_to_predict_is_refused(make_model):
    with pytest.raises(InterpError, match="no token to predict"):
        held_out_loss(make_model(n_ctx=1), TEXTS, [])


def test_the_ratio_and_its_interval_are_those_of_whole_documents_however_they_are_cut():
    random = np.random.default_rng(0)
    documents = np.repeat(np.arange(14), random.integers(1, 30, size=14))
    cells = np.stack([np.zeros_like(documents), 1 + random.integers(3, size=len(documents))])
    values = random.exponential(size=len(documents))
    ratios = DocumentRatios(5)
    for part in np.array_split(np.arange(len(documents)), 11):
        ratios.update(documents[part], cells[:, part], values[part])
    table = ratios.table()
    for cell in range(4):
        inside = (cells == cell).any(0)
        y = np.bincount(documents[inside], values[inside], 14)
        x = np.bincount(documents[inside], minlength=14)
        y, x = y[x > 0], x[x > 0]
        ratio = y.sum() / x.sum()
        m = x.sum() ** 2 / (x**2).sum()
        error = np.sqrt(m / (m - 1) * ((y - ratio * x) ** 2).sum()) / x.sum()
        low, high = stats.t.interval(0.95, m - 1, ratio, error)
        assert table.loc[cell, "effective_documents"] == pytest.approx(m) and m >= 4.2
        np.testing.assert_allclose(
            table.loc[cell, ["loss", "low", "high"]].astype(float), [ratio, low, high], rtol=1e-9
        )
        assert (table.loc[cell, "n_tokens"], table.loc[cell, "n_documents"]) == (x.sum(), len(x))
    assert table.loc[4, "n_tokens"] == 0 and np.isnan(table.loc[4, "loss"])


def test_the_interval_holds_the_truth_of_clustered_documents_as_often_as_it_says():
    random, held = np.random.default_rng(1), []
    for _ in range(400):
        lengths = random.integers(20, 60, size=40)
        documents = np.repeat(np.arange(40), lengths)
        values = 3 + np.repeat(random.normal(size=40), lengths) + random.normal(size=len(documents))
        ratios = DocumentRatios(1)
        ratios.update(documents, np.zeros((1, len(documents)), dtype=np.int64), values)
        row = ratios.table().loc[0]
        held.append(row["low"] <= 3 <= row["high"])
    assert 0.91 <= np.mean(held) <= 0.985


def test_held_out_documents_of_shards_are_those_between_their_borders(model, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.evals.held_out.PIECE", 50)
    stream = token_stream(model.tokenizer, open_corpus(TEXTS * 3))
    np.save(tmp_path / "val.npy", stream)
    np.save(tmp_path / "train.npy", stream[:60])
    assert len(open_shards(tmp_path, "validation")) == len(stream)
    texts = [document.text for document in open_held_out(model.tokenizer, tmp_path)]
    assert texts == TEXTS * 3
    found = held_out_loss(model, tmp_path, ["surface"]).overall.loc[0]
    assert found["loss"] == pytest.approx(validation_loss(model, stream), abs=1e-5)


def test_the_wikipedia_sample_is_read_from_its_validation_split_and_another_corpus_as_a_whole(model):
    assert open_held_out(model.tokenizer, "wikipedia-sample").split == "validation"
    assert open_held_out(model.tokenizer, TEXTS).split == "all"

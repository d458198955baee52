"""Passages: the most extreme tokens of every head and class against a plain sort, and text that begins with words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.measurements import passages
from interp.analysis.measurements.passages import AFTER, BEFORE, TOP, Passages, TopPassages, beginning
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.contexts import TaggedDocument
from interp.data.corpora.corpus import Document
from interp.data.tokenizer import text_encoder
from interp.spelling import at_words, joined, spaced_texts, token_texts
from tests.analysis.passes import alone, measurement_of, pass_over
from tests.analysis.reference import observe, rows_of

LENGTHS = [33, 7, 50, 21, 64]
LITTLE = Settings(nulls=0, shifts=0, replicates=2, fit_tokens=0)


def plain_top(model, documents, layer, head, scheme):
    """For every class and end the (score, context, position) of the most extreme tokens, by sorting them all."""
    rows, labels = rows_of(documents, model.cfg.n_ctx, scheme.name)
    scores = [seen[2] for seen in observe(model.double(), rows, layer, head)]
    model.float()
    every = [
        (np.float16(score), row, pos, label)
        for row, (of_row, of_label) in enumerate(zip(scores, labels, strict=True))
        for pos, (score, label) in enumerate(zip(of_row, of_label, strict=True))
    ]
    for label, name in enumerate(scheme.classes):
        for end, sign in (("top", -1), ("bottom", 1)):
            own = sorted((sign * score, row, pos) for score, row, pos, of in every if of == label)
            best = {}
            for one in own:
                best.setdefault(one[1], one)  # one of each context
            yield name, end, [(sign * score, row, pos) for score, row, pos in list(best.values())[:TOP]]


@pytest.mark.parametrize("changes", [{}, {"n_layers": 1, "n_heads": 4, "d_model": 16, "n_ctx": 9}], ids=str)
def test_the_most_extreme_tokens_of_a_class_are_those_of_a_plain_sort(make_model, make_documents, make_scheme, changes):
    model, schemes = make_model(**changes), [make_scheme("s", 4), make_scheme("t", 2)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    top = measure(model, documents, schemes, replace(LITTLE, batch_size=3)).tables["top_passages"]
    n_ctx, stream = model.cfg.n_ctx, np.concatenate([one.tokens for one in documents])
    of_document = np.concatenate([np.full(len(one.tokens), one.index) for one in documents])
    looked_at = 0
    for layer, head, scheme in [(0, 0, schemes[0]), (model.cfg.n_layers - 1, 2, schemes[1])]:
        for name, end, expected in plain_top(model, documents, layer, head, scheme):
            own = top[(top["layer"] == layer) & (top["head"] == head)]
            rows = own[(own["token_class"] == name) & (own["end"] == end)]
            assert rows["rank"].tolist() == list(range(len(expected)))
            np.testing.assert_allclose(rows["bias_score"], [score for score, _, _ in expected], rtol=2e-3, atol=1e-6)
            places = [row * n_ctx + pos for _, row, pos in expected]
            assert rows["token_index"].tolist() == stream[places].tolist()
            assert rows["pos"].tolist() == [pos for _, _, pos in expected]
            assert rows["document"].tolist() == of_document[places].tolist()
            assert rows["title"].tolist() == [str(index) for index in of_document[places]]
            looked_at += len(rows)
    assert looked_at > 30


def test_the_contrast_is_to_the_mean_of_the_head(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, [scheme], LITTLE)
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    mean = np.concatenate([seen[2] for seen in observe(model.double(), rows, 1, 2)]).mean()
    model.float()
    own = result.tables["top_passages"].query("layer == 1 and head == 2")
    np.testing.assert_allclose(own["bias_score"] - own["bias_score_contrast"], mean, atol=1e-4)


def test_equal_scores_keep_the_first_in_the_corpus_whatever_the_batches_and_their_order(make_model, make_scheme):
    """Every document is the same, and fills a context: every context has the same scores."""
    model, scheme = make_model(n_ctx=12), make_scheme("s", 2)
    random = np.random.default_rng(3)
    tokens, labels = random.integers(model.cfg.d_vocab, size=12), random.integers(2, size=12)
    documents = [
        TaggedDocument(
            index, Document(f"copy {index}", "text"), tokens, np.zeros((12, 2), dtype=np.int64), {"s": labels}
        )
        for index in range(9)
    ]
    tables = [
        measure(model, documents, [scheme], replace(LITTLE, batch_size=size)).tables["top_passages"]
        for size in (1, 4, 9)
    ]
    for table in tables:
        assert (table["document"] == table["rank"]).all()
        assert (table["title"] == "copy " + table["rank"].astype(str)).all()
        pd.testing.assert_frame_equal(table, tables[0], check_exact=True)
    parts = [measurement_of(pass_over(model, [one], [scheme], LITTLE), TopPassages) for one in documents]
    for number, part in enumerate(parts):  # as if each was read by a process of its own
        part.places[part.places < 1 << 61] += number * 12
        part.around = {place + number * 12: around for place, around in part.around.items()}
    whole = measurement_of(pass_over(model, documents, [scheme], LITTLE), TopPassages)
    for order in (range(9), reversed(range(9))):
        merged = TopPassages(whole.context)
        for number in order:
            merged.merge(parts[number])
        assert merged.places.tolist() == whole.places.tolist()
        assert merged.around == whole.around


def test_what_is_kept_survives_the_way_to_disk(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    documents[2] = replace(documents[2], document=Document('ש"</script>\ud800', "text"))
    kept, found = alone(TopPassages, model, documents, [scheme], LITTLE)
    again = TopPassages(found.context)
    again.restore(kept.state())
    assert again.around == kept.around
    assert any(around.title == 'ש"</script>\N{REPLACEMENT CHARACTER}' for around in again.around.values())
    assert again.values.tolist() == kept.values.tolist() and again.places.tolist() == kept.places.tolist()


def test_only_the_text_around_tokens_that_are_kept_is_held(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [64] * 40)
    kept, _ = alone(TopPassages, model, documents, [scheme], replace(LITTLE, batch_size=2))
    assert set(kept.around) == set(kept.places.unique().tolist())
    assert len(kept.around) < 64 * 40 / 4


def test_without_a_bias_or_passages_there_are_no_top_passages(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    assert "top_passages" not in measure(model, documents, [scheme], replace(LITTLE, bias="none")).tables
    assert "top_passages" not in measure(model, documents, [scheme], replace(LITTLE, passages=0)).tables


def test_passages_have_the_scores_of_their_contexts_beginnings_run_alone(
    make_model, make_documents, make_scheme, monkeypatch
):
    monkeypatch.setattr(passages, "LONGEST_CONTEXT", 17)  # of 24: later queries do not count
    monkeypatch.setattr(passages, "LENGTH", 10)  # positions 4 to 13
    model, scheme, of_batches = make_model(), make_scheme("s", 3), []
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    for size in (1, 3):
        kept, found = alone(Passages, model, documents, [scheme], replace(LITTLE, passages=3, batch_size=size))
        of_batches.append(kept.state()["scores"])
        for sampled in kept.kept:
            again = []

            def see(layer, seen, again=again):
                again.append(torch.stack([seen.scores[0].T, *(mean[0] for mean in seen.mean_received())]))

            batch = beginning(found.context, sampled.contexts, 17)
            found.context.reader.visit(batch, found.context.shifts, see)
            torch.testing.assert_close(sampled.scores, torch.stack(again, 1)[..., 4:14])
    torch.testing.assert_close(*of_batches)
    assert of_batches[0].std() > 0.01


TEXT = "In 1905 Albert Einstein published four well-known papers, and it doesn't mention a fox 😀 anywhere at all. "


@pytest.fixture(scope="module")
def text_documents(tokenizer):
    tokens = text_encoder(tokenizer)([TEXT * 3])[0]
    scheme = {"s": (np.arange(len(tokens)) % 3).astype(np.int64)}
    return [
        TaggedDocument(
            0, Document("Einstein", TEXT * 3), tokens.astype(np.int64), np.zeros((len(tokens), 2), int), scheme
        )
    ]


def cut_words(text):
    """What of a text is no whole word of `TEXT`."""
    words = [word.strip(".,") for word in text.split()]
    known = {word.strip(".,") for word in TEXT.split()}
    return [word for word in words if word and word not in known and "<|endoftext|>" not in word]


def test_passages_begin_and_end_with_words_and_top_ones_hold_the_word_of_their_token(
    make_model, make_scheme, text_documents
):
    model, scheme = make_model(n_ctx=60), make_scheme("s", 3)
    result = measure(model, text_documents, [scheme], replace(LITTLE, passages=4))
    cut = 0
    for _, passage in result.passages.groupby("passage"):
        text = joined(token_texts(model.tokenizer, passage["token_index"]))
        assert cut_words(text) == []
        assert set(passage["title"]) == {"Einstein"}
        cut += len(passage) < 40
    assert cut  # some ends stood inside of words
    top = result.tables["top_passages"]
    inside = top[(top["pos"] > BEFORE) & (top["pos"] < 60 - AFTER)]
    assert len(inside) > 20
    for row in inside.itertuples():
        [text] = [joined([row.before, *token_texts(model.tokenizer, [row.token_index]), row.after])]
        assert "\N{REPLACEMENT CHARACTER}" in text or cut_words(text) == [], text


def test_the_cut_of_texts():
    def cut(texts, first, last, focus):
        start, end = at_words(texts, first, last, focus)
        return texts[start:end]

    texts = [" qu", "ick", " brown", " do", "es", "n", "'t", " well", "-", "known", " 5", ".", "30", " x"]
    assert cut(texts, 1, 6, 2) == [" brown"]
    assert cut(texts, 0, 7, 2) == texts[0:7]
    assert cut(texts, 4, 12, 7) == [" well", "-", "known"]
    assert cut(texts, 8, 14, 11) == [" 5", ".", "30", " x"][:3]
    assert cut(texts, 4, 10, 4) == texts[4:10]  # no cut before the token: the end stays
    assert cut(["日", "本", "語", "を"], 1, 3, 2) == ["本", "語"]
    assert cut(["", "ab", "cd", ""], 1, 3, 1) == ["ab", "cd"]  # borders of a document
    assert cut(["\udcf0\udc9f", "\udc98\udc80", " a", " b"], 1, 3, 2) == [" a"]
    assert at_words([], 0, 0, 0) == (0, 0)


def test_joined_texts_put_pieces_of_characters_together():
    assert joined(["\udcf0\udc9f", "\udc98\udc80", " שלום"]) == "😀 שלום"
    assert joined(["\udcf0"]) == "\N{REPLACEMENT CHARACTER}"


def test_texts_alone_keep_the_space_of_sentencepiece(unchecked):
    class Names:
        def convert_ids_to_tokens(self, tokens):
            return ["▁the", "re"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.spelling.token_texts", lambda tokenizer, tokens: ["the", "re"])
        assert spaced_texts(Names(), [1, 2]) == [" the", "re"]  # pyright: ignore[reportArgumentType] # quacks enough

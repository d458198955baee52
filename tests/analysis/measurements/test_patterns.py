"""Patterns that are kept, against the model run by hand: ours with hooks, others as Hugging Face runs them."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.analysis.measurements import passages, patterns
from interp.analysis.measurements.patterns import BEFORE, AttentionPattern
from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.open import bridge_of
from interp.analysis.readers.own import OwnReader
from interp.analysis.run import measure
from interp.analysis.sentences import read_sentence
from interp.analysis.settings import Settings
from interp.data.contexts import pack
from interp.errors import InterpError
from tests.analysis.readers.families import LAYERS, made, without_query_bias

LENGTHS = [37, 90, 61, 20, 55]
BEGIN, END = 6, 18  # positions in a context of 24 tokens that a passage is cut out of, from a word to a word
QUICK = Settings(passages=5, nulls=0, shifts=0, fit_tokens=0, replicates=0)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(passages, "LENGTH", 12)
    monkeypatch.setattr(patterns, "LENGTH", 7)


@pytest.fixture
def measured(make_documents, make_scheme):
    """A result, and of each of its passages the context and the position where it begins."""

    def measured(reader, d_vocab, settings=QUICK):
        scheme = make_scheme("s", 4)
        documents = make_documents([scheme], d_vocab, LENGTHS)
        result = measure(reader, documents, [scheme], settings)
        rows = [contexts.tokens[0] for contexts in pack(documents, reader.n_ctx, 1, reader.border)]
        found = {}
        for number, passage in result.passages.groupby("passage"):
            ids = passage["token_index"].tolist()
            places = [(row, first) for row in rows for first in range(BEGIN, END - len(ids) + 1)]
            [found[number]] = [(row, at) for row, at in places if row[at : at + len(ids)].tolist() == ids]
        return result, found

    return measured


def expected_of(pattern, first, length):
    """What is kept of a whole context's [query_pos, key_pos]."""
    own = pattern[first : first + length]
    return np.concatenate([own[:, :first].sum(1, keepdims=True), own[:, first : first + length]], 1)


def check(result, contexts, both):
    """Compare all that is kept with ``both(tokens)``, patterns with and without the bias [2][layer, head, query, key]."""
    kept = sorted(set(result.tables["patterns"]["passage"]))
    assert len(kept) == 4 < len(contexts)
    moved = 0.0
    for number in kept:
        context, first = contexts[number]
        for state, whole in enumerate(both(context[None])):
            for layer, head in np.ndindex(whole.shape[:2]):
                found = result.pattern(layer, head, number)
                expected = expected_of(whole[layer, head], first, len(found.tokens))
                np.testing.assert_allclose(found.shares[state], expected, atol=1e-6)
                moved = max(moved, np.abs(found.difference).max())
                np.testing.assert_allclose(found.difference, found.attention - found.attention_unbiased)
    assert moved > 0.01


def own_patterns(model):
    def both(tokens):
        def cached(hooks=()):
            with torch.no_grad(), model.hooks(list(hooks)):
                return model.run_with_cache(tokens)[1]

        cache, without = cached(), []
        for layer in range(model.cfg.n_layers):
            hook = (f"blocks.{layer}.attn.hook_bias_scores", lambda scores, hook: scores * 0)
            without.append(cached([hook])["pattern", layer][0].numpy())
        return [
            np.stack([cache["pattern", layer][0].numpy() for layer in range(model.cfg.n_layers)]),
            np.stack(without),
        ]

    return both


@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_patterns_of_our_model_equal_hook_pattern_with_the_bias_and_without(measured, make_model, positional):
    model = make_model(n_ctx=24, positional=positional)
    result, contexts = measured(OwnReader(model), model.cfg.d_vocab)
    check(result, contexts, own_patterns(model))


def log_ratio_less_score(result):
    """log(with / without) - bias score, less its mean over the keys of a query: 0 if keys alone say what the bias does."""
    table = result.tables["patterns"].query("key >= 0")
    keys = result.passage_scores.rename(columns={"place": "key"})[["layer", "head", "passage", "key", "bias_score"]]
    rows = table.merge(keys, on=["layer", "head", "passage", "key"])
    rows["rest"] = np.log(rows["attention"] / rows["attention_unbiased"]) - rows["bias_score"]
    return (rows["rest"] - rows.groupby(["layer", "head", "passage", "query"])["rest"].transform("mean")).abs().max()


def test_in_our_model_the_two_patterns_differ_by_the_bias_scores_of_keys(measured, make_model):
    model = make_model(n_ctx=24)
    assert log_ratio_less_score(measured(OwnReader(model), model.cfg.d_vocab)[0]) < 1e-3


def hugging_face_patterns(name):
    def run(model, tokens):
        with torch.no_grad():
            found = model(tokens, output_attentions=True, use_cache=False).attentions
        return [each[0].numpy() for each in found]

    def both(tokens):
        model, without = made(name), []
        with_bias = run(model, tokens)
        for layer in range(LAYERS):
            kept = made(name).state_dict()
            without_query_bias(model, name, layer)
            without.append(run(model, tokens)[layer])
            model.load_state_dict(kept)
        return [np.stack(with_bias), np.stack(without)]

    return both


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "gpt-oss"])
def test_patterns_of_other_models_equal_those_with_the_query_bias_zeroed(measured, tokenizer, name):
    """In qwen2 queries turn with the position, so that keys alone do not say what the bias does; gpt-oss has a sink."""
    reader = BridgeReader(bridge_of(made(name), tokenizer), 24)
    result, contexts = measured(reader, 300, Settings(**{**vars(QUICK), "direction": "effective"}))
    check(result, contexts, hugging_face_patterns(name))
    assert (log_ratio_less_score(result) < 1e-3) == (name == "gpt2")
    sums = result.tables["patterns"].groupby(["layer", "head", "passage", "query"])[["attention", "attention_unbiased"]]
    whole = np.allclose(sums.sum(), 1, atol=1e-5)
    assert whole == (name != "gpt-oss")


def test_the_table_has_the_same_bytes_whatever_the_batch_size_and_how_many_passages_are_kept(measured, make_model):
    model = make_model(n_ctx=24)
    few, many, more = (
        measured(OwnReader(model), model.cfg.d_vocab, Settings(**{**vars(QUICK), **changes}))[0]
        for changes in ({"batch_size": 1}, {"batch_size": 7}, {"passages": 20})
    )
    table = few.tables["patterns"]
    assert list(table) == patterns.COLUMNS and table["attention"].dtype == np.float32
    pd.testing.assert_frame_equal(many.tables["patterns"], table, check_exact=True)
    values = ["query", "key", "attention", "attention_unbiased"]  # the same passages, which may have other numbers
    pd.testing.assert_frame_equal(more.tables["patterns"][values], table[values], check_exact=True)
    none = measured(OwnReader(model), model.cfg.d_vocab, Settings(**{**vars(QUICK), "passages": 0}))[0]
    assert "patterns" not in none.tables
    with pytest.raises(InterpError, match="no patterns: it was made without passages or by an earlier version"):
        none.pattern(0, 0)


def test_a_saved_result_gives_the_pattern_of_a_head_with_its_tokens(measured, make_model, tmp_path):
    model = make_model(n_ctx=24)
    result, _ = measured(OwnReader(model), model.cfg.d_vocab)
    result.save(tmp_path)
    loaded = interp.Amplification.load(tmp_path)
    kept = sorted(set(result.tables["patterns"]["passage"]))
    found = loaded.pattern(1, 2)
    np.testing.assert_array_equal(found.shares, result.pattern(1, 2, kept[0]).shares)
    assert found.tokens == result.passages.query("passage == @kept[0]")["token_string"].to_list()[:7]
    table = found.table
    assert len(table) == 7 * 8 // 2 + 7 and (table["key"] <= table["query"]).all()
    np.testing.assert_allclose(table.groupby("query")["attention"].sum(), 1, atol=1e-6)
    row = table.query("query == 5 and key == 2").iloc[0]
    assert (row["query_token"], row["key_token"]) == (found.tokens[5], found.tokens[2])
    assert row["difference"] == found.difference[5, 2] and not np.triu(found.attention, 1).any()
    np.testing.assert_array_equal(table.loc[table["key"] == BEFORE, "attention"], found.before[0])
    with pytest.raises(InterpError, match="There is no head L5H0; the result has 2 layers of 3 heads"):
        loaded.pattern(5, 0)
    missing = next(number for number in range(5) if number not in kept)
    with pytest.raises(InterpError, match=f"No patterns were kept of passage {missing}; choose of"):
        loaded.pattern(0, 0, missing)


def test_the_last_tokens_alone_keep_what_stands_before_them():
    shares = np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 4)
    last = AttentionPattern("L0H0", ["a", "b", "c"], shares).last(2)
    assert last.tokens == ["b", "c"]
    np.testing.assert_array_equal(last.before, shares[:, 1:, :2].sum(-1))
    np.testing.assert_array_equal(last.attention, shares[0, 1:, 2:])
    assert last.last(9).shares.shape == (2, 2, 3)


TEXT = "In 1905 Einstein"


@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_the_pattern_of_a_text_is_that_of_the_model_with_this_layers_bias_and_without(make_model, positional):
    model = make_model(n_ctx=24, positional=positional).double()
    sentence = read_sentence(model, TEXT, ["surface"], scale=0)  # what is scaled does not change it
    both = own_patterns(model)(model.to_tokens(TEXT))
    for layer, head in np.ndindex(2, 3):
        found = sentence.pattern(layer, head)
        np.testing.assert_allclose(found.attention, both[0][layer, head], atol=1e-12)
        np.testing.assert_allclose(found.attention_unbiased, both[1][layer, head], atol=1e-12)
        assert found.tokens == sentence.tokens["token_string"].to_list() and not found.before.any()
        received = sentence.of_head(layer, head)["attention_unchanged"]
        np.testing.assert_allclose(found.attention.sum(0) / np.arange(len(received), 0, -1), received)
    with pytest.raises(InterpError, match="There is no head L7H0"):
        sentence.pattern(7, 0)


def test_the_pattern_of_a_text_in_a_model_whose_queries_turn(tokenizer):
    sentence = read_sentence(made("qwen2"), TEXT, ["surface"], direction="effective", tokenizer=tokenizer)
    both = hugging_face_patterns("qwen2")(torch.tensor(sentence.tokens["token_index"].to_numpy())[None])
    for layer, head in np.ndindex(2, 4):
        for mine, theirs in zip(sentence.pattern(layer, head).shares, both, strict=True):
            np.testing.assert_allclose(mine[:, 1:], theirs[layer, head], atol=1e-6)


def test_patterns_of_a_text_that_would_take_too_much_memory_are_left_out(make_model, monkeypatch):
    monkeypatch.setattr("interp.analysis.sentences.PATTERN_NUMBERS", 2 * 6 * 10**2)
    model = make_model(n_ctx=60)
    assert read_sentence(model, "fox", ["surface"]).patterns is not None
    long = read_sentence(model, "fox jump " * 6, ["surface"])
    with pytest.raises(InterpError, match=f"texts of up to 10 tokens, and this one has {len(long.tokens)}; shorten it"):
        long.pattern(0, 0)

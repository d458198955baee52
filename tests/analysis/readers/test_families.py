"""Attention with and without the query bias, of many families, against the Hugging Face model with that bias zeroed."""

import numpy as np
import pytest
import torch

from interp.analysis.batch import Batch, Classes
from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.open import bridge_of
from interp.analysis.readers.patterns import _without_but
from interp.analysis.readers.rotation import Turning
from interp.data.contexts import pack
from interp.errors import InterpError
from tests.analysis.readers.families import CONTEXT, FAMILIES, HEADS, LAYERS, VOCABULARY, made, without_query_bias

BIASED = [name for name, family in FAMILIES.items() if family.bias]


def hugging_face(name):
    """The model itself, untouched by a bridge."""
    return made(name)


def patterns(model, tokens):
    """[layer, batch, head, query_pos, key_pos] of the Hugging Face model."""
    with torch.no_grad():
        return torch.stack(model(tokens, output_attentions=True, use_cache=False).attentions)


def reference(name, tokens):
    """Patterns as they are, and in each layer those with that layer's query bias zeroed."""
    model = hugging_face(name)
    with_bias, without = patterns(model, tokens), []
    for layer in range(LAYERS):
        kept = made(name).state_dict()
        without_query_bias(model, name, layer)
        without.append(patterns(model, tokens)[layer])
        model.load_state_dict(kept)
    return with_bias, torch.stack(without)


@pytest.fixture(scope="module")
def batch(make_documents, make_scheme):
    """Documents of unequal length, in two full contexts and a short one."""
    scheme = make_scheme("s", 3)
    documents = make_documents([scheme], VOCABULARY, [30, 7, 9])
    [contexts] = pack(documents, CONTEXT, 8, 0)
    return Batch(contexts, Classes.of([scheme]), torch.device("cpu"))


def reader_of(name, tokenizer):
    return BridgeReader(bridge_of(made(name), tokenizer), CONTEXT)


def seen(reader, batch, direction="effective"):
    found = []
    with reader.reading("mean"):
        reader.visit(batch, reader.shifts(direction), lambda layer, layer_seen: found.append(layer_seen))
    return found


@pytest.mark.parametrize("name", BIASED)
def test_patterns_equal_the_model_with_that_bias_zeroed(name, batch, tokenizer):
    with_bias, without = reference(name, batch.contexts)
    reader = reader_of(name, tokenizer)
    layers = seen(reader, batch)
    assert len(layers) == LAYERS and (with_bias - without).abs().max() > 1e-3
    for layer, found in enumerate(layers):
        real = batch.mask[:, None, :, None]
        for mine, theirs in zip(found.patterns, (with_bias[layer], without[layer]), strict=True):
            np.testing.assert_allclose((mine * real).numpy(), (theirs * real).numpy(), atol=1e-5)
        shares = torch.einsum("bhij,bjc->bihc", without[layer], batch.one_hot)[batch.mask]
        received = found.received(torch.zeros(1, *batch.mask.shape, HEADS), batch.document_rows)
        by_class = torch.einsum("vdhbj,bjc->vhc", received, batch.one_hot)
        np.testing.assert_allclose(by_class[1], shares.sum(0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(by_class[2], by_class[1], rtol=1e-5)  # a reading that adds nothing


PATTERN_AS_SCORES = ("opt", "xglm")  # families whose hook of the scores holds the pattern
NOT_LINEAR = ("qwen3-bias",)  # queries are normalized after the bias
CAPPED = ("gemma2-bias",)


@pytest.mark.parametrize("name", [name for name in BIASED if name not in (*PATTERN_AS_SCORES, *NOT_LINEAR, *CAPPED)])
def test_bias_scores_are_what_the_bias_adds_to_scores_on_average_over_the_queries_that_see_the_key(
    name, batch, tokenizer
):
    reader = reader_of(name, tokenizer)
    linear = seen(reader, batch)
    assert reader.linear
    reader._turning = Turning((), True)  # as if scores were not linear: differences of scores
    for mine, exact in zip(linear, seen(reader, batch), strict=True):
        assert not hasattr(exact, "keys") and hasattr(mine, "keys")
        np.testing.assert_allclose(mine.scores[batch.mask], exact.scores[batch.mask], atol=2e-5)


@pytest.mark.parametrize("name", ["gpt2", "bloom", *PATTERN_AS_SCORES])
def test_without_rotation_log_odds_differ_between_keys_by_their_bias_scores(name, batch, tokenizer):
    reader = reader_of(name, tokenizer)
    assert not reader._turning.turns
    for found in seen(reader, batch):
        with_bias, without = (pattern.double() for pattern in found.patterns)
        gap = (with_bias / without).log() - found.scores.double().transpose(1, 2)[:, :, None]
        seen_ones = torch.where(without > 0, gap, torch.nan)
        assert (seen_ones - seen_ones.nanmean(-1, keepdim=True)).nan_to_num().abs().max() < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "gpt-oss", *NOT_LINEAR])
def test_along_the_bias_itself_attention_is_as_it_is_and_along_none_it_is_as_without(name, batch, tokenizer):
    reader = reader_of(name, tokenizer)
    with reader.reading("mean"):
        shifts = reader.shifts("effective")
        one_hot = torch.eye(batch.contexts.shape[1]).expand(len(batch.contexts), -1, -1)  # a class for every position

        def look(layer, found):
            for vector, pattern in zip((shifts.vector[layer], 0 * shifts.vector[layer]), found.patterns, strict=True):
                along, without = found.shares_along(vector, one_hot)
                torch.testing.assert_close(along, pattern.transpose(1, 2), rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(without, found.patterns[1].transpose(1, 2), rtol=1e-5, atol=1e-6)

        reader.visit(batch, shifts, look)


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_behind_a_norm_of_queries_scores_are_differences_and_there_are_no_keys(name, batch, tokenizer):
    reader = reader_of(name, tokenizer)
    layers = seen(reader, batch)
    assert not reader.linear and all(not hasattr(found, "keys") and found.scores.isfinite().all() for found in layers)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3"])
def test_a_model_without_a_query_bias_says_what_can_be_asked(name, tokenizer):
    reader = reader_of(name, tokenizer)
    with (
        reader.reading("mean"),
        pytest.raises(InterpError, match="no query bias to look along; --direction mean-query"),
    ):
        reader.shifts("effective")
    with reader.reading("mean"), pytest.raises(InterpError, match="no unlearned query bias"):
        reader.shifts("bias")


@pytest.mark.parametrize("name", ["gpt2", "pythia", "phi"])
def test_a_folded_bridge_is_read_along_the_folded_bias_and_says_so(name, batch, tokenizer):
    """Raw, the shift of the LayerNorm is no part of the bias; folded, it is, whichever way the bridge was booted."""
    raw, folded = reader_of(name, tokenizer), reader_of(name, tokenizer)
    folded.model.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(InterpError, match=r"are folded into its weights.*--direction folded"):
        folded.shifts("effective")
    along, other = raw.shifts("folded").vector, folded.shifts("folded").vector
    torch.testing.assert_close(along, other, atol=1e-5, rtol=1e-5)
    assert (along - raw.shifts("effective").vector).abs().max() > 0.1
    for mine, theirs in zip(seen(raw, batch, "folded"), seen(folded, batch, "folded"), strict=True):
        for one, two in zip(mine.patterns, theirs.patterns, strict=True):
            torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["qwen2", "gpt-oss"])
@pytest.mark.parametrize("size", [0.5, 30.0, 200.0])
def test_numbers_added_to_the_scores_of_keys_give_the_softmax_of_the_sums(name, size, batch, tokenizer):
    """Whatever their size, and with the sinks of gpt-oss, whose scores the numbers are not added to."""
    found = seen(reader_of(name, tokenizer), batch)[0]
    for shift in (0.0, -size, size):
        added = size * torch.randn(*batch.mask.shape, HEADS, generator=torch.Generator().manual_seed(0)) / 4 + shift
        without, numbers = (each.double().numpy() for each in (found.patterns[1], added.transpose(1, 2)))
        given = _without_but(found.patterns[1], added).numpy()
        for row, head, query in np.ndindex(without.shape[:3]):
            p0, r = without[row, head, query, : query + 1], numbers[row, head, : query + 1]
            sink = 1 - p0.sum() if name == "gpt-oss" else 0.0
            largest = max(r[p0 > 0].max(), 0.0 if sink else -np.inf)
            weights = p0 * np.exp(r - largest)
            expected = weights / (weights.sum() + sink * np.exp(-largest))
            np.testing.assert_allclose(given[row, head, query, : query + 1], expected, atol=2e-5)

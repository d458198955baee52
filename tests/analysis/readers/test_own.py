"""Our own reader on Llama's block and its relatives, against the patterns of a slow reference in float64."""

from itertools import product

import numpy as np
import pytest
import torch

from interp.analysis.batch import Batch, Classes
from interp.analysis.readers.open import open_reader
from interp.analysis.readers.own import OwnReader
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.data.contexts import pack
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.reference import observe, rows_of, shares
from tests.model.cases import LLAMA, MIXED, QWEN3
from tests.model.reference import forward, normed

PER_HEAD = BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)
BLOCKS = {
    "llama, b_Q of each head": {**LLAMA, "q": PER_HEAD},  # heads of one group look along directions of their own
    "qwen3": QWEN3,
    "normalized queries, learned positions": {**MIXED, "qk_norm": True, "q": PER_HEAD},
}
LENGTHS = [30, 7, 9]  # in two full contexts and a short one
N_CLASSES = 3


@pytest.fixture
def read(make_model, make_documents, make_scheme):
    def make(block, direction="bias"):
        """A model in float64, its documents, their batch, and what a reader shows of each layer."""
        model, scheme = make_model(**BLOCKS[block]).double(), make_scheme("s", N_CLASSES)
        documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
        [contexts] = pack(documents, model.cfg.n_ctx, 8, 0)
        batch, layers = Batch(contexts, Classes.of([scheme]), torch.device("cpu")), []
        reader = OwnReader(model)
        with reader.reading("mean"):
            reader.visit(batch, reader.shifts(direction), lambda layer, seen: layers.append(seen))
        return model, documents, batch, layers

    return make


def heads_of(model):
    return product(range(model.cfg.n_layers), range(model.cfg.n_heads))


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_amplification_equals_that_of_explicit_patterns(read, block):
    model, documents, batch, layers = read(block)
    assert len(layers) == model.cfg.n_layers
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    for layer, head in heads_of(model):
        expected = shares(observe(model, rows, layer, head), labels, N_CLASSES)
        seen = layers[layer]
        nothing = seen.scores.new_zeros(1, *seen.scores.shape)
        received = torch.einsum("vdhbj,bjc->vhc", seen.received(nothing, batch.document_rows), batch.one_hot.double())
        found = received[:, head].numpy() / sum(LENGTHS)
        np.testing.assert_allclose(found[:2], expected, rtol=1e-9)
        np.testing.assert_allclose(found[2], expected[1], rtol=1e-9)  # a reading that adds nothing
        amplified = np.log2(expected[0] / expected[1])
        assert np.abs(amplified).max() > 0.01
        np.testing.assert_allclose(np.log2(found[0] / found[1]), amplified, atol=1e-9)


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_scores_and_received_attention_equal_the_reference(read, block):
    model, documents, batch, layers = read(block)
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    whole = np.arange(model.cfg.n_ctx, 0, -1)  # queries that see each key of a full context
    for layer, head in heads_of(model):
        observed = observe(model, rows, layer, head)
        scores = np.concatenate([scores for _, _, scores, _ in observed])
        np.testing.assert_allclose(layers[layer].scores[batch.mask][:, head], scores, atol=1e-9)
        received = [attention[:, head] for attention in layers[layer].mean_received()]
        for row in range(2):
            for found, pattern in zip(received, observed[row][:2], strict=True):
                np.testing.assert_allclose(found[row], pattern.sum(0) / whole, atol=1e-9)


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_along_another_direction_each_head_of_a_group_is_looked_at_along_its_own(read, block):
    model, documents, batch, layers = read(block)
    other = torch.randn(model.b_Q.shape, generator=torch.Generator().manual_seed(3)).double()
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    for layer, head in heads_of(model):
        found = layers[layer].shares_along(other[layer], batch.one_hot)[:, batch.mask][:, :, head].mean(1)
        expected = shares(observe(model, rows, layer, head, other), labels, N_CLASSES)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@torch.no_grad()
def test_a_given_direction_is_added_to_queries_without_the_bias(read):
    direction = torch.linspace(-1, 1, 8)
    model, documents, batch, layers = read("llama, b_Q of each head", direction)
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    given = direction.double().expand(model.b_Q.shape)
    for layer, head in heads_of(model):
        expected = shares(observe(model, rows, layer, head, given), labels, N_CLASSES)
        seen = layers[layer]
        received = seen.received(seen.scores.new_zeros(0, *seen.scores.shape), batch.document_rows)
        found = torch.einsum("vdhbj,bjc->vhc", received, batch.one_hot.double())[:, head] / sum(LENGTHS)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@torch.no_grad()
def test_mean_queries_are_behind_their_norm_and_with_rope_are_refused(read):
    model, documents, batch, _ = read("normalized queries, learned positions")
    found = OwnReader(model).mean_queries([batch])
    rows, _ = rows_of(documents, model.cfg.n_ctx, "s")
    expected = torch.zeros(found.shape, dtype=torch.float64)
    for row in rows:

        def visit(layer, normalized):
            attn = model.blocks[layer].attn
            q = torch.einsum("pm,hmd->phd", normalized, attn.W_Q) + attn.b_Q
            expected[layer] += normed(attn.q_norm, q, model.cfg.eps).sum(0)

        forward(model, row, visit)
    expected = expected / sum(LENGTHS) + model.biases_in_force()[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    model, _, batch, _ = read("qwen3")
    with pytest.raises(InterpError, match="With RoPE a mean query turns with the position"):
        OwnReader(model).mean_queries([batch])


@pytest.mark.parametrize("block", [{**LLAMA, "learned_biases": "qkv"}, QWEN3], ids=["qwen2", "qwen3"])
@pytest.mark.parametrize("q", [BiasConfig(), PER_HEAD], ids=["without b_Q", "with b_Q"])
@torch.no_grad()
def test_a_learned_query_bias_that_turns_is_refused_and_read_on_the_bridge(
    make_model, make_documents, make_scheme, block, q
):
    model, scheme = make_model(**{**block, "q": q}), make_scheme("s", N_CLASSES)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    with pytest.raises(InterpError, match=r"With RoPE the learned query bias turns .* read model.to_bridge\(\)"):
        OwnReader(model).shifts("effective")
    settings = Settings(direction="effective", nulls=0, shifts=0, passages=0, replicates=2, fit_tokens=0)
    heads = measure(open_reader(model.to_bridge(), context=model.cfg.n_ctx), documents, [scheme], settings).heads
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    for layer in range(model.cfg.n_layers):
        name, sums = f"blocks.{layer}.attn.hook_pattern", np.zeros((2, model.cfg.n_heads, N_CLASSES))
        for row, label in zip(rows, labels, strict=True):
            streams = model.run_with_cache(row[None], stop_at_layer=layer + 1)[1]
            patterns = [streams[name][0]]
            learned = model.blocks[layer].attn.b_Q
            kept = learned.clone()
            learned.zero_()
            patterns.append(
                model.run_with_cache(streams["resid_pre", layer], start_at_layer=layer, stop_at_layer=layer + 1)[1][
                    name
                ][0]
            )
            learned.copy_(kept)
            for place, pattern in enumerate(patterns):
                np.add.at(sums[place], (slice(None), label), pattern.sum(1).numpy())
        expected = np.log2(sums[0] / sums[1])
        assert np.abs(expected).max() > 0.02
        found = heads[heads["layer"] == layer].set_index(["head", "token_class"])["log2_amplification"]
        for head, c in np.ndindex(expected.shape):
            assert found[head, f"s{c}"] == pytest.approx(expected[head, c], abs=1e-4)


def test_every_measurement_is_made_of_a_model_with_llamas_block(make_model, make_documents, make_scheme):
    """Parts of A of positions and types, draws of the bias, nulls and passages: what each is, its own tests check."""
    model, scheme = make_model(**LLAMA), make_scheme("s", N_CLASSES)
    documents = make_documents([scheme], model.cfg.d_vocab, [33, 7, 50, 21, 64, 40])
    asked = {"nulls": 4, "amplified_nulls": 2, "replicates": 4, "passages": 2, "bias_samples": 2, "by_type": True}
    found, batched = (measure(model, documents, [scheme], Settings(**asked, batch_size=size)) for size in (2, 5))
    for name, table in found.tables.items():
        assert len(table) == len(batched.tables[name]), name
        if "head" in table and len(table):
            assert set(table["head"]) == set(range(4)), name
    heads = found.heads
    assert heads["log2_amplification"].abs().min() > 0
    parts = heads["log2_amplification_position"] + heads["log2_amplification_beyond"]
    np.testing.assert_allclose(parts, heads["log2_amplification"], atol=1e-5)
    np.testing.assert_allclose(heads["log2_amplification"], batched.heads["log2_amplification"], atol=1e-5)


def test_runs_go_side_by_side_as_long_as_no_activation_is_a_large_block(make_model):
    reader = OwnReader(make_model())
    most = 2**25 // (4 * reader.model.cfg.d_mlp)  # tokens whose float32 activations are 32 MiB
    assert [reader.side_by_side(tokens) for tokens in (1, most // 8, most // 5, most, 9 * most)] == [8, 8, 5, 1, 1]
    reader.model.to(torch.bfloat16)
    assert reader.side_by_side(most) == 2

from copy import deepcopy

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from interp.model.norm import NORMS
from interp.spelling import token_strings
from tests.model.cases import LLAMA, MIXED, QWEN3, SHAPES, random_tokens


@torch.no_grad()
def test_qk_and_ov_are_products_of_the_weights_of_a_head(make_model):
    model = make_model()
    for layer, block in enumerate(model.blocks):
        for head in range(3):
            attn = block.attn
            torch.testing.assert_close(model.QK[layer, head].AB, attn.W_Q[head] @ attn.W_K[head].T)
            torch.testing.assert_close(model.OV[layer, head].AB, attn.W_V[head] @ attn.W_O[head])


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_the_bias_circuit_gives_the_bias_scores_of_the_normalized_stream(make_model, changes):
    model = make_model(**{**changes, "positional": "learned"})
    _, cache = model.run_with_cache(random_tokens(model))
    for layer, block in enumerate(model.blocks):
        scores = torch.einsum("bpm,hm->bhp", cache["normalized", layer, "ln1"], model.bias_QK[layer])
        bias_q, beta_k, scale = model.biases_in_force()[0][layer], block.attn.b_K, 1.0
        if model.cfg.qk_norm:
            scale = cache[f"blocks.{layer}.attn.k_norm.hook_scale"][..., 0].transpose(1, 2)  # of the one key head
            beta_k = beta_k * block.attn.k_norm.w
        scores, constant = scores / scale, (bias_q * beta_k).sum(-1)[:, None] / scale
        expected = cache[f"blocks.{layer}.attn.hook_bias_scores"]
        torch.testing.assert_close((scores + constant) / model.cfg.attn_scale, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_with_rope_the_bias_circuit_is_exact_at_the_first_position(make_model):
    model = make_model(positional="rope")
    _, cache = model.run_with_cache(torch.arange(50)[:, None])
    scores = model.bias_QK_embed()[0, :, :50].T
    expected = cache["blocks.0.attn.hook_bias_scores"][..., 0]
    constant = (model.biases_in_force()[0][0] * model.blocks[0].attn.b_K).sum(-1) / model.cfg.attn_scale
    torch.testing.assert_close(scores + constant, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_top_tokens_are_those_with_the_highest_and_lowest_bias_scores(make_model):
    model = make_model()
    table = model.bias_top_tokens(1, 2, k=4)
    scores = model.bias_QK_embed()[1, 2]
    order = scores.argsort(descending=True).tolist()
    assert table["token_index"].tolist() == order[:4] + order[-4:]
    assert table["token"].tolist() == token_strings(model.tokenizer, order[:4] + order[-4:])
    torch.testing.assert_close(
        torch.tensor(table["score"]),
        (scores - scores.mean()).sort(descending=True)[0][[0, 1, 2, 3, -4, -3, -2, -1]],
        check_dtype=False,
    )
    with pytest.raises(InterpError, match="no head 3"):
        model.bias_top_tokens(0, 3)


@torch.no_grad()
def test_the_value_circuit_is_what_b_v_adds_to_the_stream_at_every_position(make_model):
    model = make_model(q=BiasConfig(), n_layers=1)
    tokens = random_tokens(model)
    with_bias = model.run_with_cache(tokens)[1]["attn_out", 0]
    with model.bias(scale=0):
        without = model.run_with_cache(tokens)[1]["attn_out", 0]
    torch.testing.assert_close(with_bias - without, model.bias_OV[0].sum(0).expand_as(without), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_accumulated_bias_sums_the_output_biases_before_a_layer(make_model):
    model = make_model(n_layers=3)
    for layer in range(4):
        attention = sum(model.blocks[i].attn.b_O for i in range(layer))
        both = sum((model.blocks[i].mlp.b_out for i in range(layer)), attention)
        expected = both if layer else torch.zeros(24)
        torch.testing.assert_close(model.accumulated_bias(layer), expected)
        if layer:
            torch.testing.assert_close(model.accumulated_bias(layer, include_mlp_biases=False), attention)
        if layer < 3:
            with_this = expected + model.blocks[layer].attn.b_O
            torch.testing.assert_close(model.accumulated_bias(layer, mlp_input=True), with_this)
    for layer, mlp_input in ((4, False), (3, True), (-1, False)):
        with pytest.raises(InterpError, match="this model has 3 layers"):
            model.accumulated_bias(layer, mlp_input)


def test_weights_have_transformer_lens_names(make_model):
    model = make_model()
    weights = model.tl_parameters()
    assert model.all_head_labels == ["L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"]
    assert weights["blocks.1.attn.W_O"].shape == (3, 8, 24)
    assert torch.equal(weights["unembed.W_U"], weights["embed.W_E"].T)
    counted = {name: value for name, value in weights.items() if not name.startswith("unembed")}
    assert sum(value.numel() for value in counted.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("changes", [LLAMA, QWEN3, MIXED], ids=["llama", "qwen3", "mixed"])
def test_every_weight_of_a_modern_block_is_there_under_transformer_lens_name(make_model, changes):
    model = make_model(**changes)
    weights = model.tl_parameters()
    if model.cfg.tied:
        del weights["unembed.W_U"]
    del weights["unembed.b_U"]
    stored = {value.data_ptr(): value.numel() for value in weights.values()}  # views, each of another place
    assert len(stored) == len(weights)
    assert sum(stored.values()) == sum(
        p.numel() for name, p in model.named_parameters() if not name.startswith("bias_")
    )
    assert weights["blocks.1.attn._W_K"].shape == (model.cfg.kv_heads, model.cfg.d_model, model.cfg.d_head)
    assert model.W_K.shape == (2, 4, model.cfg.d_model, model.cfg.d_head)
    assert (model.W_gate is None) == (changes is MIXED)
    assert model.W_gate is None or torch.equal(model.W_gate[1], weights["blocks.1.mlp.W_gate"])


@pytest.mark.parametrize("mode", ["Q", "K", "V"])
@torch.no_grad()
def test_composition_is_what_a_later_head_reads_of_an_earlier_ones_output(make_model, mode):
    model = make_model(n_layers=3)
    scores = model.all_composition_scores(mode)
    assert scores.shape == (3, 3, 3, 3)
    written = model.W_V[0, 1] @ model.W_O[0, 1]
    read = model.W_V[2, 0] @ model.W_O[2, 0] if mode == "V" else model.W_Q[2, 0] @ model.W_K[2, 0].T
    read = read.T if mode == "K" else read
    torch.testing.assert_close(scores[0, 1, 2, 0], (written @ read).norm() / (written.norm() * read.norm()))
    assert not scores[2, :, 2].any() and not scores[1, :, 0].any()
    assert torch.equal(model.W_E_pos, torch.cat([model.W_E, model.W_pos]))


def test_composition_of_anything_else_is_refused(make_model, unchecked):
    for wrong in ("X", "q", None, 1):
        with pytest.raises(InterpError, match=r"mode is .*; choose one of Q, K, V"):
            make_model().all_composition_scores(wrong)


@pytest.mark.parametrize("block", [{}, {"positional": "rope"}, LLAMA, QWEN3, MIXED], ids=str)
@torch.no_grad()
def test_weights_stand_where_their_names_say(make_model, block):
    model = make_model(**block)
    for name, value in model.tl_parameters().items():
        found = model
        for part in name.split("."):
            found = getattr(found, part)
        assert torch.equal(found, value), name
        assert found.data_ptr() == value.data_ptr() or name == "unembed.b_U", name
    assert model.embed.W_E.shape == (model.cfg.d_vocab, 24)
    assert model.unembed.W_U.shape == (24, model.cfg.d_vocab)
    assert model.unembed.b_U.shape == (model.cfg.d_vocab,) and not model.unembed.b_U.any()
    assert hasattr(model, "pos_embed") == (model.cfg.positional == "learned")
    if model.cfg.positional == "learned":
        assert model.pos_embed.W_pos.shape == (20, 24)
    tokens = random_tokens(model)
    final = model.run_with_cache(tokens)[1]["ln_final.hook_normalized"]
    torch.testing.assert_close(final @ model.unembed.W_U + model.unembed.b_U, model(tokens))
    torch.testing.assert_close(model.unembed(final), model(tokens))
    assert any("unembed" in name for name in model.state_dict()) != model.cfg.tied
    copied = deepcopy(model)
    copied.embed.W_E.zero_()
    assert copied.unembed.W_U.any() != model.cfg.tied and model.unembed.W_U.any()


@pytest.mark.parametrize("name", NORMS)
@torch.no_grad()
def test_a_norm_is_its_linear_map_at_its_scale_and_its_shift(make_model, name):
    norm = make_model(norm=name).double().ln_final
    x, y = torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inverse = 1 / norm.scale(x)
    torch.testing.assert_close(norm.linearize(inverse)(x) + norm.b, norm.normalize(x))
    held = norm.linearize(0.7)
    torch.testing.assert_close(held(2 * x - 3 * y), 2 * held(x) - 3 * held(y))

import sys

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests import commands
from tests.model.cases import SHAPES, random_tokens
from tests.model.reference import forward


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_logits_equal_a_slow_float64_transcription(make_model, changes):
    model = make_model(seed=3, **changes)
    tokens = random_tokens(model)
    expected = torch.stack([forward(model, row) for row in tokens])
    torch.testing.assert_close(model.double()(tokens), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_open_attention_and_the_fused_kernel_give_the_same_logits(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    plain = model(tokens)
    hooked, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(hooked, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))
    rows = cache["blocks.0.attn.hook_pattern"].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))


@torch.no_grad()
@pytest.mark.parametrize("variant", ["symmetric", "broken"])
def test_rotating_a_head_changes_a_model_only_if_its_symmetry_is_broken(make_model, variant):
    none = {"q": BiasConfig(), "v": BiasConfig()}
    model = make_model(**(none if variant == "symmetric" else {}))
    tokens = random_tokens(model)
    plain = model(tokens)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    for pair in (("W_Q", "b_Q", "W_K", "b_K"), ("W_V", "b_V")):
        kept = {name: getattr(model, name).clone() for name in (*pair, "W_O")}
        for name in pair:
            getattr(model, name)[1, 2] = getattr(model, name)[1, 2] @ rotation
        if "W_V" in pair:
            model.W_O[1, 2] = rotation.T @ model.W_O[1, 2]
        difference = float((model(tokens) - plain).abs().max())
        assert difference < 1e-4 if variant == "symmetric" else difference > 1e-2
        for name, value in kept.items():
            getattr(model, name).copy_(value)


def test_accessors_are_views_stacked_over_layers(make_model):
    model = make_model()
    for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
        stacked = getattr(model, name)
        for layer, block in enumerate(model.blocks):
            torch.testing.assert_close(stacked[layer], getattr(block.attn, name).data)
        stacked[1].fill_(7.0)
        assert bool((getattr(model.blocks[1].attn, name) == 7.0).all())
    assert model.W_in.shape == (2, 24, 96)
    assert model.W_out.shape == (2, 96, 24)
    assert model.b_in.shape == (2, 96)
    assert model.b_out.shape == (2, 24)
    assert model.W_U.shape == (24, model.cfg.d_vocab)


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_the_next_token(make_model):
    model = make_model()
    tokens = random_tokens(model)
    logits, loss = model(tokens, return_type="both")
    losses = [-logits[b, p].log_softmax(-1)[tokens[b, p + 1]] for b in range(2) for p in range(10)]
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    torch.testing.assert_close(model(tokens, return_type="loss", loss_per_token=True).flatten(), torch.stack(losses))
    torch.testing.assert_close(
        model(tokens, stop_at_layer=1), model.run_with_cache(tokens)[1]["resid_post", 0], rtol=1e-5, atol=1e-5
    )


def test_gradients_reach_every_parameter_and_no_unlearned_bias(make_model):
    model = make_model(activation="prelu").train()
    model(random_tokens(model), return_type="loss").backward()
    names = dict(model.named_parameters())
    assert not any(name.startswith("bias_") for name in names)
    for name, parameter in names.items():
        assert parameter.grad is not None, name
        assert name == "blocks.0.attn.qkv.bias" or bool(parameter.grad.any()), name


def test_too_many_positions_and_text_without_a_tokenizer_are_refused(make_model):
    model = make_model()
    with pytest.raises(InterpError, match="21 positions; this model has n_ctx 20"):
        model(random_tokens(model, pos=21))
    model.tokenizer = None
    with pytest.raises(InterpError, match="no tokenizer"):
        model("text")


COMPILED = """
import torch
from interp.model.config import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer

for config in (preset("tiny", "bqbv", n_layers=2), preset("llama-mini", "bqbv", n_layers=1, qk_norm=True, tied=False)):
    model = HookedSymmetryBrokenTransformer(config).train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    tokens = torch.randint(4096, (2, 16))
    for step in (1, 2):
        model.draw_biases(step)
        print(compiled(tokens, return_type="loss").item(), model(tokens, return_type="loss").item())
"""


@pytest.mark.slow
def test_the_training_forward_compiles_without_a_graph_break_and_sees_new_draws():
    # in a process of its own: a compiler cannot look through the type checker of the tests
    output = commands.run([sys.executable, "-c", COMPILED], check=True).stdout
    losses = [[float(loss) for loss in line.split()] for line in output.splitlines()]
    assert len(losses) == 4
    for first, second in (losses[:2], losses[2:]):
        assert first[0] == pytest.approx(first[1], abs=1e-5)
        assert second[0] == pytest.approx(second[1], abs=1e-5)
        assert first[0] != second[0]

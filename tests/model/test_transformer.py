import subprocess
import sys

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.model.reference import forward

SHAPES = [
    {"activation": "gelu"},
    {"activation": "prelu", "positional": "rope"},
    {"activation": "prelu", "n_layers": 1, "n_heads": 1, "d_model": 8},
    {"positional": "rope", "n_heads": 4, "d_model": 32, "q": BiasConfig(0.7, 0.3, "fixed", shared_across_heads=False)},
    {"q": BiasConfig(), "v": BiasConfig()},
]


def random_tokens(model, batch=2, pos=11, seed=0):
    return torch.randint(model.cfg.d_vocab, (batch, pos), generator=torch.Generator().manual_seed(seed))


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
def test_head_results_and_bias_sum_to_the_attention_output(make_model):
    model = make_model()
    _, cache = model.run_with_cache(random_tokens(model))
    for layer, block in enumerate(model.blocks):
        results = torch.einsum("bphd,hdm->bpm", cache["z", layer], block.attn.W_O) + block.attn.b_O
        torch.testing.assert_close(results, cache["attn_out", layer], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_biases_are_added_to_queries_and_values_and_their_mean_is_in_force_at_evaluation(make_model):
    model = make_model()
    _, cache = model.run_with_cache(random_tokens(model))
    for letter, mean in (("q", 0.5), ("v", 0.3)):
        bias = cache[f"blocks.1.attn.hook_bias_{letter}"]
        torch.testing.assert_close(bias, torch.full((3, 8), mean))
        without = cache[f"blocks.1.attn.hook_{letter}"]
        torch.testing.assert_close(cache[f"blocks.1.attn.hook_{letter}_biased"], without + mean)


@torch.no_grad()
def test_aligned_components_and_bias_scores_are_projections_on_the_bias(make_model):
    model = make_model()
    _, cache = model.run_with_cache(random_tokens(model))
    bias = cache["blocks.1.attn.hook_bias_q"]
    k = cache["blocks.1.attn.hook_k"]
    aligned = torch.einsum("bphd,hd->bph", k, bias) / bias.norm(dim=-1)
    torch.testing.assert_close(cache["blocks.1.attn.hook_k_aligned"], aligned)
    scores = torch.einsum("bphd,hd->bhp", k, bias) / model.cfg.d_head**0.5
    torch.testing.assert_close(cache["blocks.1.attn.hook_bias_scores"], scores)


@torch.no_grad()
def test_scaling_bias_scores_equals_scaling_the_query_bias_and_removing_k_aligned_removes_it(make_model):
    model = make_model(n_layers=1, v=BiasConfig())
    tokens = random_tokens(model)
    with model.bias(scale=2):
        doubled = model(tokens)
    hook = "blocks.0.attn.hook_bias_scores"
    torch.testing.assert_close(model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda s, hook: 2 * s)]), doubled)
    for name in ("hook_k_aligned", "hook_bias_scores"):
        edit = [(f"blocks.0.attn.{name}", lambda x, hook: torch.zeros_like(x))]
        _, cache = model.run_with_cache(tokens)
        with model.hooks(fwd_hooks=edit):
            _, edited = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_attn_scores")
        bias_scores = cache["blocks.0.attn.hook_bias_scores"][:, :, None]
        along_q = cache["blocks.0.attn.hook_q_aligned"].transpose(1, 2)[..., None]
        along_k = cache["blocks.0.attn.hook_k_aligned"].transpose(1, 2)[:, :, None]
        removed = bias_scores if name == "hook_bias_scores" else bias_scores + along_q * along_k / 8**0.5
        torch.testing.assert_close(edited["blocks.0.attn.hook_attn_scores"], cache["attn_scores", 0] - removed)


@torch.no_grad()
@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_every_hook_point_acts_on_the_logits_when_edited_and_is_gone_afterwards(make_model, positional):
    model = make_model(positional=positional)
    tokens = random_tokens(model)
    plain = model(tokens)
    for name in model.hook_dict:
        noise = torch.Generator().manual_seed(0)

        def edit(x, hook, noise=noise):
            return x + torch.where(x.isfinite(), torch.randn(x.shape, generator=noise), 0.0)

        changed = (model.run_with_hooks(tokens, fwd_hooks=[(name, edit)]) - plain).abs().max()
        assert changed > 1e-3, name
    torch.testing.assert_close(model(tokens), plain, rtol=0, atol=0)


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


def test_draws_depend_on_seed_and_step_alone(make_model):
    first, second = make_model(), make_model(std=0.5)
    draws = {}
    for step in (1, 2, 7):
        for model in (first, second):
            model.train().draw_biases(step)
        draws[step] = first.biases_in_force()[0].clone()
        torch.testing.assert_close(second.biases_in_force()[0], draws[step], rtol=0, atol=0)
    assert not torch.equal(draws[1], draws[2])
    first.draw_biases(1, seed=99)
    assert not torch.equal(first.biases_in_force()[0], draws[1])
    first.draw_biases(7)
    assert torch.equal(first.biases_in_force()[0], draws[7])


def test_draws_have_the_configured_mean_and_standard_deviation(make_model):
    model = make_model(q=BiasConfig(0.5, (0.05, 0.15), "batch", shared_across_heads=False)).train()
    draws = []
    for step in range(2000):
        model.draw_biases(step)
        draws.append(model.biases_in_force()[0].clone())
    together = torch.stack(draws).flatten(0, 2)  # [draw, d_head]
    torch.testing.assert_close(together.mean(0), torch.full((8,), 0.5), rtol=0, atol=0.01)
    torch.testing.assert_close(together.std(0), torch.linspace(0.05, 0.15, 8), rtol=0.05, atol=0)


@pytest.mark.parametrize("mode", ["none", "fixed", "learned", "batch"])
def test_bias_modes_differ_in_what_is_drawn_saved_and_learned(make_model, mode):
    config = BiasConfig() if mode == "none" else BiasConfig(0.5, 0.1, mode)
    model = make_model(q=config, v=BiasConfig()).train()
    before = model.biases_in_force()[0].detach().clone()
    model.draw_biases(5)
    assert torch.equal(model.biases_in_force()[0].detach(), before) == (mode != "batch")
    assert ("bias_q.value" in dict(model.named_parameters())) == (mode == "learned")
    assert ("bias_q.value" in model.state_dict()) == (mode in ("learned", "fixed"))
    assert bool(before.any()) == (mode != "none")


@torch.no_grad()
def test_bias_context_nests_and_restores_after_an_exception(make_model):
    model = make_model()
    tokens = random_tokens(model)
    plain = model(tokens)
    with pytest.raises(ZeroDivisionError), model.bias(scale=2, layers=[1]), model.bias(scale=3, heads=[0]):
        scale = model.bias_scale[..., 0].tolist()
        raise ZeroDivisionError
    assert scale == [[3.0, 1.0, 1.0], [6.0, 2.0, 2.0]]
    assert torch.equal(model(tokens), plain)
    with model.bias(bias="none"):
        removed = model(tokens)
    with model.bias(scale=0):
        assert torch.equal(model(tokens), removed)
    assert not torch.allclose(removed, plain)


def test_a_wrong_hook_name_is_refused_with_the_nearest(make_model):
    model = make_model()
    tokens = random_tokens(model)
    for call in (
        lambda: model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_patern"),
        lambda: model.run_with_cache(tokens, names_filter=["blocks.0.attn.hook_patern"]),
        lambda: model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_patern", print)]),
        lambda: model.add_hook("blocks.0.attn.hook_patern", print),
    ):
        with pytest.raises(InterpError, match=r"did you mean 'blocks\.0\.attn\.hook_pattern'"):
            call()


def test_strings_run_and_the_cache_is_an_activation_cache(make_model):
    model = make_model()
    logits, cache = model.run_with_cache("the fox")
    tokens = model.to_tokens("the fox")
    assert tokens[0, 0] == model.tokenizer.bos_token_id
    torch.testing.assert_close(logits, model(tokens))
    assert type(cache).__name__ == "ActivationCache"
    residual, labels = cache.decompose_resid(return_labels=True)
    assert len(labels) == len(residual) == 2 + 2 * model.cfg.n_layers
    torch.testing.assert_close(residual.sum(0), cache["resid_post", 1], rtol=1e-4, atol=1e-4)
    assert model.to_string(tokens[0, 1:]) == "the fox"
    assert "".join(model.to_str_tokens("the fox", prepend_bos=False)) == "the fox"


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
from interp.model.presets import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer

model = HookedSymmetryBrokenTransformer(preset("tiny", "bqbv", n_layers=2)).train()
compiled = torch.compile(model, backend="eager", fullgraph=True)
tokens = torch.randint(4096, (2, 16))
for step in (1, 2):
    model.draw_biases(step)
    print(compiled(tokens, return_type="loss").item(), model(tokens, return_type="loss").item())
"""


def test_the_training_forward_compiles_without_a_graph_break_and_sees_new_draws():
    # in a process of its own: a compiler cannot look through the type checker of the tests
    output = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True).stdout
    first, second = ([float(loss) for loss in line.split()] for line in output.splitlines())
    assert first[0] == pytest.approx(first[1], abs=1e-5)
    assert second[0] == pytest.approx(second[1], abs=1e-5)
    assert first[0] != second[0]

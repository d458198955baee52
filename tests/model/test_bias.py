import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.model.cases import LLAMA, random_tokens


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


@torch.no_grad()
def test_with_grouped_heads_queries_have_a_bias_each_and_values_one_for_all_that_read_them(make_model):
    own = BiasConfig(0.5, 0.2, "batch", shared_across_heads=False)
    model = make_model(**{**LLAMA, "q": own, "v": own}).train()
    model.draw_biases(3)
    bias_q, bias_v = model.biases_in_force()
    assert bias_q.shape == bias_v.shape == (2, 4, 8)
    assert len(bias_q.flatten(0, 1).unique(dim=0)) == 8 and len(bias_v.flatten(0, 1).unique(dim=0)) == 4
    assert torch.equal(bias_v[:, 0], bias_v[:, 1]) and torch.equal(bias_v[:, 2], bias_v[:, 3])
    tokens = random_tokens(model)
    with model.bias(scale=0, heads=[1]):  # one of two that read the same values
        _, cache = model.run_with_cache(tokens)
    shown = cache["blocks.1.attn.hook_v_biased"] - cache["v", 1].repeat_interleave(2, 2)
    expected = bias_v[1] * torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None]
    torch.testing.assert_close(shown, expected.expand_as(shown), rtol=0, atol=1e-5)


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


def in_force(model):
    return torch.stack([bias.detach().clone() for bias in model.biases_in_force()])


@torch.no_grad()
def test_tensors_take_the_place_of_the_biases_where_the_block_acts(make_model):
    model = make_model()
    plain, tokens = in_force(model), random_tokens(model)
    query, value = torch.randn(2, 3, 8), torch.randn(8)
    with model.bias(bias=query):
        torch.testing.assert_close(in_force(model), torch.stack([query, plain[1]]))
    with model.bias(bias=(None, value), layers=[1], heads=[0, -1], scale=2):
        expected = plain.clone()
        expected[:, 1, [0, 2]] *= 2
        expected[1, 1, [0, 2]] = 2 * value
        torch.testing.assert_close(in_force(model), expected)
        _, cache = model.run_with_cache(tokens)
        torch.testing.assert_close(cache["blocks.1.attn.hook_bias_v"], expected[1, 1])
    assert torch.equal(in_force(model), plain)


def test_the_inner_of_two_replacements_holds_where_it_acts(make_model):
    model = make_model().train()
    model.draw_biases(4)
    drawn = in_force(model)
    with model.bias(bias="mean"):
        mean = in_force(model)
        with model.bias(bias="none", layers=[0]), model.bias(bias="sample", heads=[1], scale=3):
            inner = in_force(model)
        assert torch.equal(in_force(model), mean)
    assert torch.equal(in_force(model), drawn)
    assert not inner[:, 0, [0, 2]].any()
    torch.testing.assert_close(inner[:, :, 1], 3 * drawn[:, :, 1])
    torch.testing.assert_close(inner[:, 1, [0, 2]], mean[:, 1, [0, 2]])
    torch.testing.assert_close(model.mean_biases()[0], model.eval().biases_in_force()[0])


@torch.no_grad()
def test_everything_is_restored_after_an_exception_inside_nested_blocks(make_model):
    model = make_model()
    plain, scale, tokens = in_force(model), model.bias_scale.clone(), random_tokens(model)
    logits = model(tokens)
    with pytest.raises(KeyError), model.bias(scale=0.1), model.bias(bias=torch.ones(8)):
        assert bool((in_force(model)[0] == 0.1).all())
        with model.bias(scale=1 / 3, bias="none", layers=[1]):
            raise KeyError
    assert torch.equal(in_force(model), plain)
    assert torch.equal(model.bias_scale, scale)
    assert torch.equal(model(tokens), logits)


@torch.no_grad()
def test_a_pass_can_scale_the_biases_and_be_differentiated_by_the_scale(make_model):
    model = make_model().double()
    tokens = random_tokens(model)
    with model.bias(scale=0.5):
        halved = model(tokens)
        doubled = model(tokens, bias_scale=torch.full((2, 3, 1), 2.0, dtype=torch.float64))
        torch.testing.assert_close(model(tokens, bias_scale=2.0), doubled)
    torch.testing.assert_close(model(tokens, bias_scale=0.5), halved)
    scale = torch.ones(2, 3, 1, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        model(tokens, return_type="loss", bias_scale=scale).backward()
    step = torch.zeros(2, 3, 1, dtype=torch.float64)
    step[1, 2] = 1e-6
    up, down = (model(tokens, return_type="loss", bias_scale=1 + sign * step) for sign in (1, -1))
    torch.testing.assert_close(scale.grad[1, 2, 0], (up - down) / 2e-6, rtol=1e-5, atol=1e-9)


def test_layers_heads_and_shapes_that_do_not_fit_are_refused(make_model, unchecked):
    model = make_model()
    for changes, message in (
        ({"layers": [2]}, "There is no layer 2; this model has layers 0 to 1"),
        ({"heads": [-4]}, "There is no head -4; this model has heads 0 to 2"),
        ({"bias": torch.ones(2, 4, 8)}, r"The bias has shape \[2, 4, 8\]; \[2, 3, 8\], or one that broadcasts"),
        ({"layers": 1}, r"layers is 1; a list of numbers is expected: layers=\[1\]"),
        ({"heads": 0}, r"heads is 0; a list of numbers is expected: heads=\[0\]"),
        ({"bias": "nonsense"}, "The bias is 'nonsense'; choose one of None, mean, sample, none"),
        ({"bias": (None, "nonsense")}, "The bias is 'nonsense'; choose one of None, mean, sample, none"),
        ({"bias": 0}, "The bias is 0; a word, a tensor or a pair of tensors is expected"),
    ):
        with pytest.raises(InterpError, match=message), model.bias(**changes):
            pass

import pytest
import torch

from interp.model.config import BiasConfig
from tests.model.cases import random_tokens


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

"""Biases drawn from a mixture of several directions: how it is laid out, drawn, put in force and kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.model.bias import bias_generator
from interp.model.checkpoint import load_model, save_checkpoint
from interp.model.config import BiasConfig, ModelConfig, preset
from tests.model.cases import LLAMA, random_tokens

D_HEAD = 8  # of `make_model`
MIXTURE = BiasConfig(0.5, (0.05, 0.15), "batch", directions=4)
OF_HEADS = replace(MIXTURE, shared_across_heads=False, component_per="head")
MEANS = [[1.0, -1.0, 0.5, 0.0, 0.0, 0.2, 0.0, 0.7], 0.25, (-1.0, 1.0)]
GIVEN = BiasConfig(std=(0.2, 0.4), mode="batch", shared_across_heads=False, means=MEANS)


@pytest.mark.parametrize("mean", [0.5, (0.1, 0.9), [1.0, -1.0, 0.5, 0.3, 0.1, 0.2, -2.0, 0.7]], ids=str)
@pytest.mark.parametrize("directions", [2, 3, 8])
def test_directions_are_laid_out_orthogonally_each_as_long_as_the_mean(mean, directions):
    config = BiasConfig(mean, 0.1, "batch", directions=directions)
    found, single = config.components(D_HEAD), config.profile("mean", D_HEAD)
    assert found.shape == (directions, D_HEAD)
    gram = torch.eye(directions) * (single @ single)
    torch.testing.assert_close(found @ found.T, gram, rtol=1e-6, atol=1e-6)
    assert ((found != 0).sum(0) == 1).all()  # parts are disjoint, and together all dimensions
    own = found != 0
    for component, part in zip(found, own, strict=True):
        torch.testing.assert_close(
            component[part] / single[part], (single.norm() / single[part].norm()).expand(part.sum())
        )


def test_pairs_that_rope_turns_lie_in_one_direction():
    cfg = preset("gpt2-124m", "bq", positional="rope", q=MIXTURE)
    own = cfg.q.components(cfg.d_head)[:, : cfg.rotary_dim] != 0
    first, second = own.split(cfg.rotary_dim // 2, 1)
    assert torch.equal(first, second) and first.any(1).all()


def test_the_mean_in_force_is_that_of_the_mixture(make_model):
    for config in (MIXTURE, GIVEN):
        model = make_model(q=config)
        expected = config.components(D_HEAD).double().mean(0).float().expand(2, 3, -1)
        assert torch.equal(model.biases_in_force()[0], expected)
    length = make_model(q=MIXTURE).bias_q.mean.norm()
    torch.testing.assert_close(length, 0.5 * make_model().bias_q.mean.norm())  # 1 / sqrt(directions)
    torch.testing.assert_close(
        GIVEN.components(D_HEAD)[1:], torch.stack([torch.full((8,), 0.25), torch.linspace(-1, 1, 8)])
    )


def drawn(model, draws):
    found = []
    for step in range(draws):
        model.draw_biases(step)
        found.append(model.biases_in_force()[0].clone())
    return torch.stack(found).double()  # [draw, layer, head_index, d_head]


@pytest.mark.parametrize("config", [MIXTURE, OF_HEADS, GIVEN], ids=["laid out", "per head", "given"])
def test_draws_have_the_mean_and_covariance_of_the_mixture(make_model, config):
    draws = 1500
    found, means = drawn(make_model(q=config).train(), draws), config.components(D_HEAD).double()
    std = config.profile("std", D_HEAD).double()
    spread = (means - means.mean(0)).T @ (means - means.mean(0)) / len(means)  # of the component
    expected = spread + torch.diag(std**2)
    for layer, head in ((0, 0), (1, 2)):
        one = found[:, layer, head]
        error = 5 * (expected.diagonal() / draws).sqrt()
        assert ((one.mean(0) - means.mean(0)).abs() < error).all()
        torch.testing.assert_close(one.T.cov(correction=0), expected, rtol=0.1, atol=0.03)
    # layers are drawn for themselves; heads of a layer with their component, or without
    heads, layers = (cross(found[:, 0, 0], other) for other in (found[:, 0, 1], found[:, 1, 0]))
    alone = config.component_per == "head"
    torch.testing.assert_close(layers, torch.zeros_like(spread), rtol=0, atol=0.03)
    together = expected if config.shared_across_heads else torch.zeros_like(spread) if alone else spread
    torch.testing.assert_close(heads, together, rtol=0.1, atol=0.03)


def cross(a, b):
    return (a - a.mean(0)).T @ (b - b.mean(0)) / len(a)


def test_every_component_is_drawn_equally_often_and_its_noise_is_that_of_one_direction(make_model):
    model, single = (
        make_model(q=OF_HEADS).train(),
        make_model(q=replace(OF_HEADS, directions=1, component_per="layer")).train(),
    )
    found, noise = drawn(model, 600), drawn(single, 600) - 0.5
    distances = (found - noise)[
        ..., None, :
    ] - model.bias_q.components.double()  # [draw, layer, head_index, direction, d_head]
    nearest = distances.norm(dim=-1).min(-1)
    assert nearest.values.max() < 1e-6
    counts = torch.stack([(nearest.indices == k).sum(0) for k in range(4)])
    assert ((counts - 150).abs() < 5 * (600 * 0.25 * 0.75) ** 0.5).all()


def test_one_direction_draws_the_bits_of_before_and_is_written_as_before(make_model):
    model = make_model(q=BiasConfig(0.5, (0.05, 0.15), "batch", directions=1)).train()
    model.draw_biases(7)
    generator = bias_generator(0, 7)
    for part, mean, std in (
        (model.bias_q, 0.5, torch.linspace(0.05, 0.15, 8)),
        (model.bias_v, 0.3, torch.full((8,), 0.05)),
    ):
        assert torch.equal(part.value, torch.full((8,), mean) + std * torch.randn((2, 1, 8), generator=generator))
    before = {"mean": 0.5, "std": (0.05, 0.15), "mode": "batch", "shared_across_heads": True}
    assert model.cfg.to_dict()["q"] == before


def test_draws_depend_on_seed_step_and_part_of_a_step_alone(make_model):
    first, second = (make_model(std=std, q=OF_HEADS, v=MIXTURE).train() for std in (0.2, 0.5))
    found = []
    for key in ((1, None, 0), (2, None, 0), (1, 9, 0), (1, None, 3)):
        for model in (first, second):
            model.draw_biases(*key)
        found.append(torch.stack(first.biases_in_force()).clone())
        assert torch.equal(torch.stack(second.biases_in_force()), found[-1])
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    first.draw_biases(1)
    assert torch.equal(torch.stack(first.biases_in_force()), found[0])


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [{"q": MIXTURE}, {"q": GIVEN, "v": replace(GIVEN, means=MEANS[::-1])}, {**LLAMA, "q": OF_HEADS, "v": OF_HEADS}],
    ids=["b_Q", "both", "grouped"],
)
def test_each_component_in_force_equals_a_model_of_one_direction_with_its_mean(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    mean, seen = model(tokens), []
    for k, name in enumerate(model.component_names):
        single = {
            part: BiasConfig(config.components(D_HEAD)[k].tolist(), config.std, "batch")
            for part, config in (("q", model.cfg.q), ("v", model.cfg.v))
            if config.directions > 1
        }
        twin = make_model(**{**changes, **single})
        with model.bias(bias=name):
            seen.append(model(tokens))
            assert torch.equal(seen[-1], twin(tokens))
            assert all(torch.equal(a, b) for a, b in zip(model.mean_biases(), twin.mean_biases(), strict=True))
    assert len(seen) == model.cfg.q.directions and len({s.sum().item() for s in seen}) == len(seen)
    assert torch.equal(model(tokens), mean)


@torch.no_grad()
def test_components_nest_scale_and_stand_in_pairs_as_other_words_do(make_model):
    model = make_model(q=MIXTURE, v=BiasConfig(0.3, 0.05, "batch"))
    parts, mean = model.bias_q.components, model.biases_in_force()[0]
    with model.bias(bias="component:1"), model.bias(bias="component:3", layers=[1], heads=[0], scale=2):
        found = model.biases_in_force()[0]
    expected = parts[1].expand(2, 3, -1).clone()
    expected[1, 0] = 2 * parts[3]
    assert torch.equal(found, expected)
    with model.bias(bias=("component:2", torch.ones(8))):
        query, value = model.biases_in_force()
    assert torch.equal(query, parts[2].expand(2, 3, -1)) and bool((value == 1).all())
    with model.train().bias(bias="component:2"):
        assert torch.equal(model.biases_in_force()[1], torch.full((2, 3, 8), 0.3))
    assert torch.equal(model.eval().biases_in_force()[0], mean)


def test_components_that_are_not_there_are_refused(make_model):
    for changes, word in (
        ({"q": MIXTURE}, "component:4"), ({"q": MIXTURE}, "component:-1"), ({"q": MIXTURE}, "component:two"),
        ({}, "component:0"), ({"q": replace(MIXTURE, mode="fixed")}, "component:0"),
    ):  # fmt: skip
        model = make_model(**changes)
        known = "".join(f", component:{k}" for k in range(4)) if len(model.component_names) else ""
        message = f"The bias is {word!r}; choose one of None, mean, sample, none{known}[.;]"
        with pytest.raises(InterpError, match=message), model.bias(bias=word):
            pass


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_a_fixed_or_learned_bias_starts_at_one_draw_of_the_mixture(make_model, mode):
    model = make_model(std=0, q=replace(OF_HEADS, mode=mode, std=0.0)).train()
    value, parts = model.bias_q.value.detach(), model.bias_q.components
    assert all(any(torch.equal(head, part) for part in parts) for head in value.flatten(0, 1))
    assert len(value.flatten(0, 1).unique(dim=0)) > 1
    model.draw_biases(3)
    assert torch.equal(model.bias_q.value.detach(), value) and model.component_names == []


@pytest.mark.parametrize("config", [MIXTURE, OF_HEADS, GIVEN], ids=["laid out", "per head", "given"])
def test_a_mixture_is_kept_in_a_checkpoint(make_model, tmp_path, config):
    model = make_model(q=config)
    loaded = load_model(save_checkpoint(model, tmp_path / "kept"), "cpu")
    assert loaded.cfg == model.cfg and loaded.cfg.q == config
    plain = json.loads((tmp_path / "kept" / "config.json").read_text())["model"]
    assert plain["q"].get("means", None) == (None if config.means is None else [MEANS[0], 0.25, [-1.0, 1.0]])
    assert "directions" not in plain["v"]
    for part in (model, loaded):
        part.train().draw_biases(5)
    assert all(torch.equal(a, b) for a, b in zip(model.biases_in_force(), loaded.biases_in_force(), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("changes", [{"activation": "gelu"}, {"positional": "rope"}], ids=str)
def test_a_bridge_has_the_mean_of_the_mixture_or_the_component_in_force(make_model, changes):
    model = make_model(q=MIXTURE, v=replace(MIXTURE, std=0.1), **changes)
    tokens = random_tokens(model)
    for name in ("mean", "component:2"):
        with model.bias(bias=name):
            bridge, expected = model.to_bridge(), model(tokens)
        torch.testing.assert_close(bridge(tokens), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"directions": 0}, "directions is 0; a whole number from 1 to 1,024"),
        ({"directions": 2.0}, "directions is 2.0; a whole number"),
        ({"directions": 2, "mean": 0.0}, "2 directions are laid out from the mean, which is 0"),
        ({"directions": 2, "mean": 0.0, "mode": "none"}, "A bias of 2 directions has mode 'none'; say mode='batch'"),
        ({"means": [0.1, 0.2]}, "Both the mean 0.5 and means of directions were given"),
        ({"means": [0.1], "mean": 0.0}, r"means is \[0.1\]; a list of 2 means or more is expected"),
        ({"means": 0.5, "mean": 0.0}, "means is 0.5; a list of 2 means"),
        ({"means": [0.1, "x"], "mean": 0.0}, "The mean of a bias is 'x'; a number"),
        ({"means": [0.1, 0.2], "mean": 0.0, "directions": 3}, "There are 3 directions, but 2 means; give one for each"),
        ({"component_per": "head"}, "component_per is 'head', but the bias has one direction"),
        ({"component_per": "head", "directions": 2}, "has shared_across_heads, one vector a layer; change one"),
        ({"component_per": "haed"}, "component_per is 'haed'; choose one of layer, head; did you mean 'head'"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(unchecked, values, message):
    with pytest.raises(InterpError, match=message):
        BiasConfig(**{"mean": 0.5, "std": 0.1, "mode": "batch", **values})


@pytest.mark.parametrize(
    ("biases", "message"),
    [
        (
            {"q": BiasConfig(0.5, 0.1, "batch", directions=5)},
            "5 directions cannot be laid out in 4 dimensions with the mean 0.5",
        ),
        (
            {"q": BiasConfig([1.0, 0.0, 1.0, 0.0], 0.1, "batch", directions=2)},
            "each needs one in which the mean is not 0",
        ),
        ({"q": BiasConfig((0.0, 1.0), 0.1, "batch", directions=4)}, "each needs one in which the mean is not 0"),
        (
            {"q": BiasConfig(mode="batch", means=[[1.0, 2.0, 3.0], 0.5])},
            "The mean of the q bias has 3 numbers; d_head is 4",
        ),
        ({"q": MIXTURE, "v": replace(MIXTURE, directions=2)}, "b_Q has 4 directions and b_V 2"),
    ],
)
def test_mixtures_that_do_not_fit_a_model_are_refused(biases, message):
    with pytest.raises(InterpError, match=message):
        ModelConfig(n_layers=1, d_model=8, n_heads=2, n_ctx=4, d_vocab=10, **biases)


def test_components_of_large_heads_are_laid_out_without_rounding_their_length():
    found = BiasConfig((0.05, 0.15), 0.1, "batch", directions=7).components(1000).double().norm(dim=1)
    np.testing.assert_allclose(found, np.linalg.norm(np.linspace(0.05, 0.15, 1000)), rtol=1e-6)

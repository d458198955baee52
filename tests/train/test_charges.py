"""Noether charges against explicit loops, and of the gradient, which has none."""

import pytest
import torch

from interp.errors import InterpError
from interp.train.charges import conserved_components, noether_charges
from tests.train.charged import BROKEN, GROUPED, POSITIONS, VARIANTS, random_momenta, random_tokens

ACCESSORS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
SHAPES = [{}, {"n_layers": 1, "d_model": 20, "n_heads": 5}, {"n_layers": 3, "d_model": 16, "n_heads": 2}]


def explicit_charges(model, momenta):
    """J of every head, component by component, unmasked; the momenta are read through the model's own accessors."""
    cfg = model.cfg
    heads = (cfg.n_layers, cfg.n_heads)
    positions = {name: getattr(model, name).detach().double().clone() for name in ACCESSORS}
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(momenta.get(name, torch.zeros_like(parameter)))
        velocities = {name: getattr(model, name).detach().double().clone() for name in positions}
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    qk, vo = torch.zeros(2, *heads, cfg.d_head, cfg.d_head, dtype=torch.float64)

    def angular(name, layer, head, i, j):
        x, p = positions[name][layer, head], velocities[name][layer, head]
        if name in ("W_Q", "W_K", "W_V"):  # [d_model, d_head]: the head's vectors are its columns
            x, p = x.T, p.T
        return sum(p[i].flatten() * x[j].flatten() - x[i].flatten() * p[j].flatten())

    for layer in range(heads[0]):
        for head in range(heads[1]):
            for i in range(cfg.d_head):
                for j in range(cfg.d_head):
                    place = layer, head, i, j
                    qk[place] = sum(angular(name, *place) for name in ("W_Q", "b_Q", "W_K", "b_K"))
                    vo[place] = sum(angular(name, *place) for name in ("W_V", "b_V", "W_O"))
    return {"qk": qk, "vo": vo}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("positional", POSITIONS)
@pytest.mark.parametrize("variant", ["symmetric", "bqbv", "bq of each head"])
def test_charges_equal_explicit_sums_over_components_and_are_antisymmetric(make_model, shape, positional, variant):
    model = make_model(**{**VARIANTS[variant], **shape, **positional})
    momenta = random_momenta(model)
    found, expected = noether_charges(model, momenta), explicit_charges(model, momenta)
    mask = conserved_components(model.cfg)
    torch.testing.assert_close(found.qk, expected["qk"] * mask, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.vo, expected["vo"], rtol=1e-10, atol=1e-10)
    assert torch.equal(found.qk, -found.qk.mT)
    assert torch.equal(found.vo, -found.vo.mT)
    assert expected["vo"].norm() > 1


def test_a_missing_momentum_counts_as_zero_and_only_the_heads_parameters_count(make_model):
    model = make_model()
    momenta = random_momenta(model)
    attention = {name: p for name, p in momenta.items() if "attn.qkv" in name or name.endswith("attn.out.weight")}
    assert torch.equal(noether_charges(model, attention).vo, noether_charges(model, momenta).vo)
    without = {name: p for name, p in momenta.items() if "blocks.1" not in name}
    assert not noether_charges(model, without).qk[1].any()
    assert noether_charges(model, without).qk[0].any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("positional", POSITIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gradient_of_the_loss_carries_no_charge_unless_a_bias_breaks_the_symmetry(
    make_model, shape, positional, variant
):
    model = make_model(**{**VARIANTS[variant], **shape, **positional}).double().train()
    model.draw_biases(5)
    gradients = gradients_of(model)
    charges = noether_charges(model, gradients)
    for sector in ("qk", "vo"):
        norms = getattr(charges, sector).norm(dim=(-2, -1))
        if sector in BROKEN.get(variant, ""):
            assert norms.min() > 1e-6
        else:
            assert norms.max() < 1e-13


def gradients_of(model):
    model.zero_grad()
    model(random_tokens(model), return_type="loss").backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("positional", POSITIONS[1:])
def test_with_rope_exactly_the_components_that_commute_with_it_are_conserved(make_model, positional):
    model = make_model(**VARIANTS["symmetric"], d_model=36, **positional).double()
    everything = explicit_charges(model, gradients_of(model))[
        "qk"
    ].abs()  # d_head 12, so that every kind of pair occurs
    conserved = conserved_components(model.cfg)
    assert everything[:, :, conserved].max() < 1e-13
    off_diagonal = ~conserved & ~torch.eye(12, dtype=torch.bool)
    assert everything.amax((0, 1))[off_diagonal].min() > 1e-7


@pytest.mark.parametrize("column", ["b_Q", "b_K", "b_V"])
def test_the_charge_needs_the_learned_biases(make_model, column):
    """Leave out a bias and the identity fails; only beta_K without RoPE has no gradient, as it cancels in the softmax."""
    positional = "rope" if column == "b_K" else "learned"
    model = make_model(**VARIANTS["symmetric"], positional=positional).double()
    gradients = gradients_of(model)
    part = {"b_Q": 0, "b_K": 1, "b_V": 2}[column]
    for name in [name for name in gradients if name.endswith("qkv.bias")]:
        gradients[name] = gradients[name].clone()
        gradients[name].view(3, -1)[part] = 0
    charges = noether_charges(model, gradients)
    assert (charges.vo if column == "b_V" else charges.qk).norm() > 1e-5


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("blocks.9.attn", (1,), "no parameter of"), ("embed.weight", (2, 3), r"has shape \[2, 3\]; its parameter has")],
)
def test_momenta_that_fit_no_parameter_are_refused(make_model, name, shape, message):
    with pytest.raises(InterpError, match=message):
        noether_charges(make_model(), {name: torch.zeros(shape)})


@pytest.mark.parametrize("name", GROUPED)
def test_a_groups_charge_is_the_sum_of_its_heads_as_if_each_had_its_own_keys(make_model, name):
    """X_QK,g has the queries of every head and the keys once, so J_g = sum_h (J of queries) + J of keys."""
    model = make_model(**VARIANTS["symmetric"], **GROUPED[name])
    cfg, momenta = model.cfg, random_momenta(model)
    found, group = noether_charges(model, momenta), cfg.n_heads // cfg.kv_heads
    assert found.qk.shape == found.vo.shape == (cfg.n_layers, cfg.kv_heads, cfg.d_head, cfg.d_head)
    twin = make_model(**VARIANTS["symmetric"], **GROUPED[name])
    with torch.no_grad():
        for parameter_name, parameter in twin.named_parameters():
            parameter.copy_(momenta[parameter_name])

    def angular(part, kind, layer, head):
        p, x = (
            getattr(m.blocks[layer].attn, name)[head].detach().double() for m, name in ((twin, part), (model, part))
        )
        p, x = (p, x) if kind == "rows" else (p.T, x.T)  # rows: [d_head, columns]
        return p @ x.T - x @ p.T

    for layer in range(cfg.n_layers):
        for g in range(cfg.kv_heads):
            heads = range(g * group, (g + 1) * group)
            qk = sum(angular("W_Q", "columns", layer, h) for h in heads) + angular("_W_K", "columns", layer, g)
            vo = sum(angular("W_O", "rows", layer, h) for h in heads) + angular("_W_V", "columns", layer, g)
            if cfg.learned_biases != "none":
                qk += sum(outer(twin, model, "b_Q", layer, h) for h in heads) + outer(twin, model, "_b_K", layer, g)
                vo += outer(twin, model, "_b_V", layer, g)
            torch.testing.assert_close(found.qk[layer, g], qk * conserved_components(cfg), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(found.vo[layer, g], vo, rtol=1e-10, atol=1e-10)


def outer(momenta, model, name, layer, head):
    p, x = (getattr(m.blocks[layer].attn, name)[head].detach().double() for m in (momenta, model))
    return torch.outer(p, x) - torch.outer(x, p)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", GROUPED)
def test_with_grouped_heads_the_gradient_carries_no_charge_of_a_group_unless_a_bias_breaks_the_symmetry(
    make_model, name, variant
):
    model = make_model(**{**VARIANTS[variant], **GROUPED[name]}).double().train()
    model.draw_biases(5)
    charges = noether_charges(model, gradients_of(model))
    for sector in ("qk", "vo"):
        norms = getattr(charges, sector).norm(dim=(-2, -1))
        assert norms.min() > 1e-6 if sector in BROKEN.get(variant, "") else norms.max() < 1e-13


def test_one_head_of_a_group_has_no_charge_of_its_own(make_model):
    """Without the other heads' queries the identity fails: what is conserved belongs to the group."""
    model = make_model(**VARIANTS["symmetric"], n_heads=6, n_key_value_heads=3).double()
    gradients = gradients_of(model)
    for name in [name for name in gradients if "attn.qkv" in name]:
        gradients[name] = gradients[name].clone()
        gradients[name].unflatten(0, (-1, 4))[1] = 0  # the queries of head 1
    assert noether_charges(model, gradients).qk[:, 0].norm() > 1e-5
    assert noether_charges(model, gradients).qk[:, 1:].norm() < 1e-13


def test_with_a_norm_of_queries_and_keys_nothing_of_their_charge_is_conserved_and_it_is_zero(make_model):
    model = make_model(**VARIANTS["symmetric"], qk_norm=True).double()
    gradients = gradients_of(model)
    charges = noether_charges(model, gradients)
    assert not charges.qk.any() and not conserved_components(model.cfg).any()
    assert charges.vo.norm() < 1e-13
    everything = explicit_charges(model, gradients)["qk"].abs().amax((0, 1))
    assert everything[~torch.eye(model.cfg.d_head, dtype=torch.bool)].min() > 1e-7

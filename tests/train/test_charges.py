"""Noether charges against explicit loops, and of the gradient, which has none."""

import pytest
import torch

from interp.errors import InterpError
from interp.train.charges import conserved_components, noether_charges
from tests.train.charged import BROKEN, POSITIONS, VARIANTS, random_momenta, random_tokens

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

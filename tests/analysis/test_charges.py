"""Noether charges against explicit loops, and Noether's theorem against training."""

import itertools
import json

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from interp.analysis.charges import charge_row, conserved_components, momenta_of, noether_charges
from interp.errors import InterpError
from interp.model.config import BiasConfig
from interp.train.optim import ECD

NONE = BiasConfig()
VARIANTS = {
    "symmetric": {"q": NONE, "v": NONE},
    "bq": {"v": NONE},
    "bv": {"q": NONE},
    "bqbv": {},
    "bq of each head": {"q": BiasConfig(0.5, 0.2, "batch", shared_across_heads=False), "v": NONE},
    "learned b of each head": {
        "q": BiasConfig(0.5, 0.2, "learned", shared_across_heads=False),
        "v": BiasConfig(0.5, 0.2, "learned", shared_across_heads=False),
    },
}
BROKEN = {"bq": "qk", "bv": "vo", "bqbv": "qk vo", "bq of each head": "qk"}  # where an unlearned bias acts
ACCESSORS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
SHAPES = [{}, {"n_layers": 1, "d_model": 20, "n_heads": 5}, {"n_layers": 3, "d_model": 16, "n_heads": 2}]
POSITIONS = [{"positional": "learned"}, {"positional": "rope"}, {"positional": "rope", "rotary_dim": 2}]


def random_momenta(model, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    draws = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    return {name: draw.to(model.W_E) * scale for name, draw in draws.items()}


def random_tokens(model, seed=0):
    return torch.randint(model.cfg.d_vocab, (3, 11), generator=torch.Generator().manual_seed(seed))


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


def descend(model, optimizer, momenta, steps, buffer="momentum_buffer"):
    """Give the optimizer these momenta as its buffers, take steps on ever new batches and biases, return the charges."""
    for name, parameter in model.named_parameters():
        optimizer.state[parameter][buffer] = momenta[name].clone()
    history = [noether_charges(model, momenta_of(model, optimizer))]
    for step in range(steps):
        model.draw_biases(step)
        model.zero_grad()
        loss = model(random_tokens(model, step), return_type="loss")
        loss.backward()
        optimizer.step(lambda loss=loss: loss.detach())
        history.append(noether_charges(model, momenta_of(model, optimizer)))
    return history


def drift(history, sector):
    """How far the charge went from its first value, relative to that value: the largest over heads."""
    first, last = getattr(history[0], sector), getattr(history[-1], sector)
    return ((last - first).norm(dim=(-2, -1)) / first.norm(dim=(-2, -1))).max().item()


@pytest.mark.parametrize("positional", POSITIONS[:2])
@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_without_friction_the_charge_of_a_symmetric_model_stays_at_its_initial_value(make_model, positional, lr):
    model = make_model(**VARIANTS["symmetric"], **positional).double().train()
    before = model.W_Q.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=1.0)
    history = descend(model, optimizer, random_momenta(model, scale=0.3), 30)
    assert drift(history, "qk") < 1e-12
    assert drift(history, "vo") < 1e-12
    assert (model.W_Q - before).norm() > lr * before.norm()  # it did move


@pytest.mark.parametrize(("variant", "sectors"), BROKEN.items())
def test_without_friction_an_unlearned_bias_moves_the_charge_of_its_sector_only(make_model, variant, sectors):
    model = make_model(**VARIANTS[variant]).double().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=1.0)
    history = descend(model, optimizer, random_momenta(model, scale=0.3), 30)
    for sector in ("qk", "vo"):
        assert drift(history, sector) > 1e-4 if sector in sectors else drift(history, sector) < 1e-12


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_with_friction_the_charge_falls_by_the_momentum_at_every_step(make_model, momentum, weight_decay):
    model = make_model(**VARIANTS["symmetric"]).double().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=momentum, weight_decay=weight_decay)
    history = descend(model, optimizer, random_momenta(model), 20)
    for step, charges in enumerate(history):
        for sector in ("qk", "vo"):
            expected = momentum**step * getattr(history[0], sector)
            torch.testing.assert_close(getattr(charges, sector), expected, rtol=1e-9, atol=1e-12)


def test_the_drift_that_nesterov_adds_falls_with_the_time_step(make_model):
    drifts = []
    for halving in range(4):
        time_step = 0.04 / 2**halving  # of theta'' = -gradient: theta += lr P, P -= g, so it is the root of lr
        model = make_model(**VARIANTS["symmetric"]).double().eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=time_step**2, momentum=1.0, nesterov=True)
        tokens, momenta = random_tokens(model), random_momenta(model, scale=0.1 / time_step)
        for name, parameter in model.named_parameters():
            optimizer.state[parameter]["momentum_buffer"] = momenta[name]
        history = [noether_charges(model, momenta_of(model, optimizer))]
        for _ in range(5 * 2**halving):
            model.zero_grad()
            model(tokens, return_type="loss").backward()
            optimizer.step()
        history.append(noether_charges(model, momenta_of(model, optimizer)))
        drifts.append(max(drift(history, "qk"), drift(history, "vo")))
    ratios = [a / b for a, b in itertools.pairwise(drifts)]
    assert all(1.7 < ratio < 2.3 for ratio in ratios), ratios


@pytest.mark.parametrize(("projection", "conserved"), [("global", True), ("tensor", False)])
def test_ecd_with_global_projection_scales_the_charges_of_all_heads_by_one_factor(make_model, projection, conserved):
    model = make_model(**VARIANTS["symmetric"]).double().train()
    optimizer = ECD(model.parameters(), lr=0.05, projection=projection)
    model(random_tokens(model), return_type="loss").backward()
    optimizer.step(3.0)  # P starts along -g, which has no charge
    at_start = noether_charges(model, momenta_of(model, optimizer))
    assert max(at_start.qk.abs().max(), at_start.vo.abs().max()) < 1e-13 or not conserved
    first, *_, last = descend(model, optimizer, random_momenta(model, scale=0.01), 20)
    whole = [torch.stack([charges.qk, charges.vo]) for charges in (first, last)]
    scaled = whole[1] * whole[0].norm() / whole[1].norm()
    change = ((scaled - whole[0]).norm() / whole[0].norm()).item()
    assert change < 1e-12 if conserved else change > 1e-4


def build(name, parameters):
    if name == "soap":
        return pytest.importorskip("pytorch_optimizer").SOAP(parameters, lr=1e-3, weight_decay=0.0)
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "ecd": ECD}
    return kinds[name](parameters, lr=1e-3, **({"momentum": 0.9} if name == "sgd" else {}))


@pytest.mark.parametrize("name", ["sgd", "adamw", "soap", "ecd"])
def test_momenta_point_along_the_velocity_and_make_a_row_of_the_log(make_model, name):
    model = make_model()
    optimizer = build(name, list(model.parameters()))
    assert momenta_of(model, optimizer) == charge_row(model, optimizer) == {}
    for _ in range(3):
        model.zero_grad()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        loss = model(random_tokens(model), return_type="loss")
        loss.backward()
        optimizer.step(lambda loss=loss: loss)
    momenta = momenta_of(model, optimizer)
    assert momenta.keys() == before.keys()
    moved = torch.cat([(p.detach() - before[n]).flatten() for n, p in model.named_parameters()])
    cosine = torch.cosine_similarity(torch.cat([momenta[n].flatten() for n in before]), moved, 0)
    assert cosine > (0.99 if name in ("sgd", "ecd") else 0.1)  # the others divide by second moments
    row = json.loads(json.dumps(charge_row(model, optimizer)))
    assert row.keys() == {"qk", "vo"}
    norms = noether_charges(model, momenta).norms()
    assert list(norms[["layer", "head"]].itertuples(index=False, name=None)) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    for sector in ("qk", "vo"):
        logged = [value for layer in row[sector] for value in layer]
        assert logged == pytest.approx(norms[sector].tolist(), rel=1e-5)
        charges = getattr(noether_charges(model, momenta), sector)
        assert norms[sector].tolist() == pytest.approx([j.norm().item() for layer in charges for j in layer], rel=1e-12)


def test_plain_sgd_has_no_momentum_and_an_empty_row(make_model):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model(random_tokens(model), return_type="loss").backward()
    optimizer.step()
    assert charge_row(model, optimizer) == {}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("blocks.9.attn", (1,), "no parameter of"), ("embed.weight", (2, 3), r"has shape \[2, 3\]; its parameter has")],
)
def test_momenta_that_fit_no_parameter_are_refused(make_model, name, shape, message):
    with pytest.raises(InterpError, match=message):
        noether_charges(make_model(), {name: torch.zeros(shape)})


@pytest.fixture
def ranks(tmp_path):
    """A process group of one rank, whose device mesh shards as many ranks would."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_parameters_and_momenta_sharded_by_fsdp_are_gathered(make_model, ranks):
    plain, sharded = make_model(), make_model()
    for block in sharded.blocks:
        fully_shard(block, mesh=ranks)
    fully_shard(sharded, mesh=ranks)
    charges = []
    for model in (plain, sharded):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        model(random_tokens(model), return_type="loss").backward()
        optimizer.step()
        charges.append(noether_charges(model, momenta_of(model, optimizer)))
    assert all(isinstance(p, DTensor) for p in sharded.parameters())
    torch.testing.assert_close(charges[1].qk, charges[0].qk, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(charges[1].vo, charges[0].vo, rtol=1e-5, atol=1e-9)

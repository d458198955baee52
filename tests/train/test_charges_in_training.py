"""Noether's theorem against training, and the charges that a log keeps of every optimizer."""

import itertools
import json

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from interp.train.charges import charge_row, momenta_of, noether_charges
from interp.train.optim import ECD
from tests.train.charged import BROKEN, GROUPED, POSITIONS, VARIANTS, random_momenta, random_tokens


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


@pytest.mark.parametrize("block", [*POSITIONS[:2], *GROUPED.values()], ids=str)
@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_without_friction_the_charge_of_a_symmetric_model_stays_at_its_initial_value(make_model, block, lr):
    model = make_model(**VARIANTS["symmetric"], **block).double().train()
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

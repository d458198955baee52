"""A mixture of experts: Mixtral's block, its load balancing, its hook points, and what trains and decomposes with it."""

import pytest
import torch
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

from interp.errors import InterpError
from interp.model.config import ModelConfig
from interp.model.experts import MixtureOfExperts, grouped_mm
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig
from interp.train.measures import flops_per_token
from interp.train.optim.registry import OPTIMIZERS
from interp.train.setup import build_optimizer_of, resolved
from tests.model.cases import LLAMA, random_tokens

EXPERTS = {"num_experts": 4, "experts_per_token": 2}


@pytest.fixture
def model(make_model):
    return make_model(**EXPERTS, activation="gelu")


def randomized(layer):
    generator = torch.Generator().manual_seed(3)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3, generator)
    return layer


def config(d_mlp=24, **changes):
    return ModelConfig(
        **{"n_layers": 1, "d_model": 16, "n_heads": 2, "n_ctx": 8, "d_vocab": 20, "d_mlp": d_mlp} | EXPERTS | changes
    )


@pytest.mark.parametrize(
    "d_mlp", [24, 25], ids=lambda size: f"d_mlp {size}"
)  # one that the kernel takes, one that it does not
def test_the_block_is_mixtrals_with_its_gradients(d_mlp):
    ours = randomized(MixtureOfExperts(config(d_mlp, activation="swiglu", learned_biases="none")))
    theirs = MixtralSparseMoeBlock(
        MixtralConfig(hidden_size=16, intermediate_size=d_mlp, num_local_experts=4, num_experts_per_tok=2)
    )
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.router.weight)
        theirs.experts.gate_up_proj.copy_(torch.cat([ours.fc_gate.weight, ours.fc_in.weight], 1))
        theirs.experts.down_proj.copy_(ours.fc_out.weight)
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = ours(mine), theirs(other)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.router.weight.grad, theirs.gate.weight.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.fc_out.weight.grad, theirs.experts.down_proj.grad, rtol=1e-5, atol=1e-5)
    gates = torch.cat([ours.fc_gate.weight.grad, ours.fc_in.weight.grad], 1)
    torch.testing.assert_close(gates, theirs.experts.gate_up_proj.grad, rtol=1e-5, atol=1e-5)
    scores = theirs.gate(x)[0]
    balance = load_balancing_loss_func((scores,), num_experts=4, top_k=2) / 2  # theirs counts both places
    torch.testing.assert_close(ours.balance, balance, rtol=1e-5, atol=1e-6)
    assert float(ours.balance.detach()) > 1.0001


@pytest.mark.parametrize("activation", ["gelu", "gelu_exact", "prelu", "swiglu"])
@torch.no_grad()
def test_each_token_gets_the_weighted_sum_of_its_experts_mlps(activation):
    layer = randomized(MixtureOfExperts(config(activation=activation))).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros_like(x)
    for place in ((row, pos) for row in range(2) for pos in range(5)):
        probabilities = (x[place] @ layer.W_router).softmax(-1)
        best = probabilities.argsort(descending=True)[:2]
        for expert in best:
            pre = x[place] @ layer.W_in[expert] + layer.b_in[expert]
            if activation == "swiglu":
                gate = x[place] @ layer.W_gate[expert] + layer.b_gate[expert]
                post = gate * gate.sigmoid() * pre
            elif activation == "prelu":
                post = torch.stack([v if v >= 0 else s * v for v, s in zip(pre, layer.slope[expert], strict=True)])
            else:
                kind = {"gelu": "tanh", "gelu_exact": "none"}[activation]
                post = torch.nn.functional.gelu(pre, approximate=kind)
            share = probabilities[expert] / probabilities[best].sum()
            expected[place] += share * (post @ layer.W_out[expert] + layer.b_out[expert])
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_grouped_product_is_that_of_the_products():
    generator = torch.Generator().manual_seed(0)
    rows, maps = (
        torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=True) for size in ((7, 3), (4, 3, 5))
    )
    ends = torch.tensor([2, 2, 6, 7], dtype=torch.int32)  # one expert has no row
    torch.autograd.gradcheck(grouped_mm, (rows, maps, ends))


@torch.no_grad()
def test_one_expert_is_the_mlp_of_before(make_model):
    plain, single = make_model(activation="gelu"), make_model(activation="gelu", num_experts=1, experts_per_token=1)
    weights = {name: value[None] if ".mlp." in name else value for name, value in plain.state_dict().items()}
    missing, unknown = single.load_state_dict(weights, strict=False)
    assert not unknown and all("router" in name for name in missing)
    tokens = random_tokens(plain)
    torch.testing.assert_close(single(tokens), plain(tokens), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_hooks_see_the_router_and_each_experts_own_tokens_and_edits_act(model):
    tokens = random_tokens(model)
    logits, cache = model.run_with_cache(tokens)
    weights, indices = cache["blocks.0.mlp.hook_expert_weights"], cache["blocks.0.mlp.hook_expert_indices"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(tokens.shape))
    assert weights.shape == (*tokens.shape, 4) and indices.shape == (*tokens.shape, 2)
    torch.testing.assert_close(weights.gather(-1, indices), weights.topk(2).values)
    read = cache["blocks.0.ln2.hook_normalized"].flatten(0, 1)
    for expert in range(4):
        own = read[(indices == expert).any(-1).flatten()]
        pre = own @ model.W_in[0, expert] + model.b_in[0, expert]
        torch.testing.assert_close(cache[f"blocks.0.mlp.experts.{expert}.hook_pre"], pre, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(tokens), logits, rtol=1e-5, atol=1e-5)

    def to_the_first_two(x, hook):
        x[:] = torch.arange(2)
        return x

    _, edited = model.run_with_cache(tokens, names_filter=lambda name: "blocks.0.mlp" in name)
    hooked = [("blocks.0.mlp.hook_expert_indices", to_the_first_two)]
    with model.hooks(hooked):
        _, edited = model.run_with_cache(tokens)
    assert len(edited["blocks.0.mlp.experts.0.hook_post"]) == tokens.numel()
    assert len(edited["blocks.0.mlp.experts.3.hook_post"]) == 0
    silent = [(f"blocks.0.mlp.experts.{expert}.hook_post", lambda x, hook: x * 0) for expert in range(4)]
    with model.hooks(silent):
        _, edited = model.run_with_cache(tokens)
    wanted = weights.gather(-1, indices) / weights.gather(-1, indices).sum(-1, keepdim=True)
    constant = (wanted[..., None] * model.b_out[0][indices]).sum(-2)
    torch.testing.assert_close(edited["blocks.0.hook_mlp_out"], constant, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_caches_slice_and_decompose_what_has_an_axis_of_batch(model):
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens[:1], pos_slice=slice(0, 3))
    rows = cache["blocks.1.mlp.experts.0.hook_pre"].shape
    single = cache.remove_batch_dim()
    assert single["blocks.1.mlp.experts.0.hook_pre"].shape == rows
    assert single["blocks.1.mlp.hook_expert_weights"].shape == (3, 4)
    _, cache = model.run_with_cache(tokens)
    parts = cache.get_full_resid_decomposition(expand_neurons=False)
    torch.testing.assert_close(parts.sum(0), cache["resid_post", -1], rtol=1e-4, atol=1e-5)
    for call in (
        cache.get_full_resid_decomposition,
        lambda: cache.stack_neuron_results(2),
        lambda: model.accumulated_bias(2),
    ):
        with pytest.raises(InterpError, match=r"expand_neurons=False|include_mlp_biases=False"):
            call()


def test_the_training_loss_has_the_balance_and_the_loss_in_evaluation_has_not(model):
    tokens = random_tokens(model)
    cross_entropy = model.eval()(tokens, return_type="loss")
    model.train()
    with model.bias(bias="mean"):
        loss = model(tokens, return_type="loss")
    torch.testing.assert_close(loss, cross_entropy + 0.01 * model.experts_balance)
    assert float(model.experts_balance.detach()) > 1
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_balanced_training_gives_every_expert_its_share():
    torch.manual_seed(0)
    layer = randomized(MixtureOfExperts(config(activation="gelu")))
    x = torch.randn(16, 8, 16) + 1  # one direction that all have in common draws them to the same experts
    layer(x)
    before = float(layer.balance.detach())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        layer(x)
        layer.balance.backward()
        optimizer.step()
    assert before > 1.1 and float(layer.balance.detach()) < 1.03


def test_sizes_count_all_experts_and_operations_those_of_a_token():
    one, four = config(num_experts=None), config()
    assert four.n_parameters - one.n_parameters == 3 * 2 * 16 * 24 + 4 * 16
    assert flops_per_token(four) - flops_per_token(one) == 6 * (2 * 16 * 24 + 4 * 16)
    count = sum(
        p.numel() for name, p in HookedSymmetryBrokenTransformer(four).named_parameters() if name.endswith("weight")
    )
    assert count == four.n_parameters
    assert "4 experts, 2 for each token" in four.description
    assert ModelConfig.from_dict(four.to_dict()) == four
    with pytest.raises(InterpError, match="through 5 experts, and there are 4"):
        config(experts_per_token=5)


def test_vectors_of_experts_are_not_decayed_as_those_of_one_mlp_are_not():
    model = HookedSymmetryBrokenTransformer(config(activation="prelu"))
    decayed, kept = build_optimizer_of(resolved(TrainConfig(weight_decay=0.1)), model).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(parameter)] for parameter in decayed["params"]}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0)
    assert found == {name for name in names.values() if name.endswith("weight")}
    assert len(kept["params"]) == 11  # 6 of norms, 2 of attention, 3 of experts


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_experts(optimizer):
    torch.manual_seed(0)
    model = HookedSymmetryBrokenTransformer(config(activation="prelu", load_balancing=0.01)).train()
    tokens = random_tokens(model, pos=8)
    made = build_optimizer_of(resolved(TrainConfig(optimizer=optimizer, preset="mini")), model)
    before = float(model(tokens, return_type="loss").detach())
    for _ in range(12):
        made.zero_grad()
        loss = model(tokens, return_type="loss")
        loss.backward()
        made.step(lambda loss=loss: loss.detach())
    assert float(model(tokens, return_type="loss").detach()) < before
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("block", [{"activation": "gelu"}, LLAMA], ids=["gpt2", "llama"])
def test_other_libraries_blocks_are_refused_with_the_reason(make_model, block):
    model = make_model(**EXPERTS, **block)
    for export in (model.to_bridge, model.to_huggingface):
        with pytest.raises(InterpError, match="experts"):
            export()

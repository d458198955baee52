"""What the parts of a model write, by TransformerLens' ActivationCache, sums to the stream and to the logits."""

import pytest
import torch
from transformer_lens.tools.analysis import direct_logit_attribution

from interp.model.config import BiasConfig
from tests.model.cases import SHAPES, random_tokens

CASES = [*SHAPES, {"q": BiasConfig(), "v": BiasConfig(0.4, 0.2, "fixed", shared_across_heads=False), "n_layers": 3}]
TARGETS, OTHERS = torch.tensor([5, 17]), torch.tensor([8, 2])


@pytest.fixture(params=CASES, ids=str)
def model(make_model, request):
    model = make_model(seed=2, **request.param)
    with torch.no_grad():  # norms whose weights and shifts matter
        for norm in [model.ln_final, *(norm for block in model.blocks for norm in (block.ln1, block.ln2))]:
            norm.w.add_(0.5)
    return model


@pytest.fixture
def run(model):
    with torch.no_grad():
        return model.run_with_cache(random_tokens(model))


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def stacks(cache):
    """Every way to take the final residual stream apart."""
    yield cache.decompose_resid(return_labels=True)
    yield cache.get_full_resid_decomposition(return_labels=True)
    yield cache.get_full_resid_decomposition(expand_neurons=False, return_labels=True)
    yield cache.stack_head_results(incl_remainder=True, return_labels=True)
    yield cache.stack_neuron_results(cache.model.cfg.n_layers, incl_remainder=True, return_labels=True)


@torch.no_grad()
def test_components_sum_to_the_stream_and_to_the_logits(model, run):
    logits, cache = run
    wanted, unwanted = (torch.stack([logits[row, :, token] for row, token in enumerate(t)]) for t in (TARGETS, OTHERS))
    for stack, labels in stacks(cache):
        assert len(stack) == len(labels) == len(set(labels))
        near(stack.sum(0), cache["resid_post", -1])
        attributed = cache.logit_attrs(stack, TARGETS).sum(0) + cache.logit_bias(TARGETS)[:, None]
        near(attributed, wanted)
        difference = cache.logit_attrs(stack, TARGETS, OTHERS).sum(0) + cache.logit_bias(TARGETS, OTHERS)[:, None]
        near(difference, wanted - unwanted)


@torch.no_grad()
def test_the_constant_of_the_value_bias_is_a_component_of_its_own(model, run):
    _, cache = run
    stack, labels = cache.decompose_resid(return_labels=True)
    full, full_labels = cache.get_full_resid_decomposition(return_labels=True)
    broken = bool(model.bias_OV.any())
    assert ("bias_v" in full_labels) == broken
    assert [label for label in labels if "bias_v" in label] == [
        f"{i}_bias_v" for i in range(model.cfg.n_layers)
    ] * broken
    for layer, constants in enumerate(model.bias_OV if broken else []):
        constant = constants.sum(0).expand(2, 11, -1)
        near(stack[labels.index(f"{layer}_bias_v")], constant)
        near(stack[labels.index(f"{layer}_attn_out")] + constant, cache["attn_out", layer])
        head = full[full_labels.index(f"L{layer}H0")] + constants[0]
        near(head, cache["z", layer][:, :, 0] @ model.W_O[layer, 0])
    if broken:
        near(full[full_labels.index("bias_v")], model.bias_OV.sum((0, 1)).expand(2, 11, -1))
    near(full[full_labels.index("bias")], model.accumulated_bias(model.cfg.n_layers).expand(2, 11, -1))


@pytest.mark.parametrize("mlp_input", [False, True])
@torch.no_grad()
def test_components_before_a_layer_sum_to_what_it_reads(model, run, mlp_input):
    _, cache = run
    for layer in range(model.cfg.n_layers):
        stream = cache["resid_mid" if mlp_input else "resid_pre", layer]
        norm = getattr(model.blocks[layer], "ln2" if mlp_input else "ln1")
        read = cache["normalized", layer, "ln2" if mlp_input else "ln1"]
        for decompose in (cache.decompose_resid, cache.get_full_resid_decomposition):
            near(decompose(layer, mlp_input=mlp_input).sum(0), stream)
            near(decompose(layer, mlp_input=mlp_input, apply_ln=True).sum(0) + norm.b, read)
            last = decompose(layer, mlp_input=mlp_input, apply_ln=True, pos_slice=-1)
            near(last.sum(0) + norm.b, read[:, -1])


@torch.no_grad()
def test_projected_components_are_components_projected(model, run):
    _, cache = run
    directions = torch.randn(model.cfg.d_model, 3, generator=torch.Generator().manual_seed(0))
    for arguments in ({}, {"apply_ln": True}, {"expand_neurons": False, "apply_ln": True, "pos_slice": 4}):
        whole = cache.get_full_resid_decomposition(**arguments)
        near(cache.get_full_resid_decomposition(**arguments, project_output_onto=directions), whole @ directions)
        single = cache.get_full_resid_decomposition(**arguments, project_output_onto=directions[:, 0])
        near(single, whole @ directions[:, 0])


@torch.no_grad()
def test_the_logit_lens_at_the_end_is_the_model(model, run):
    logits, cache = run
    stack, labels = cache.accumulated_resid(apply_ln=True, incl_mid=True, return_labels=True)
    assert labels[-1] == "final_post" and len(labels) == 2 * model.cfg.n_layers + 1
    near(model.unembed(stack[-1]), logits)
    near(stack[0], model.ln_final(cache["resid_pre", 0]))


@torch.no_grad()
def test_neurons_and_heads_write_what_their_weights_say(model, run):
    _, cache = run
    neurons = cache.get_neuron_results(0, neuron_slice=(3, 6))
    near(neurons, cache["post", 0][..., 3:6, None] * model.W_out[0, 3:6])
    heads = cache.stack_head_results(1)
    near(heads[0], cache["z", 0][:, :, 0] @ model.W_O[0, 0])
    near(cache["result", 0].movedim(2, 0), heads)


@torch.no_grad()
def test_attributions_agree_with_those_of_a_folded_bridge(model, run):
    bridge, tokens = model.to_bridge(), random_tokens(model)
    bridge.enable_compatibility_mode()
    theirs = direct_logit_attribution(bridge, tokens, TARGETS, OTHERS, pos=None)
    ours = direct_logit_attribution(model, tokens, TARGETS, OTHERS, pos=None)
    parts = dict(zip(ours.labels, ours.attribution, strict=True))
    for label, row in zip(theirs.labels, theirs.attribution, strict=True):
        constant = parts.get(label.replace("attn_out", "bias_v"), 0) if "attn_out" in label else 0
        torch.testing.assert_close(parts[label] + constant, row, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_slices_of_the_batch_and_single_rows_keep_the_biases_whole(model, run):
    logits, cache = run
    rows = cache.apply_slice_to_batch_dim((0, 1))
    alone = model.run_with_cache(random_tokens(model)[:1])[1]
    for name, value in alone.items():
        near(rows[name].nan_to_num(neginf=-1e4), value.nan_to_num(neginf=-1e4))
    single = rows.remove_batch_dim()
    assert single["blocks.0.attn.hook_bias_q"].shape == (model.cfg.n_heads, model.cfg.d_head)
    stack = single.decompose_resid()
    attributed = single.logit_attrs(stack, 5, has_batch_dim=False).sum(0) + single.logit_bias(5)
    near(attributed, logits[0, :, 5])


@torch.no_grad()
def test_the_biases_of_the_run_are_split_off_not_those_of_now(make_model):
    model = make_model()
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens, bias_scale=2.0)
    stack, labels = cache.decompose_resid(return_labels=True)
    near(stack[labels.index("1_bias_v")][0, 0], 2 * model.bias_OV[1].sum(0))
    with model.bias(bias="none"):
        _, cache = model.run_with_cache(tokens)
    assert not any("bias_v" in label for label in cache.decompose_resid(return_labels=True)[1])

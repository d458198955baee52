"""The way out: TransformerLens' bridge and Hugging Face's models give the same logits as the model."""

import copy

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.model.cases import LLAMA, MIXED, QWEN3, SHAPES, random_tokens

KINDS = [{"activation": a, "positional": p} for a in ("gelu", "prelu") for p in ("learned", "rope")]
PER_HEAD = BiasConfig(0.7, 0.3, "fixed", shared_across_heads=False)
SYMMETRIC = {"q": BiasConfig(), "v": BiasConfig()}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("changes", [*SHAPES, *KINDS, {**KINDS[3], "rotary_dim": 6, "q": PER_HEAD}], ids=str)
@torch.no_grad()
def test_a_bridge_has_the_logits_of_the_model(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    expected = model(tokens)
    bridge = model.to_bridge()
    close(bridge(tokens), expected)
    bridge.enable_compatibility_mode()
    close(bridge(tokens).log_softmax(-1), expected.log_softmax(-1))
    assert torch.equal(model(tokens), expected)


@pytest.mark.parametrize("changes", [*KINDS, LLAMA, QWEN3], ids=str)
@torch.no_grad()
def test_a_bridge_has_the_activations_of_the_model_with_the_biases_in_queries_and_values(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    bridge = model.to_bridge()
    for each in (bridge, model):
        each.set_use_attn_result(True)
        each.set_use_split_qkv_input(True)
        each.set_use_hook_mlp_in(True)
    (_, found), (_, expected) = bridge.run_with_cache(tokens), model.run_with_cache(tokens)
    rope = changes["positional"] == "rope"
    biased = {"hook_v": "hook_v_biased"} if rope else {"hook_q": "hook_q_biased", "hook_v": "hook_v_biased"}
    compared = 0
    for name in set(found) & set(expected):
        head, last = name.rsplit(".", 1) if "." in name else ("", name)
        if last == "hook_normalized":
            continue  # the bridge shows it before the norm's weight and shift
        value = expected[f"{head}.{biased.get(last, last)}" if head else last]
        value = value[:, :, :: model.cfg.n_heads // model.cfg.kv_heads] if last == "hook_v" else value
        value = value.transpose(1, 2) if head.endswith(("q_norm", "k_norm")) else value  # heads before positions there
        seen = found[name]
        if last == "hook_attn_scores":
            value, seen = (x.masked_fill(expected["pattern", 0] == 0, 0.0) for x in (value, seen))
        torch.testing.assert_close(seen, value, rtol=1e-4, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
        compared += 1
    assert compared >= 2 * 18


@pytest.mark.parametrize("changes", [*KINDS, LLAMA, QWEN3], ids=str)
def test_a_bridge_generates_what_the_model_generates(make_model, changes):
    model = make_model(**changes, seed=5)
    bridge, tokens = model.to_bridge(), random_tokens(model, pos=4)
    how = {"max_new_tokens": 8, "do_sample": False, "verbose": False}
    expected = model.generate(tokens, stop_at_eos=False, **how)
    for cached in (True, False):
        assert torch.equal(bridge.generate(tokens, stop_at_eos=False, use_past_kv_cache=cached, **how), expected)
    texts = ["the quick brown fox", "dogs"]
    assert bridge.generate(texts, **how) == model.generate(texts, **how)
    assert torch.equal(bridge.to_tokens("the fox"), model.to_tokens("the fox"))


@torch.no_grad()
def test_what_is_folded_are_the_biases_of_evaluation_with_what_was_turned_in_them(make_model):
    model = make_model()
    tokens = random_tokens(model)
    with model.bias(scale=0.3, heads=[1]):
        expected, bridge = model(tokens), model.to_bridge()
        other = model.to_huggingface()
    close(bridge(tokens), expected)
    close(other(tokens).logits, expected)
    model.train().draw_biases(3)
    assert not torch.allclose(model(tokens), model.eval()(tokens))
    close(model.train().to_huggingface().eval()(tokens).logits, model.eval()(tokens))


@pytest.mark.parametrize("changes", [SYMMETRIC, {}, {"n_heads": 4, "d_model": 32, "d_mlp": 50}], ids=str)
def test_hugging_face_has_the_logits_and_gradients_of_the_model(make_model, changes):
    model = make_model(**changes)
    other, tokens = model.to_huggingface(), random_tokens(model)
    logits = other(tokens).logits
    close(logits.detach(), model(tokens).detach())
    model(tokens, return_type="loss").backward()
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    for index, block in enumerate(model.blocks):
        layer = other.transformer.h[index]
        pairs = [(block.attn.qkv, layer.attn.c_attn), (block.attn.out, layer.attn.c_proj)]
        pairs += [(block.mlp.fc_in, layer.mlp.c_fc), (block.mlp.fc_out, layer.mlp.c_proj)]
        for ours, theirs in pairs:
            torch.testing.assert_close(theirs.weight.grad.T, ours.weight.grad, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(theirs.bias.grad, ours.bias.grad, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(layer.ln_1.weight.grad, block.ln1.w.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(other.transformer.wte.weight.grad, model.embed.weight.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(other.transformer.wpe.weight.grad, model.pos_embed.weight.grad, rtol=1e-3, atol=1e-5)


def test_exports_are_copies_and_leave_random_numbers_alone(make_model):
    model = make_model()
    state, before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    for other in (model.to_huggingface(), model.to_bridge().original_model):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "named"), list(zip(KINDS[1:], ("RoPE", "PReLU", "PReLU and RoPE"), strict=True)), ids=str
)
def test_what_gpt2_does_not_know_is_refused(make_model, changes, named):
    with pytest.raises(InterpError, match=rf"has {named}, and .* use model\.to_bridge\(\)"):
        make_model(**changes).to_huggingface()


UNTIED = {"tied": False, "learned_biases": "qkv"}


@torch.no_grad()
def test_gpt2s_block_is_exported_with_an_unembedding_of_its_own_and_with_fewer_biases(make_model):
    model = make_model(**UNTIED)
    tokens = random_tokens(model)
    expected = model(tokens)
    close(model.to_huggingface()(tokens).logits, expected)
    close(model.to_bridge()(tokens), expected)


NO_B_Q = [{**shape, "q": BiasConfig()} for shape in (LLAMA, QWEN3, {**LLAMA, "learned_biases": "all", "d_model": 32})]


@pytest.mark.parametrize("changes", [*NO_B_Q, {**NO_B_Q[0], "d_model": 32, "learned_biases": "qkv"}], ids=str)
@torch.no_grad()
def test_llamas_block_is_exported_with_b_v_in_the_biases_of_the_values(make_model, changes):
    model = make_model(**{"d_model": 32, **changes})
    tokens = random_tokens(model)
    other = model.to_huggingface()
    close(other(tokens).logits, model(tokens))
    with model.bias(scale=0):
        assert not torch.allclose(other(tokens).logits, model(tokens))


@torch.no_grad()
def test_what_llama_does_not_know_is_refused_by_name(make_model):
    model = make_model(**{**LLAMA, "d_model": 32})
    with pytest.raises(InterpError, match=r"has a b_Q, which is added after RoPE's rotation.*Use model\.to_bridge\(\)"):
        model.to_huggingface()
    with model.bias(scale=0):
        close(model.to_huggingface()(random_tokens(model)).logits, model(random_tokens(model)))
    with (
        model.bias(bias="none", heads=[1]),
        pytest.raises(InterpError, match="read the same values have different b_V"),
    ):
        model.to_bridge()
    refusals = {
        "MLPs with gelu_new and learned positions": MIXED,
        "RoPE on a part of each head": {**LLAMA, "rotary_dim": 4},
        "biases in the MLPs beside a norm of queries and keys": {**QWEN3, "learned_biases": "all"},
        "heads that do not divide d_model": {**LLAMA, "n_heads": 4, "d_model": 30},
    }
    for named, changes in refusals.items():
        model = make_model(**changes)
        with pytest.raises(InterpError, match=f"This model has RMSNorm, as Llama, and {named}, which no Llama"):
            model.to_huggingface()
        with pytest.raises(InterpError, match=f"which GPT-2 has not, and {named}, which Llama has not"):
            model.to_bridge()

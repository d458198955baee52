"""Hugging Face's Llama, Qwen2 and Qwen3 come in with their logits and gradients, and go out again with the same weights."""

import json

import pytest
import torch

from interp.convert import convert
from interp.errors import InterpError
from interp.model.checkpoint import load_model
from interp.model.export.llama import KINDS, parameter_names
from interp.model.foreign.formats import read_foreign
from interp.model.foreign.llama import from_llama
from interp.model.foreign.source import Source

SIZES = {
    "vocab_size": 41, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 11, "rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": None,
}  # fmt: skip
CASES = {
    "llama": ("llama", {}),
    "llama, whole heads, tied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama, one key head of another size": ("llama", {"num_key_value_heads": 1, "head_dim": 10}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, biases of attention": ("llama", {"attention_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen2, tied, another base": (
        "qwen2", {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    ),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "qwen3, biases": ("qwen3", {"head_dim": 8, "attention_bias": True}),
}  # fmt: skip
WHOLE = [name for name in CASES if name not in ("llama, biases of attention", "qwen3, biases")]  # as ours have biases


def theirs(name, seed=0, **more):
    """A small model of Hugging Face's with large random weights."""
    kind, changes = CASES[name]
    config, model_class = KINDS[kind]
    model = model_class(config(**{**SIZES, **changes, **more}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def read(model):
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    return from_llama(Source("memory", tensors, model.config.to_dict()))[0].eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_are_theirs(name):
    other = theirs(name)
    model, tokens = read(other), torch.randint(41, (3, 11), generator=torch.Generator().manual_seed(1))
    logits = other(tokens).logits
    close(model(tokens), logits)
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    model(tokens, return_type="loss").backward()
    expected = dict(other.named_parameters())
    for their, (our, rows) in parameter_names(model.cfg).items():
        if their in expected:  # ours may have a bias more, which was zero
            close(model.get_parameter(our).grad[rows], expected[their].grad)
    if model.cfg.learned_biases == "none":
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in other.parameters())


@pytest.mark.parametrize("name", WHOLE)
@torch.no_grad()
def test_what_came_in_goes_out_with_the_same_weights(name):
    other = theirs(name)
    back = read(other).to_huggingface()
    assert type(back) is type(other)
    assert back.state_dict().keys() == other.state_dict().keys()
    for key, value in back.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize("name", ["llama", "llama, whole heads, tied", "qwen2", "qwen3"])
@torch.no_grad()
def test_a_folder_becomes_a_checkpoint(tmp_path, name):
    other = theirs(name)
    other.save_pretrained(tmp_path / "theirs")
    lines = convert(tmp_path / "theirs", tmp_path / "ours")
    assert lines[0].startswith(f"Hugging Face {CASES[name][0].capitalize()}, symmetric: 2 layers, 4 heads, d_model 24")
    tokens = torch.randint(41, (2, 11), generator=torch.Generator().manual_seed(1))
    close(load_model(tmp_path / "ours")(tokens), other(tokens).logits)


REFUSED = {
    "gelu": ("llama", {"hidden_act": "gelu"}, "has hidden_act 'gelu', which these models do not have"),
    "scaled": (
        "llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "RoPE of type 'linear'"
    ),
    "window": ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "a sliding window"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_these_models_do_not_have_is_refused_by_name(case):
    name, changes, message = REFUSED[case]
    with pytest.raises(InterpError, match=message):
        read(theirs(name, **changes))


def test_tensors_and_config_that_do_not_belong_together_are_refused(tmp_path):
    theirs("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes, message in (
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3 and the tensors have 2"),
        ({"num_key_value_heads": 4}, "of another shape: .*k_proj"),
        ({"num_key_value_heads": 3}, "3 key and value heads do not divide 4 heads"),
        ({"attention_bias": True}, "missing: .*bias"),
        ({"hidden_size": "x"}, "is no llama config"),
        ({"model_type": "mamba"}, "of Hugging Face's models gpt2, llama, qwen2 and qwen3 can be converted"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(InterpError, match=message):
            read_foreign(tmp_path)

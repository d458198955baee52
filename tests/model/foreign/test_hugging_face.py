"""Hugging Face's GPT-2 family comes in with its logits, from a folder as `save_pretrained` or OpenAI's weights lay it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from interp.errors import InterpError
from interp.model.config import BiasConfig
from interp.model.foreign.formats import read_foreign
from tests.model.foreign.gpt2 import gpt2, pytorch_bin

CASES = [
    {},
    {"n_layer": 1, "n_head": 1, "n_embd": 8, "vocab_size": 17},
    {"n_inner": 20, "layer_norm_epsilon": 1e-3, "n_positions": 5},
    {"activation_function": "gelu"},
    {"activation_function": "gelu_pytorch_tanh", "n_layer": 3},
]


def openai_names(model, folder):
    """No "transformer." before the names, the causal masks among the weights: as OpenAI's own weights lie on the hub."""
    model.save_pretrained(folder)
    state = {n.removeprefix("transformer."): v.clone() for n, v in model.state_dict().items() if n != "lm_head.weight"}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 11, 11).tril() for layer in range(model.config.n_layer)}
    save_file(state | masks, folder / "model.safetensors")


def in_parts(model, folder):
    model.save_pretrained(folder, max_shard_size="4KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def in_pickled_parts(model, folder):
    pytorch_bin(model, folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    halves = [dict(list(state.items())[start::2]) for start in (0, 1)]
    for index, half in enumerate(halves):
        torch.save(half, folder / f"part-{index}.bin")
    weight_map = {name: f"part-{index}.bin" for index, half in enumerate(halves) for name in half}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


LAYOUTS = [GPT2LMHeadModel.save_pretrained, pytorch_bin, openai_names, in_parts, in_pickled_parts]


@torch.no_grad()
def check_logits(theirs, folder):
    foreign = read_foreign(folder)
    tokens = torch.randint(theirs.config.vocab_size, (2, theirs.config.n_positions))
    expected = theirs(tokens).logits
    torch.testing.assert_close(foreign.model(tokens), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    return foreign


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_logits_are_gpt2s(tmp_path, changes):
    theirs = gpt2(**changes)
    theirs.save_pretrained(tmp_path)
    check_logits(theirs, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_of_a_folder_is_read(tmp_path, layout):
    theirs = gpt2(seed=1)
    layout(theirs, tmp_path)
    foreign = check_logits(theirs, tmp_path)
    assert foreign.format == "Hugging Face GPT-2"
    assert foreign.folder == tmp_path


def test_gpt2_is_a_symmetric_model_with_learned_biases(tmp_path):
    theirs = gpt2(seed=2)
    theirs.save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    assert foreign.model.cfg.q == foreign.model.cfg.v == BiasConfig()
    for layer, block in enumerate(theirs.transformer.h):
        learned = block.attn.c_attn.bias.detach().view(3, 3, 4)  # queries, keys, values of each head
        for part, found in zip(learned, (foreign.model.b_Q, foreign.model.b_K, foreign.model.b_V), strict=True):
            assert torch.equal(found[layer], part)
    assert "--direction effective" in foreign.notes[0]


def test_half_precision_becomes_float32(tmp_path):
    theirs = gpt2(seed=3).half()
    theirs.save_pretrained(tmp_path)
    model = read_foreign(tmp_path).model
    assert model.W_E.dtype == torch.float32
    assert torch.equal(model.W_E.half(), theirs.transformer.wte.weight)


@pytest.mark.parametrize("activation", ["gelu", "gelu_exact"])
def test_what_goes_out_comes_back_the_same(make_model, tmp_path, activation):
    model = make_model(activation=activation, q=BiasConfig(), v=BiasConfig(), d_mlp=50)
    model.to_huggingface().save_pretrained(tmp_path)
    back = read_foreign(tmp_path).model
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in back.state_dict().items())
    assert back.cfg.activation == activation


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def index(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


QUERY = "transformer.h.0.attn.c_attn.weight"
DAMAGE = {
    "another kind": (lambda f: edit(f, model_type="opt"), "model of type 'opt'; of Hugging Face's models gpt2, llama"),
    "relu": (lambda f: edit(f, activation_function="relu"), "has activation_function 'relu', which these models do not"),
    "unscaled": (lambda f: edit(f, scale_attn_weights=False), "has scale_attn_weights False, which these models do not"),
    "scaled by layer": (lambda f: edit(f, scale_attn_by_inverse_layer_idx=True), "has scale_attn_by_inverse_layer_idx"),
    "cross attention": (lambda f: edit(f, add_cross_attention=True), "has add_cross_attention True"),
    "other sizes": (
        lambda f: edit(f, n_layer=4, n_positions=1024),
        "n_layer is 4 and the tensors have 2, n_positions is 1024 and the tensors have 11",
    ),
    "an impossible config": (lambda f: edit(f, n_layer="two"), "config.json is no GPT-2 config"),
    "no config": (lambda f: (f / "config.json").unlink(), r"There is no .*config\.json; give the folder of a model"),
    "a config that is a list": (lambda f: (f / "config.json").write_text("[1]"), "holds a JSON list; expected a mapping"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "has neither model.safetensors nor pytorch_model.bin; give a folder with weights",
    ),
    "damaged weights": (lambda f: (f / "model.safetensors").write_bytes(b"\x09" + bytes(7) + b"{}"), "is damaged"),
    "an index that leads away": (
        lambda f: index(f, {"weight_map": {QUERY: "../elsewhere.safetensors"}}),
        "does not say which files hold the weights",
    ),
    "an index of nothing": (lambda f: index(f, {}), "does not say which files hold the weights"),
    "a part that is missing": (lambda f: index(f, {"weight_map": {QUERY: "part"}}), "Cannot read .*part"),
    "linear layout": (
        lambda f: edit_weights(f, lambda w: w.update({QUERY: w[QUERY].T.contiguous()})),
        r"c_attn\.weight is \[36, 12\] of float32, expected \[12, 36\]",
    ),
    "a head for classes": (
        lambda f: edit_weights(f, lambda w: w.update({"score.weight": torch.ones(2, 12)})),
        r"unknown: score\.weight\.",
    ),
    "untied": (
        lambda f: edit_weights(f, lambda w: w.update({"lm_head.weight": torch.ones(41, 12)})),
        "lm_head.weight that is not its token embedding",
    ),
    "a checkpoint of ours": (lambda f: edit(f, model={"n_layers": 2}), "is a checkpoint of this package already"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path, damage, message):
    gpt2().save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InterpError, match=message) as error:
        read_foreign(tmp_path)
    assert "\n" not in str(error.value)


def test_a_pickled_part_that_runs_code_is_refused(tmp_path):
    mark = tmp_path / "mark"

    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(mark)!r}, 'w').close()",)

    pytorch_bin(gpt2(), tmp_path)
    torch.save({"wte.weight": Attack()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InterpError, match="names exec"):
        read_foreign(tmp_path)
    assert not mark.exists()

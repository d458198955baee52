import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.data.classes.built_in import build_schemes
from interp.data.corpora.corpus import open_corpus
from interp.errors import InterpError
from interp.model.checkpoint import load_model, save_checkpoint
from interp.model.config import BiasConfig
from interp.vocabulary import load_tokenizer


@pytest.fixture
def model(make_model):
    return make_model(activation="prelu", positional="rope", q=BiasConfig(0.5, [0.1] * 8, "fixed"))


@pytest.fixture
def folder(model, tmp_path):
    return save_checkpoint(model, tmp_path / "checkpoint", {"corpus": "x"}, "# card")


@torch.no_grad()
def test_a_saved_model_comes_back_the_same(model, folder):
    model.b_Q.add_(1.0)  # lays the layers' parameters into one storage
    save_checkpoint(model, folder)
    loaded = load_model(folder)
    tokens = torch.arange(10)[None]
    assert torch.equal(loaded(tokens), model(tokens))
    assert loaded.cfg == model.cfg
    assert not loaded.training
    assert loaded.to_tokens("fox").equal(model.to_tokens("fox"))


def test_a_folder_holds_what_was_given(folder):
    assert {p.name for p in folder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "README.md",
    }  # fmt: skip
    assert [p.name for p in folder.parent.iterdir()] == ["checkpoint"]  # nothing half-written beside it


def test_half_precision_halves_the_file_and_loads_as_float32(model, folder, tmp_path):
    half = save_checkpoint(model, tmp_path / "half", dtype=torch.float16)
    sizes = [(f / "model.safetensors").stat().st_size for f in (half, folder)]
    assert sizes[0] < 0.6 * sizes[1]
    assert all(p.dtype == torch.float32 for p in load_model(half).parameters())


def test_linspace_profiles_survive_the_way_through_json(make_model, tmp_path):
    model = make_model(q=BiasConfig(0.5, (0.05, 0.15), "batch"))
    loaded = load_model(save_checkpoint(model, tmp_path / "c"))
    assert loaded.cfg.q == model.cfg.q
    torch.testing.assert_close(loaded.bias_q.std, torch.linspace(0.05, 0.15, 8))


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config))


def edit_model(folder, **changes):
    model = json.loads((folder / "config.json").read_text())["model"]
    edit_config(folder, model=model | changes)


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    forget_checksum(folder)


def forget_checksum(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["weights_sha256"]
    (folder / "config.json").write_text(json.dumps(config))


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = {
    "config missing": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config broken": (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    "config without model": (lambda f: (f / "config.json").write_text("{}"), "no mapping under the key 'model'"),
    "newer format": (lambda f: edit_config(f, format=99), "format 99; this version reads up to 1"),
    "unknown field": (lambda f: edit_config(f, model={"n_layer": 2}), "no field 'n_layer'; did you mean 'n_layers'"),
    "config nested": (lambda f: (f / "config.json").write_text("[" * 100_000), "nested too deeply"),
    "config of a long number": (lambda f: (f / "config.json").write_text("9" * 5000), "4300 digits"),
    "format of another kind": (lambda f: edit_config(f, format="1"), "has format of another kind"),
    "training of another kind": (lambda f: edit_config(f, training=[]), "has training of another kind"),
    "another eps": (lambda f: edit_model(f, eps=0.1), "is not what was saved: its checksum is .* remove model_sha256"),
    "checksum of another kind": (lambda f: edit_config(f, weights_sha256=[]), "has weights_sha256 of another kind"),
    "other layers": (lambda f: edit_model(f, n_layers=9000), "has 2 layers, expected 9000"),
    "larger than memory": (
        lambda f: edit_model(f, d_mlp=10**9),
        r"fc_in.bias .* has shape \[96\], expected \[1000000000\]",
    ),
    "fractional size": (lambda f: edit_model(f, n_layers=2.0), "n_layers is 2.0"),
    "missing field": (lambda f: edit_config(f, model={"n_layers": 2}), "ModelConfig cannot be made"),
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), "is missing"),
    "weights truncated": (lambda f: truncate(f / "model.safetensors"), "is damaged"),
    "weights not tensors": (lambda f: (f / "model.safetensors").write_bytes(b"garbage!"), "is damaged"),
    "key missing": (
        lambda f: edit_weights(f, lambda w: w.pop("embed.weight")),
        "missing embed.weight, unknown nothing",
    ),
    "key unknown": (lambda f: edit_weights(f, lambda w: w.update(extra=torch.ones(1))), "unknown extra"),
    "wrong shape": (
        lambda f: edit_weights(f, lambda w: w.update({"ln_final.w": torch.ones(5)})),
        r"ln_final.w .* has shape \[5\], expected \[24\]",
    ),
    "not finite": (
        lambda f: edit_weights(f, lambda w: w["ln_final.w"].fill_(torch.nan)),
        "ln_final.w .* values that are not finite",
    ),
    "not finite in float32": (
        lambda f: edit_weights(f, lambda w: w.update({"ln_final.w": w["ln_final.w"].double() * 1e300})),
        "ln_final.w .* values that are not finite",
    ),
    "whole numbers": (
        lambda f: edit_weights(f, lambda w: w.update({"ln_final.w": w["ln_final.w"].long()})),
        "ln_final.w .* has torch.int64 numbers",
    ),
    "complex numbers": (
        lambda f: edit_weights(f, lambda w: w.update({"ln_final.w": w["ln_final.w"].to(torch.complex64)})),
        "ln_final.w .* has torch.complex64 numbers",
    ),
    "not finite in float8": (
        lambda f: edit_weights(
            f, lambda w: w.update({"ln_final.w": (w["ln_final.w"] * torch.nan).to(torch.float8_e5m2)})
        ),
        "ln_final.w .* values that are not finite",
    ),
    "tokenizer broken": (lambda f: (f / "tokenizer.json").write_text("{"), "is not a tokenizer.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_in_one_sentence(unchecked, folder, name):
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(InterpError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_flipped_bit_of_the_weights_is_refused_with_both_checksums(model, folder, dtype):
    save_checkpoint(model, folder, dtype=dtype)
    written = json.loads((folder / "config.json").read_text())["weights_sha256"]
    load_model(folder)
    flip(folder / "model.safetensors", -1000)
    message = (
        rf"model\.safetensors is damaged: its weights have sha256 \w{{16}}, expected {written[:16]}; copy it again"
    )
    with pytest.raises(InterpError, match=message):
        load_model(folder)
    forget_checksum(folder)  # the weights carry it too
    with pytest.raises(InterpError, match=message):
        load_model(folder)


@torch.no_grad()
def test_weights_and_config_of_two_writes_load_as_a_kill_between_them_leaves_them(model, folder):
    before = (folder / "config.json").read_bytes()
    model.W_E.mul_(2)
    save_checkpoint(model, folder)
    (folder / "config.json").write_bytes(before)
    assert load_model(folder).W_E.equal(model.W_E)


def test_a_checkpoint_of_before_has_no_checksum_and_loads(model, folder):
    edit_weights(folder, lambda weights: None)
    assert load_model(folder).W_E.equal(model.W_E)


def test_the_largest_id_of_a_tokenizer_counts_not_the_number_of_its_tokens(make_model, folder, tmp_path):
    parts = json.loads((folder / "tokenizer.json").read_text())
    last = max(parts["model"]["vocab"], key=parts["model"]["vocab"].get)
    parts["model"]["vocab"][last] += 5
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    with pytest.raises(InterpError, match="has 305 tokens, the model only 300"):
        load_model(folder)
    fits = make_model(d_vocab=305)
    fits.tokenizer = load_tokenizer(folder)
    surface, frequency = build_schemes(("surface", "freq"), fits.tokenizer, open_corpus(["The fox"]))
    for scheme in (surface, frequency):
        assert len(scheme.assign(np.array([304]), None, None)) == 1


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(InterpError, match="no checkpoint 'tiny-bqvb'; did you mean 'tiny-bqbv'"):
        load_model("tiny-bqvb")


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "no device 'gpu'"), ("mps", "no device 'mps'"), ("cuda:99", "GPUs are visible")]
)
def test_a_device_that_is_not_there_is_refused(folder, device, message):
    with pytest.raises(InterpError, match=message):
        load_model(folder, device)


def test_a_folder_of_something_else_is_left_alone(model, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InterpError, match="not a checkpoint folder"):
        save_checkpoint(model, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_failed_write_leaves_the_old_checkpoint(model, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("interp.model.checkpoint.save_file", fail)
    with pytest.raises(InterpError, match="No space left"):
        save_checkpoint(model, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["checkpoint"]


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")

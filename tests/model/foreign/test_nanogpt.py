"""nanoGPT's checkpoints: GPT-2's layout with ordinary linear maps, with or without biases."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from interp.errors import InterpError
from interp.model.foreign.formats import read_foreign

LINEAR = ("c_attn.weight", "attn.c_proj.weight", "c_fc.weight", "mlp.c_proj.weight")


def nanogpt(bias=True, activation="gelu", **sizes):
    """A checkpoint as train.py writes it, and Hugging Face's model with the same weights, turned."""
    arguments = {
        "n_layer": 2,
        "n_head": 3,
        "n_embd": 12,
        "block_size": 9,
        "bias": bias,
        "vocab_size": 23,
        "dropout": 0.1,
    }
    arguments |= sizes
    reference = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=arguments["vocab_size"], n_positions=arguments["block_size"], n_embd=arguments["n_embd"],
            n_layer=arguments["n_layer"], n_head=arguments["n_head"], activation_function=activation, bos_token_id=0,
            eos_token_id=0,
        )
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
            if not bias and name.endswith(".bias"):
                parameter.zero_()
    state = {name: value.T if name.endswith(LINEAR) else value for name, value in reference.state_dict().items()}
    state = {f"_orig_mod.{n}": v.clone() for n, v in state.items() if bias or not n.endswith(".bias")}
    checkpoint = {
        "model": state, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}, "model_args": arguments, "iter_num": 3,
        "best_val_loss": torch.tensor(2.5), "config": {"dataset": "shakespeare", "n_head": 99},
    }  # fmt: skip
    return checkpoint, reference.eval()


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"n_layer": 1, "n_head": 1}, {"n_layer": 3, "n_embd": 16, "n_head": 4}], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
def test_logits_are_those_of_the_checkpoint(tmp_path, bias, sizes):
    checkpoint, reference = nanogpt(bias, **sizes)
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    foreign = read_foreign(tmp_path / "ckpt.pt")
    tokens = torch.randint(23, (2, 9))
    expected = reference(tokens).logits
    torch.testing.assert_close(foreign.model(tokens), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert foreign.format == "nanoGPT"
    assert foreign.model.cfg.n_heads == checkpoint["model_args"]["n_head"]
    assert ["--activation gelu" in note for note in foreign.notes] == [True]


@torch.no_grad()
def test_files_of_early_versions_are_read_with_the_gelu_they_were_trained_with(tmp_path):
    checkpoint, reference = nanogpt(activation="gelu_new")
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    tokens = torch.randint(23, (2, 9))
    expected = reference(tokens).logits
    given, assumed = read_foreign(tmp_path / "ckpt.pt", "gelu"), read_foreign(tmp_path / "ckpt.pt")
    tolerance = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(given.model(tokens), expected, rtol=0, atol=tolerance)
    assert float((assumed.model(tokens) - expected).abs().max()) > tolerance
    assert given.notes == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model_args"].update(bias=True), r"missing: transformer\.h\.0\.attn\.c_attn\.bias.* and 8 more"),
        (
            lambda c: c["model_args"].update(n_layer=12, n_embd=768),
            "n_layer is 12 and the tensors have 2, n_embd is 768",
        ),
        (lambda c: c["model_args"].pop("n_head"), "n_head None; a whole number is expected"),
        (lambda c: c["model_args"].update(n_head=True), "n_head True; a whole number is expected"),
        (lambda c: c["model"].update(other=torch.ones(1)), r"unknown: other\."),
        (lambda c: c.pop("model_args"), "nothing beside them says how many heads there are"),
        (lambda c: c.update(model_args="none"), "nothing beside them says how many heads there are"),
    ],
)
def test_what_does_not_fit_is_listed(tmp_path, change, message):
    checkpoint, _ = nanogpt(bias=False)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    with pytest.raises(InterpError, match=message):
        read_foreign(tmp_path / "ckpt.pt")


def test_masks_of_older_versions_are_left_out(tmp_path):
    checkpoint, _ = nanogpt()
    checkpoint["model"]["transformer.h.0.attn.bias"] = torch.ones(1, 1, 9, 9).tril()
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    assert read_foreign(tmp_path / "ckpt.pt").model.cfg.n_ctx == 9

"""Copies, pickles, other precisions and compiled models are the same model."""

import copy
import pickle
import sys

import pytest
import torch

from interp.model.config import BiasConfig
from tests import commands
from tests.model.cases import SHAPES, random_tokens


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@torch.no_grad()
def test_a_copy_gives_the_same_and_lives_on_its_own(make_model, duplicate):
    model = make_model(q=BiasConfig(0.5, 0.1, "learned"))
    tokens = random_tokens(model)
    plain = model(tokens)
    twin = duplicate(model)
    assert torch.equal(twin(tokens), plain)
    twin.set_use_attn_result(True)
    twin.W_O.zero_()
    with twin.bias(scale=0):
        assert torch.equal(model(tokens), plain)
    twin.add_hook("blocks.0.attn.hook_result", lambda x, hook: x * 0)
    assert twin.run_with_cache(tokens)[1]["result", 0].shape == (2, 11, 3, 24)
    assert not model.cfg.use_attn_result and not model.blocks[0].attn.hook_result._forward_hooks
    assert torch.equal(model(tokens), plain)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_a_cast_model_stays_close_and_says_its_precision(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    plain = model(tokens)
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.1)):
        model = model.to(dtype)
        assert model.cfg.dtype == dtype and model.cfg.device == torch.device("cpu")
        logits, cache = model.run_with_cache(tokens)
        assert logits.dtype == cache["pattern", 0].dtype == dtype
        torch.testing.assert_close(logits.float(), plain, rtol=0, atol=tolerance * float(plain.abs().max()))
    assert model.float().cfg.dtype == torch.float32


@pytest.mark.parametrize("changes", SHAPES[:2], ids=["llama", "qwen3"])
def test_matrix_products_in_bfloat16_leave_the_norms_exact(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    plain = model(tokens, return_type="loss")
    with torch.autocast("cpu", torch.bfloat16):
        loss, cache = model.run_with_cache(tokens, return_type="loss")
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=0.02)
    assert cache["normalized", 1, "ln1"].dtype == torch.float32 and cache["rot_q", 1, "attn"].dtype == torch.bfloat16
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_a_model_on_a_device_without_memory_keeps_its_shape(make_model):
    model = make_model().to("meta")
    assert model.cfg.device == torch.device("meta")
    assert model(torch.zeros(2, 5, dtype=torch.long, device="meta")).shape == (2, 5, model.cfg.d_vocab)


COMPILED = """
import torch
from interp.data.tokenizer import train_tokenizer
from interp.model.config import BiasConfig, preset
from interp.model.transformer import HookedSymmetryBrokenTransformer

tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 3, 300)
for changes, asked in (({"activation": "gelu"}, {"bias_scale": 0.5}), ({"positional": "rope"}, {"stop_at_layer": 1})):
    cfg = preset("tiny", "bqbv", n_layers=2, q=BiasConfig(0.5, 0.1, "batch", directions=2), **changes)
    model = HookedSymmetryBrokenTransformer(cfg, tokenizer).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    tokens = torch.randint(4096, (2, 16))
    mask = (torch.arange(16) > torch.tensor([[3], [-1]])).long()
    for arguments in ({"attention_mask": mask}, asked):
        with torch.no_grad():
            print((compiled(tokens, **arguments) - model(tokens, **arguments)).abs().max().item())
with torch.no_grad(), model.bias(bias="component:1"):
    print((compiled(tokens) - model(tokens)).abs().max().item())
"""


@pytest.mark.slow
def test_the_forward_pass_compiles_without_a_graph_break_whatever_is_asked_of_it():
    # in a process of its own: a compiler cannot look through the type checker of the tests
    output = commands.run([sys.executable, "-c", COMPILED], check=True).stdout
    differences = [float(line) for line in output.split()]
    assert len(differences) == 5 and max(differences) < 1e-5

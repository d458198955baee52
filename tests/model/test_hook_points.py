"""Every hook point, against a float64 transcription: what it shows, and what an edit of it does."""

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from interp.model.hooking import SWITCHES
from tests.model.cases import LLAMA, MIXED, QWEN3, random_tokens
from tests.model.hooked_reference import hooked_forward

MODELS = {
    "learned, gelu": {},
    "rope, prelu": {"positional": "rope", "activation": "prelu", "n_layers": 1, "q": BiasConfig(0.5, 0.2, "fixed")},
    "llama": {**LLAMA, "n_layers": 1},
    "qwen3": {**QWEN3, "n_layers": 1, "learned_biases": "all"},
    "mixed": {**MIXED, "n_layers": 1, "positional": "rope", "rotary_dim": 4},
    "symmetric": {"q": BiasConfig(), "v": BiasConfig(), "n_layers": 1},
}
SWITCHED = (("use_attn_result", "use_hook_mlp_in", "use_split_qkv_input"), ("use_attn_in",), ())


def switch_on(model, switches):
    for switch in switches:
        getattr(model, f"set_{switch}")(True)
    return model


@pytest.mark.parametrize("switches", SWITCHED, ids=str)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_every_hook_point_shows_what_the_formulas_say(make_model, name, switches):
    model = switch_on(make_model(**MODELS[name]).double(), switches)
    tokens, seen = random_tokens(model, batch=1, pos=5), {}
    hooked_forward(model, tokens[0], lambda point, value: seen.setdefault(point, value))
    _, cache = model.run_with_cache(tokens, remove_batch_dim=True)
    copies = {"use_attn_in", "use_split_qkv_input"} & set(switches)  # then ln1's hooks are for reading alone
    unread = {point for point in cache if ".ln1." in point} if copies else set()
    assert set(cache) - unread == set(seen)
    for point, value in seen.items():
        torch.testing.assert_close(cache[point], value, rtol=0, atol=1e-9, msg=lambda text, p=point: f"{p}: {text}")


@pytest.mark.parametrize("switches", SWITCHED, ids=str)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_edit_of_any_hook_point_does_what_the_formulas_say_and_is_gone_afterwards(make_model, name, switches):
    model = switch_on(make_model(**MODELS[name]).double(), switches)
    tokens, shapes = random_tokens(model, batch=1, pos=4), {}
    plain = model(tokens)
    hooked_forward(model, tokens[0], lambda point, value: shapes.setdefault(point, value))
    for point, value in shapes.items():
        if switches and point.rsplit(".", 1)[-1] not in SWITCHES:
            continue
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
        calls = []

        def edit(x, hook, noise=noise, calls=calls):
            calls.append(hook.name)
            return x + noise

        def see(other, value, point=point, noise=noise):
            return value + noise if other == point else value

        edited = model.run_with_hooks(tokens, fwd_hooks=[(point, edit)])[0]
        assert calls == [point]
        torch.testing.assert_close(edited, hooked_forward(model, tokens[0], see), rtol=0, atol=1e-8)
        no_direction = name == "symmetric" and point.endswith("_aligned")
        assert no_direction or float((edited - plain[0]).abs().max()) > 1e-4, point
    assert torch.equal(model(tokens), plain)


@pytest.mark.parametrize("switches", SWITCHED, ids=str)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_edit_in_place_does_what_an_edit_of_a_copy_does_and_leaves_the_weights(make_model, name, switches):
    model = switch_on(make_model(**MODELS[name]).double(), switches)
    tokens = random_tokens(model, batch=2, pos=4)
    plain, (_, cache) = model(tokens), model.run_with_cache(tokens)
    for point in cache:
        copied = model.run_with_hooks(tokens, fwd_hooks=[(point, lambda x, hook: x * 1.5)])
        in_place = model.run_with_hooks(tokens, fwd_hooks=[(point, lambda x, hook: x.mul_(1.5))])
        torch.testing.assert_close(in_place, copied, rtol=0, atol=1e-9, msg=lambda text, p=point: f"{p}: {text}")
        torch.testing.assert_close(model(tokens), plain, rtol=0, atol=1e-12, msg=lambda text, p=point: f"{p}: {text}")


def test_a_hook_point_that_is_switched_off_is_refused_and_its_switch_named(make_model):
    model = make_model()
    for name, switch in (("attn.hook_result", "use_attn_result"), ("hook_q_input", "use_split_qkv_input")):
        with pytest.raises(InterpError, match=rf"does not fire while {switch} is off; call model.set_{switch}\(True\)"):
            model.add_hook(f"blocks.0.{name}", print)
    model.set_use_attn_in(True)
    with pytest.raises(InterpError, match=r"exclude each other; call model.set_use_attn_in\(False\)"):
        model.set_use_split_qkv_input(True)


def test_switches_belong_to_one_model_and_are_not_saved(make_model):
    model, twin = make_model(), make_model()
    model.set_use_attn_result(True)
    assert model.cfg.use_attn_result and not twin.cfg.use_attn_result
    assert model.cfg == twin.cfg and "use_attn_result" not in model.cfg.to_dict()


@torch.no_grad()
def test_inputs_of_heads_have_transformer_lens_short_names(make_model):
    model = switch_on(make_model(), ["use_split_qkv_input"])
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.1.hook_q_input")
    assert cache["q_input", 1].shape == (2, 11, 3, 24)
    edited = model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.hook_k_input", lambda x, hook: x * 0)])
    assert not torch.allclose(edited, model(tokens))


@torch.no_grad()
def test_slices_of_positions_leave_heads_and_biases_whole(make_model):
    model = switch_on(make_model(positional="rope"), ["use_attn_result", "use_split_qkv_input"])
    tokens = random_tokens(model)
    _, whole = model.run_with_cache(tokens)
    _, part = model.run_with_cache(tokens, pos_slice=(2, 5))
    heads = {"hook_bias_q", "hook_bias_v", "hook_bias_scores"}
    for name, value in part.items():
        last = name.rsplit(".", 1)[-1]
        expected = whole[name] if last in heads else whole[name].narrow(1, 2, 3) if value.ndim < 4 else None
        if expected is None:
            is_score = last in ("hook_pattern", "hook_attn_scores")
            expected = whole[name][:, :, 2:5] if is_score else whole[name][:, 2:5]
        torch.testing.assert_close(value, expected, msg=name)


@torch.no_grad()
def test_gradients_pass_through_hook_points(make_model):
    model = make_model()
    with torch.enable_grad():
        _, cache = model.run_with_cache(random_tokens(model), return_type="loss", incl_bwd=True)
    assert cache["blocks.0.attn.hook_z_grad"].shape == cache["z", 0].shape
    assert bool(cache["blocks.0.attn.hook_z_grad"].any())

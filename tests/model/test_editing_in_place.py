"""A hook that edits its value in place does what one does that returns a changed copy, also while gradients are on."""

import pytest
import torch

from interp.model.config import BiasConfig
from interp.model.hooking import SWITCHES
from tests.model.cases import LLAMA, random_tokens

LEARNED = BiasConfig(0.4, 0.2, "learned")
MODELS = {
    "learned, gelu": {"positional": "learned", "activation": "gelu", "q": LEARNED, "v": LEARNED},
    "rope, prelu": {"positional": "rope", "activation": "prelu"},
    "modern": {**LLAMA, "qk_norm": True, "q": LEARNED, "v": LEARNED},
}
BLOCK = [
    "hook_resid_pre", "ln1.hook_scale", "ln1.hook_normalized", "attn.hook_attn_in", "attn.hook_q_input",
    "attn.hook_k_input", "attn.hook_v_input", "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_rot_q",
    "attn.hook_rot_k", "attn.hook_bias_q", "attn.hook_bias_v", "attn.hook_q_aligned", "attn.hook_k_aligned",
    "attn.hook_v_aligned", "attn.hook_q_biased", "attn.hook_v_biased", "attn.hook_bias_scores", "attn.hook_attn_scores",
    "attn.hook_pattern", "attn.hook_z", "attn.hook_result", "hook_attn_out", "hook_resid_mid", "hook_mlp_in",
    "ln2.hook_scale", "ln2.hook_normalized", "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", "hook_resid_post",
    "attn.q_norm.hook_scale", "attn.q_norm.hook_normalized", "attn.k_norm.hook_scale", "attn.k_norm.hook_normalized",
    "mlp.hook_pre_linear",
]  # fmt: skip
POINTS = [
    "hook_embed", "hook_pos_embed", *(f"blocks.1.{name}" for name in BLOCK), "ln_final.hook_scale",
    "ln_final.hook_normalized",
]  # fmt: skip


def lacking(settings):
    """Parts of the names of hook points that a model does not have."""
    return [
        "pos_embed" if settings["positional"] == "rope" else "hook_rot_",
        *["_norm."] * (not settings.get("qk_norm")),
        *["hook_pre_linear"] * (settings["activation"] != "swiglu"),
    ]


CASES = [
    (name, point) for name in MODELS for point in POINTS if not any(part in point for part in lacking(MODELS[name]))
]


def without_first(x):
    first = torch.arange(x.shape[-2])[:, None] == 0
    return torch.where(first, 0.0, x)


EDITS = {
    "halved": (lambda x: x.mul_(0.5), lambda x: x * 0.5),
    "zeros": (lambda x: x[...].zero_(), torch.zeros_like),
    "the first zero": (lambda x: x.__setitem__((..., 0, slice(None)), 0.0), without_first),
}


def loss_and_gradients(model, tokens, point, edit):
    model.zero_grad()
    loss = model.run_with_hooks(tokens, return_type="loss", fwd_hooks=[(point, lambda x, hook: edit(x))])
    loss.backward()
    return [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())]


def in_training(make_model, name, point):
    model = make_model(**MODELS[name]).train()
    model.draw_biases(3)
    if switch := SWITCHES.get(point.rsplit(".", 1)[-1]):
        getattr(model, f"set_{switch}")(True)
    return model


def test_every_hook_point_of_a_block_is_tried(make_model):
    tried = {point for name in MODELS for point in make_model(**MODELS[name]).hook_dict if ".0." not in point}
    assert tried == set(POINTS)


@pytest.mark.parametrize(("name", "point"), CASES)
def test_with_gradients_an_edit_in_place_is_an_edit_of_a_copy(make_model, name, point):
    model = in_training(make_model, name, point)
    tokens = random_tokens(model, pos=5)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    for what, (in_place, copied) in EDITS.items():
        found, expected = (loss_and_gradients(model, tokens, point, edit) for edit in (in_place, copied))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, equal_nan=True, msg=lambda text, what=what: f"{what}: {text}")
    assert all(torch.equal(p, before) for p, before in zip(model.parameters(), weights, strict=True))


@pytest.mark.parametrize(("name", "point"), CASES)
def test_a_hook_that_changes_nothing_leaves_loss_and_gradients_as_they_are(make_model, name, point):
    model = in_training(make_model, name, point)
    tokens = random_tokens(model, pos=5)
    found = loss_and_gradients(model, tokens, point, lambda x: x.mul_(1.0))
    model.zero_grad()
    loss = model(tokens, return_type="loss")
    loss.backward()
    expected = [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_cached_where_values_are_edited(make_model, name):
    model = make_model(**MODELS[name])
    tokens = random_tokens(model, pos=5)
    _, plain = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    with model.hooks(fwd_hooks=[(point, lambda x, hook: x.mul_(0.9)) for point in model.hook_dict if point in plain]):
        _, cache = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    assert set(cache) == set(plain)
    assert not torch.equal(cache["blocks.0.attn.hook_q_grad"], plain["blocks.0.attn.hook_q_grad"])


@torch.no_grad()
def test_an_edit_in_place_leaves_what_other_hook_points_have_shown(make_model):
    model = make_model()
    tokens = random_tokens(model)
    before, after = "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"
    _, plain = model.run_with_cache(tokens, names_filter=[before, after])
    with model.hooks(fwd_hooks=[(after, lambda x, hook: x.zero_())]):
        _, cache = model.run_with_cache(tokens, names_filter=[before, after])
    assert torch.equal(cache[before], plain[before])
    assert not cache[after].any()


def test_without_hooks_nothing_is_copied(make_model):
    model = make_model()
    for point in model.hook_points():
        value = torch.ones(3)
        assert point(value) is value
        point.add_hook(lambda x, hook: None)
        copy = point(value)
        assert copy is not value and torch.equal(copy, value)
    model.reset_hooks()

"""TransformerLens' other names of hook points, those of 4.x among them, mean the same here as on its own bridge."""

import pytest
import torch

from interp.errors import InterpError
from interp.model.activation_cache import ALIASES, ALIASES_OF_MLP, aliases
from interp.model.config import BiasConfig
from tests.model.cases import LLAMA, QWEN3, random_tokens

SYMMETRIC = {"q": BiasConfig(), "v": BiasConfig()}  # whose queries are those of its bridge
BLOCKS = {"gpt2": {"activation": "gelu"}, "llama": LLAMA, "qwen3": QWEN3}


@pytest.fixture
def model(make_model):
    return make_model(**SYMMETRIC, activation="gelu")


def names_of(model):
    """The other names of what this model has."""
    known = aliases(model.cfg).items()
    return {alias: name for alias, name in known if name in model.hook_dict}


def halve(x, hook):
    return x * 0.5


def near(found, expected, what):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda text: f"{what}: {text}")


SWITCHED = {(): (), ("use_split_qkv_input", "use_hook_mlp_in"): (".ln1.",), ("use_attn_in",): (".ln1.",)}  # unread then


@pytest.mark.parametrize("switches", SWITCHED, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_another_name_shows_and_edits_what_it_does_on_the_bridge(make_model, block, switches):
    model = make_model(**SYMMETRIC, **BLOCKS[block])
    bridge, tokens, tried = model.to_bridge(), random_tokens(model), []
    for switch in switches:
        for each in (model, bridge):
            getattr(each, f"set_{switch}")(True)
    plain, cache = model.run_with_cache(tokens)
    _, theirs = bridge.run_with_cache(tokens)
    unrun = {} if block == "gpt2" else {f"blocks.{layer}.attn.hook_hidden_states" for layer in range(2)}
    for alias, name in names_of(model).items():
        if alias in unrun:
            assert alias not in theirs.cache_dict
        elif model._switched_off(name) is None and not any(part in name for part in SWITCHED[switches]):
            near(theirs[alias].view_as(cache[alias]), cache[alias], alias)
            edited = [each.run_with_hooks(tokens, fwd_hooks=[(alias, halve)]) for each in (model, bridge)]
            near(*edited, alias)
            assert not torch.allclose(edited[0], plain), alias
            tried.append(alias)
    assert len(tried) >= 30


@torch.no_grad()
def test_a_hook_attached_by_another_name_is_told_ours(model):
    tokens, seen = random_tokens(model), []
    model.add_hook("blocks.1.attn.q.hook_out", lambda x, hook: seen.append((hook.name, hook.layer())))
    model.add_perma_hook("embed.hook_out", lambda x, hook: seen.append(hook.name))
    model(tokens)
    model.reset_hooks(including_permanent=True)
    model(tokens)
    assert seen == ["hook_embed", ("blocks.1.attn.hook_q", 1)]


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_a_cache_says_that_it_has_what_indexing_gives(make_model, block):
    model = make_model(**SYMMETRIC, **BLOCKS[block])
    tokens = random_tokens(model)
    model.set_use_split_qkv_input(True)
    with torch.enable_grad():
        _, cache = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    assert "blocks.0.hook_q_input" in cache and ("q_input", 0) in cache
    for alias, name in names_of(model).items():
        for key, other in ((alias, name), (f"{alias}_grad", f"{name}_grad")):
            assert (key in cache) == (other in cache) == (other in set(cache)), key
            if key in cache:
                assert cache[key] is cache[other], key
    for key in (("pattern", 1), ("pattern", -1), "embed", "q0", ("scale", 1, "ln2"), "ln_final.hook_out"):
        assert key in cache and cache[key] is not None, key
    for key in (("pattern", 2), "nonsense", ("nonsense", 0), 5, None, "blocks.2.hook_in", "blocks.0.hook_attn_in"):
        assert key not in cache, key
    with pytest.raises(KeyError, match="nonsense"):
        cache["nonsense"]


@pytest.mark.parametrize("names", ["blocks.0.attn.q.hook_out", ["blocks.0.attn.q.hook_out", "embed.hook_out"]], ids=str)
@torch.no_grad()
def test_other_names_choose_what_is_cached(model, names):
    tokens = random_tokens(model)
    expected = {aliases(model.cfg)[name] for name in ([names] if isinstance(names, str) else names)}
    _, cache = model.run_with_cache(tokens, names_filter=names)
    assert set(cache) == expected
    assert all(name in cache for name in ([names] if isinstance(names, str) else names))
    values, forward, _ = model.get_caching_hooks(names)
    model.run_with_hooks(tokens, fwd_hooks=forward)
    assert set(values) == expected
    values = model.add_caching_hooks(names)
    model(tokens)
    model.reset_hooks()
    assert set(values) == expected


@torch.no_grad()
def test_a_filter_is_asked_about_other_names_only_if_it_takes_none_of_ours(model):
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("attn.hook_out"))
    assert set(cache) == {"blocks.0.hook_attn_out", "blocks.1.hook_attn_out"}
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: not name.endswith("hook_q"))
    assert "blocks.0.attn.hook_q" not in cache and "blocks.0.attn.hook_k" in cache


@pytest.mark.parametrize("block", BLOCKS)
def test_every_other_name_stands_for_a_hook_point_and_none_hides_one(make_model, block):
    model = make_model(**BLOCKS[block])
    found = aliases(model.cfg)
    assert set(found.values()) - set(model.hook_dict) == ({"hook_pos_embed"} if block != "gpt2" else set())
    assert not set(found) & set(model.hook_dict)
    assert found["ln_final.hook_in"] == "blocks.1.hook_resid_post"
    assert len(found) == sum(1 + ("{}" in alias) for alias in [*ALIASES, *ALIASES_OF_MLP[model.cfg.gated_mlp]])


@torch.no_grad()
def test_with_a_gate_the_inner_maps_of_an_mlp_are_told_apart(make_model):
    model = make_model(**LLAMA)
    _, cache = model.run_with_cache(random_tokens(model))
    read = cache["normalized", 1, "ln2"]
    torch.testing.assert_close(cache["blocks.1.mlp.gate.hook_out"], read @ model.W_gate[1])
    torch.testing.assert_close(cache["blocks.1.mlp.in.hook_out"], read @ model.W_in[1])
    # the bridge's `in.hook_in` is what one of the two maps reads, and here they read the same
    for other, name in ((model, "blocks.1.mlp.in.hook_in"), (make_model(), "blocks.1.mlp.gate.hook_out")):
        with pytest.raises(InterpError, match=f"no hook point '{name}'"):
            other.add_hook(name, print)


def test_names_that_mean_nothing_are_refused(model, unchecked):
    tokens = random_tokens(model)
    cases = {
        r"no hook point 'blocks.0.attn.q.hook_ou'; did you mean 'blocks.0.attn.q.hook_out'": "blocks.0.attn.q.hook_ou",
        "no hook point 'blocks.2.hook_in'": "blocks.2.hook_in",
        "matches no hook point": lambda name: name == "x",
        "'blocks.0.attn.hook_result' does not fire while use_attn_result is off": lambda name: "result" in name,
        "'blocks.0.attn.hook_q_input' does not fire while use_split_qkv_input is off": "blocks.0.hook_q_input",
        "5; a string, or a function of one, is expected": 5,
    }
    for message, name in cases.items():
        for names in (name, [name]) if name != 5 else ([name],):
            for call in (model.run_with_cache, lambda tokens, names_filter: model.get_caching_hooks(names_filter)):
                with pytest.raises(InterpError, match=message):
                    call(tokens, names_filter=names)
        with pytest.raises(InterpError, match=message):
            model.add_hook(name, print)
        with pytest.raises(InterpError, match=message):
            model.run_with_hooks(tokens, fwd_hooks=[(name, print)])
    with pytest.raises(InterpError, match="names_filter is 5; a name, several, or a function of a name is expected"):
        model.run_with_cache(tokens, names_filter=5)
    for wrong in ("blocks.0.hook_in", ("blocks.0.hook_in",), ("blocks.0.hook_in", None)):
        with pytest.raises(InterpError, match="a pair, the name of a hook point and a function, is expected"):
            model.run_with_hooks(tokens, fwd_hooks=[wrong])
    assert not any(model.hook_dict[name].fwd_hooks for name in model.hook_dict)


@torch.no_grad()
def test_nothing_wanted_is_nothing_cached(model):
    assert len(model.run_with_cache(random_tokens(model), names_filter=[])[1]) == 0

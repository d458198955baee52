import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.model.cases import random_tokens


@torch.no_grad()
def test_head_results_and_bias_sum_to_the_attention_output(make_model):
    model = make_model()
    _, cache = model.run_with_cache(random_tokens(model))
    for layer, block in enumerate(model.blocks):
        results = torch.einsum("bphd,hdm->bpm", cache["z", layer], block.attn.W_O) + block.attn.b_O
        torch.testing.assert_close(results, cache["attn_out", layer], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_biases_are_added_to_queries_and_values_and_their_mean_is_in_force_at_evaluation(make_model):
    model = make_model()
    _, cache = model.run_with_cache(random_tokens(model))
    for letter, mean in (("q", 0.5), ("v", 0.3)):
        bias = cache[f"blocks.1.attn.hook_bias_{letter}"]
        torch.testing.assert_close(bias, torch.full((3, 8), mean))
        without = cache[f"blocks.1.attn.hook_{letter}"]
        torch.testing.assert_close(cache[f"blocks.1.attn.hook_{letter}_biased"], without + mean)


@torch.no_grad()
def test_aligned_components_and_bias_scores_are_projections_on_the_bias(make_model):
    model = make_model()
    _, cache = model.run_with_cache(random_tokens(model))
    bias = cache["blocks.1.attn.hook_bias_q"]
    k = cache["blocks.1.attn.hook_k"]
    aligned = torch.einsum("bphd,hd->bph", k, bias) / bias.norm(dim=-1)
    torch.testing.assert_close(cache["blocks.1.attn.hook_k_aligned"], aligned)
    scores = torch.einsum("bphd,hd->bhp", k, bias) / model.cfg.d_head**0.5
    torch.testing.assert_close(cache["blocks.1.attn.hook_bias_scores"], scores)


@torch.no_grad()
def test_scaling_bias_scores_equals_scaling_the_query_bias_and_removing_k_aligned_removes_it(make_model):
    model = make_model(n_layers=1, v=BiasConfig())
    tokens = random_tokens(model)
    with model.bias(scale=2):
        doubled = model(tokens)
    hook = "blocks.0.attn.hook_bias_scores"
    torch.testing.assert_close(model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda s, hook: 2 * s)]), doubled)
    for name in ("hook_k_aligned", "hook_bias_scores"):
        edit = [(f"blocks.0.attn.{name}", lambda x, hook: torch.zeros_like(x))]
        _, cache = model.run_with_cache(tokens)
        with model.hooks(fwd_hooks=edit):
            _, edited = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_attn_scores")
        bias_scores = cache["blocks.0.attn.hook_bias_scores"][:, :, None]
        along_q = cache["blocks.0.attn.hook_q_aligned"].transpose(1, 2)[..., None]
        along_k = cache["blocks.0.attn.hook_k_aligned"].transpose(1, 2)[:, :, None]
        removed = bias_scores if name == "hook_bias_scores" else bias_scores + along_q * along_k / 8**0.5
        torch.testing.assert_close(edited["blocks.0.attn.hook_attn_scores"], cache["attn_scores", 0] - removed)


@torch.no_grad()
@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_every_hook_point_acts_on_the_logits_when_edited_and_is_gone_afterwards(make_model, positional):
    model = make_model(positional=positional)
    tokens = random_tokens(model)
    plain = model(tokens)
    for name in model.hook_dict:
        switch = model._switched_off(name)
        if switch:
            getattr(model, f"set_{switch}")(True)
        noise = torch.Generator().manual_seed(0)

        def edit(x, hook, noise=noise):
            return x + torch.where(x.isfinite(), torch.randn(x.shape, generator=noise), 0.0)

        changed = (model.run_with_hooks(tokens, fwd_hooks=[(name, edit)]) - plain).abs().max()
        assert changed > 1e-3, name
        if switch:
            getattr(model, f"set_{switch}")(False)
    torch.testing.assert_close(model(tokens), plain, rtol=0, atol=0)


def test_a_wrong_hook_name_is_refused_with_the_nearest(make_model):
    model = make_model()
    tokens = random_tokens(model)
    for call in (
        lambda: model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_patern"),
        lambda: model.run_with_cache(tokens, names_filter=["blocks.0.attn.hook_patern"]),
        lambda: model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_patern", print)]),
        lambda: model.add_hook("blocks.0.attn.hook_patern", print),
    ):
        with pytest.raises(InterpError, match=r"did you mean 'blocks\.0\.attn\.hook_pattern'"):
            call()

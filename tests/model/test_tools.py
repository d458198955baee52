"""TransformerLens' tools, on our class and on its bridge: each runs, and gives what it is defined to give."""

from functools import partial

import pytest
import torch
from transformer_lens import SVDInterpreter, patching
from transformer_lens.head_detector import detect_head
from transformer_lens.tools.analysis import direct_logit_attribution, logit_lens
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

KINDS = {
    "prelu, rope": {"activation": "prelu", "positional": "rope"},
    "gelu, learned": {"activation": "gelu"},
}
CLEAN, CHANGED = torch.tensor([[3, 50, 7, 99, 12, 8]]), 2
CORRUPT = CLEAN.index_fill(1, torch.tensor([CHANGED]), 120)
WANTED, OTHER = 5, 8


def metric(logits):
    return logits[0, -1, WANTED] - logits[0, -1, OTHER]


@pytest.fixture(params=[(kind, bridged) for kind in KINDS for bridged in (False, True)], ids=str)
def model(make_model, request):
    kind, bridged = request.param
    model = make_model(**KINDS[kind])
    return model.to_bridge() if bridged else model


@pytest.fixture
def cache(model):
    with torch.no_grad():
        return model.run_with_cache(CLEAN)[1]


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_patching_the_stream_restores_the_clean_run_where_all_that_differs_passes(model, cache):
    clean, corrupt = metric(model(CLEAN)), metric(model(CORRUPT))
    assert abs(clean - corrupt) > 0.1
    every = patching.get_act_patch_block_every(model, CORRUPT, cache, metric)  # [part, layer, pos]
    near(every[0], patching.get_act_patch_resid_pre(model, CORRUPT, cache, metric))
    near(every[0, 0, CHANGED], clean)  # all that differs before layer 0
    near(every[0, 0, CHANGED + 1 :], corrupt.expand(3))
    near(every[:, :, :CHANGED], corrupt.expand(3, 2, CHANGED))  # causal: nothing differs before


NAMES = {"out": "z", "q": "q", "k": "k", "v": "v", "pattern": "pattern"}


@pytest.mark.parametrize("part", NAMES)
@torch.no_grad()
def test_patching_a_head_is_running_with_its_clean_activation(model, cache, part):
    patched = getattr(patching, f"get_act_patch_attn_head_{part}_all_pos")(model, CORRUPT, cache, metric)

    def put(x, hook, head):
        where = (slice(None), head) if part == "pattern" else (slice(None), slice(None), head)
        x[where] = cache[hook.name][where]
        return x

    for layer in range(2):
        for head in range(3):
            name = f"blocks.{layer}.attn.hook_{NAMES[part]}"
            logits = model.run_with_hooks(CORRUPT, fwd_hooks=[(name, partial(put, head=head))])
            near(patched[layer, head], metric(logits))


@torch.no_grad()
def test_patching_a_direct_path_moves_only_what_a_later_head_reads_of_an_earlier(model, cache):
    _, corrupt = model.run_with_cache(CORRUPT)
    patched = patching.get_act_patch_direct_path(model, CORRUPT, cache, corrupt, metric, 0, 1, component="k")
    model.set_use_split_qkv_input(True)
    change = (cache["z", 0] - corrupt["z", 0])[:, :, 1] @ model.blocks[0].attn.W_O[1]

    def add(x, hook):
        x[:, :, 2] += change
        return x

    near(patched[1, 2], metric(model.run_with_hooks(CORRUPT, fwd_hooks=[("blocks.1.attn.hook_k_input", add)])))
    assert not patched[0].any()  # no path leads from a head to its own layer


@torch.no_grad()
def test_heads_are_detected_by_the_share_of_their_pattern(model):
    text = "fox the fox the fox"
    tokens = model.to_tokens(text)
    _, cache = model.run_with_cache(tokens)
    found = detect_head(model, text, "previous_token_head")
    shares = [
        [cache["pattern", layer][0, head].diagonal(-1).sum() / tokens.shape[1] for head in range(3)] for layer in (0, 1)
    ]
    near(found, torch.tensor(shares))


@torch.no_grad()
def test_the_logit_lens_begins_with_the_embedding_and_ends_with_the_logits(model, cache):
    lens = logit_lens(model, CLEAN, positions=None)
    near(lens.values[-1], model(CLEAN))
    first = model.ln_final(cache["resid_pre", 0]) @ model.W_U
    near(lens.values[0], first)
    near(cache.logit_lens(targets=WANTED).values[-1, 0, 0], model(CLEAN)[0, -1, WANTED])


@pytest.mark.parametrize("unit", ["component", "head"])
@torch.no_grad()
def test_direct_logit_attributions_sum_to_the_difference_of_logits(model, unit):
    expected = metric(model(CLEAN))
    if hasattr(model, "enable_compatibility_mode"):
        model.enable_compatibility_mode()
        constant = model.b_U[WANTED] - model.b_U[OTHER]
    else:
        constant = model.run_with_cache(CLEAN)[1].logit_bias(WANTED, OTHER)
    result = direct_logit_attribution(model, CLEAN, WANTED, OTHER, unit=unit)
    near(result.attribution.sum() + constant, expected)


def test_attribution_patching_is_gradient_times_change(model, cache):
    result = attribution_patch(model, CLEAN, CORRUPT, metric, EdgeAttributionConfig())
    _, corrupt = model.run_with_cache(CORRUPT)
    scores = {(n.kind, n.layer, n.head, n.position): score for n, score in result.node_scores.items()}
    for name, kind, layer, head in (
        ("hook_embed", "embed", None, None),
        ("blocks.1.attn.hook_z", "attn_head_out", 1, 2),
    ):
        leaf = corrupt[name].clone().requires_grad_()
        metric(model.run_with_hooks(CORRUPT, fwd_hooks=[(name, lambda x, hook, leaf=leaf: leaf)])).backward()
        effect = leaf.grad * (cache[name] - corrupt[name])
        effect = effect if head is None else effect[:, :, head]
        for position in range(6):
            near(torch.tensor(scores[kind, layer, head, position]), effect[0, position].sum().detach())


def test_edges_of_attribution_patching_leave_the_switches_as_they_were(model):
    model.set_use_attn_in(True)
    result = attribution_patch(model, CLEAN, CORRUPT, metric, EdgeAttributionConfig(granularity="edge"))
    name = "blocks.1.hook_resid_post"
    clean, corrupt = (model.run_with_cache(tokens)[1][name] for tokens in (CLEAN, CORRUPT))
    leaf = corrupt.clone().requires_grad_()
    metric(model.run_with_hooks(CORRUPT, fwd_hooks=[(name, lambda x, hook: leaf)])).backward()
    expected = float((leaf.grad * (clean - corrupt))[0, 5].sum())
    to_logits = [
        score for (_, reader), score in result.edge_scores.items() if (reader.kind, reader.position) == ("logits", 5)
    ]
    assert len(to_logits) == 1 + 2 * (3 + 1)  # from the embedding, and from the heads and the MLP of each layer
    total = sum(to_logits)
    assert total == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert model.cfg.use_attn_in
    assert not (model.cfg.use_attn_result or model.cfg.use_split_qkv_input or model.cfg.use_hook_mlp_in)


@torch.no_grad()
def test_singular_vectors_are_those_of_the_circuits(model):
    found = SVDInterpreter(model).get_singular_vectors("OV", 1, 3, head_index=2)[:, 0]  # [d_vocab, vector]
    attn = model.blocks[1].attn
    directions = torch.linalg.svd(attn.W_V[2] @ attn.W_O[2])[2][:3]
    near(found.abs(), (directions @ model.W_U).T.abs())
    w_out = torch.linalg.svd(model.blocks[0].mlp.W_out)[2][:2]
    near(SVDInterpreter(model).get_singular_vectors("w_out", 0, 2)[:, 0].abs(), (w_out @ model.W_U).T.abs())

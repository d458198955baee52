"""TransformerLens' surface, name by name: docs/transformerlens.md says what works here, and this test writes it.

`INTERP_WRITE_DOCS=1 pytest tests/model/test_surface.py` writes the page anew; otherwise it must be as it would be written.
"""

import inspect
import os
import re
from pathlib import Path

import pytest
from torch import nn
from transformer_lens.model_bridge import TransformerBridge

from interp.model.activation_cache import ALIASES, ALIASES_OF_MLP
from interp.model.hooking import SWITCHES
from interp.model.transformer import HookedSymmetryBrokenTransformer
from tests.model.cases import LLAMA, QWEN3

PAGE = Path(__file__).parents[2] / "docs" / "transformerlens.md"
INTRODUCTION = """# TransformerLens' names, and what they do here

Every public name of TransformerLens' `TransformerBridge`, and every argument of its `forward` and `generate`, on
`HookedSymmetryBrokenTransformer`. For what is not here, `model.to_bridge()` is the bridge itself, with the same logits.
Hook points have the same names and values, but for three: `hook_normalized` is seen after the norm's weight and shift, as
it was in HookedTransformer; `hook_q`, `hook_v` are without the biases, which `hook_q_biased`, `hook_v_biased` are with; and
those of `q_norm` and `k_norm` have positions before heads, as queries and keys have everywhere else.
With grouped heads `hook_k`, `hook_rot_k`, `hook_v` have the heads of keys and values, as in TransformerLens; the hook points
of the biases have those of the queries, for each of them may be changed alone.
The biases themselves, `hook_bias_q` and `hook_bias_v`, have no batch axis: [head_index, d_head], the same for every row.
A hook may edit its value in place, also while gradients are on.
`tests/model/test_surface.py` writes this page; the tests beside it check what the names do.

"""
HOOK_NAMES = """## Names of hook points

TransformerLens 4 names what goes into a component and what comes out of it. Those names are accepted wherever a hook
point is named (`add_hook`, `hooks`, `run_with_hooks`, `names_filter`, `cache[...]`, `... in cache`), and mean the point on
the right: that is the name that a hook finds in `hook.name` and that `cache.keys()` lists. A function that chooses names is
asked about those on the left only if it takes none of those on the right.

With experts (`--experts`) `blocks.l.mlp` has, in place of `hook_pre` and `hook_post`, the router's `hook_expert_weights`
[batch, pos, expert] and `hook_expert_indices` [batch, pos, choice], and for each expert `experts.e.hook_pre` and
`experts.e.hook_post` [row, d_mlp], whose rows are the tokens given to it in the order of the text. Neurons differ from token to
token, so decompositions take `expand_neurons=False`.

"""
HOOKS_ABSENT = {
    "embed.hook_in": "tokens: edit them before the run",
    "pos_embed.hook_in": "positions: `hook_pos_embed` is what comes of them",
    "blocks.{}.ln1.hook_in": "`hook_resid_pre` has the same value; what only the heads read is `hook_attn_in`",
    "blocks.{}.attn.q.hook_in": "`hook_q_input` is the same before the norm",
    "blocks.{}.attn.k.hook_in": "`hook_k_input` is the same before the norm",
    "blocks.{}.attn.v.hook_in": "`hook_v_input` is the same before the norm",
    **dict.fromkeys(
        ["blocks.{}.mlp.in.hook_in", "blocks.{}.mlp.gate.hook_in"], "with a gate; `hook_mlp_in` is the same before the norm"
    ),
    **{f"blocks.{{}}.attn.{part}_norm.hook_in": f"`hook_{part}`, with positions before heads" for part in "qk"},
    **{
        f"blocks.{{}}.attn.{name}": f"`{part}_norm.hook_normalized`, with positions before heads"
        for part in "qk"
        for name in (f"{part}_norm.hook_out", f"hook_{part}_normed")
    },
    **dict.fromkeys(
        ["hook_pos_embed", *(f"rotary_emb.hook_{name}" for name in ("in", "out", "cos", "sin")),
         "blocks.{}.attn.hook_cos", "blocks.{}.attn.hook_sin"],
        "with RoPE; `hook_rot_q` and `hook_rot_k` are what comes of the positions",
    ),
    "blocks.{}.attn.qkv.hook_in": "the bridge, too, never runs it",
    "blocks.{}.attn.qkv.hook_out": "the bridge, too, never runs it",
    **dict.fromkeys(["unembed.hook_out", "hook_unembed"], "logits: what the run returns"),
}  # fmt: skip
DIFFERS = {
    "accumulated_bias": "the learned b_O and b_out; b_V W_O is `bias_OV`, a component of its own in the cache",
    "add_hook": "a wrong name raises, with the nearest right one",
    "all_composition_scores": "a plain tensor [layer, head, layer, head]",
    "b_Q": "the learned bias; the unlearned one is `biases_in_force()[0]`",
    "b_U": "zeros: there is no unembedding bias",
    "b_V": "the learned bias; the unlearned one is `biases_in_force()[1]`",
    "generate": "with `seed`; a text that would exceed n_ctx is refused instead of cut",
    "hooks": "a wrong name raises, with the nearest right one",
    "run_with_cache": "the cache splits off b_V W_O and applies the weights of norms, so that parts sum to the logits",
    "W_gate": "None without gates",
    "W_K": "with grouped heads repeated for the heads that read them, as in HookedTransformer; views are `attn._W_K`",
    "W_pos": "zeros with RoPE",
    "W_U": "the embeddings, transposed, where they are tied",
    "W_V": "as W_K",
}
ONLY_BRIDGE = "of bridges: around foreign models, or between them"
OTHER_KIND = "of encoder-decoders, hybrids, gated or multimodal models"
ABSENT = {
    **dict.fromkeys(
        ["block_hooks", "block_submodules", "blocks_with", "clear_hook_registry", "close", "composition_layer_indices",
         "get_params", "hf_generate", "hook_aliases", "layer_types", "original_model", "stack_params_for"],
        ONLY_BRIDGE,
    ),
    **dict.fromkeys(
        ["OV_for_attn_layers", "QK_for_attn_layers", "attn_head_labels", "diffusion_generate",
         "encoder_output", "predict_next_sentence", "prepare_multimodal_inputs", "to_sentence_pair_tokens"],
        OTHER_KIND,
    ),
    **dict.fromkeys(
        ["boot_native", "boot_tl_legacy", "boot_transformers", "check_model_support", "list_supported_models"],
        "`from_pretrained` and `interp.load_model`",
    ),
    "enable_compatibility_mode": "weights are not folded: `model.to_bridge().enable_compatibility_mode()`",
    "process_weights": "weights are not folded: `model.to_bridge().enable_compatibility_mode()`",
    "generate_stream": "`generate`, or a loop with `past_kv_cache`",
    "get_hook_point": "`model.hook_dict[name]`",
    "init_weights": "`initialize`",
    "input_to_embed": "`stop_at_layer=0`",
    "mps": "Apple's GPUs have no float64, which the analysis sums in",
    "n_params_total": "`sum(p.numel() for p in model.parameters())`",
    "tl_named_parameters": "`tl_parameters().items()`",
}  # fmt: skip
ARGUMENTS_ABSENT = {
    "labels": "the loss is of the next token; see `tokens`",
    "past_key_values": "`past_kv_cache`",
    "input_values": OTHER_KIND,
    "pixel_values": OTHER_KIND,
    "multimodal_kwargs": OTHER_KIND,
    "kwargs": OTHER_KIND,
    "forced_bos_token_id": OTHER_KIND,
    "device": "of `return_cache`",
    "names_filter": "of `return_cache`",
    "output_logits": "run the model on what was generated",
    "return_cache": "`run_with_cache` on what was generated",
    "return_input_tokens": "`to_tokens`",
    "repetition_penalty": "`freq_penalty`",
    "stop_strings": "`eos_token_id`, which may be a list",
    "stopping_criteria": "`eos_token_id`, which may be a list",
}


def names():
    """The bridge's public names that are not torch's."""
    return sorted({n for n in dir(TransformerBridge) if not n.startswith("_")} - set(dir(nn.Module)), key=str.lower)


def row(name, here, differs, absent):
    if here:
        return f"| `{name}` | {'differs: ' + differs[name] if name in differs else 'works'} |"
    return f"| `{name}` | not here: {absent[name]} |"


def table(title, rows):
    return "\n".join([f"## {title}", "", "| TransformerLens | here |", "| --- | --- |", *rows]) + "\n"


ALL_ALIASES = [
    *((alias, name, "") for alias, name in ALIASES.items()),
    *((alias, name, ", without a gate") for alias, name in ALIASES_OF_MLP[False].items()),
    *((alias, name, ", with a gate") for alias, name in ALIASES_OF_MLP[True].items()),
]


def when(alias, name, note):
    switch = SWITCHES.get(name.rsplit(".", 1)[-1])
    behind = f", behind `set_{switch}(True)`" if switch else ""
    return behind + note if ("{}" in alias) == ("{}" in name) else f"{behind}, l the last layer"


def written(model):
    tables = [table("Methods and properties", [row(name, hasattr(model, name), DIFFERS, ABSENT) for name in names()])]
    for method in ("forward", "generate"):
        ours = inspect.signature(getattr(HookedSymmetryBrokenTransformer, method)).parameters
        theirs = [name for name in inspect.signature(getattr(TransformerBridge, method)).parameters if name != "self"]
        tables.append(
            table(f"Arguments of `{method}`", [row(name, name in ours, {}, ARGUMENTS_ABSENT) for name in theirs])
        )
    renamed = [
        f"| `{alias.format('l')}` | `{name.format('l')}`{when(alias, name, note)} |"
        for alias, name, note in ALL_ALIASES
    ]
    renamed += [f"| `{alias.format('l')}` | not here: {why} |" for alias, why in HOOKS_ABSENT.items()]
    tables.append(HOOK_NAMES + "\n".join(["| TransformerLens | here |", "| --- | --- |", *renamed]) + "\n")
    return INTRODUCTION + "\n".join(tables)


def test_every_name_of_transformer_lens_is_here_or_said_not_to_be(make_model):
    model = make_model()
    lost = [name for name in names() if not hasattr(model, name) and name not in ABSENT]
    here_after_all = [name for name in ABSENT if hasattr(model, name)]
    assert (lost, here_after_all) == ([], [])
    assert set(DIFFERS) | set(ABSENT) <= set(names())


def test_every_hook_point_of_the_bridge_is_here_by_some_name_or_said_not_to_be(make_model):
    absent, unused = set(), set(ALIASES)
    for block in ({}, LLAMA, QWEN3):
        model = make_model(**block)
        theirs = {re.sub(r"^blocks\.\d+", "blocks.{}", name) for name in model.to_bridge().hook_dict}
        ours = {re.sub(r"^blocks\.\d+", "blocks.{}", name) for name in model.hook_dict}
        of_mlp = set(ALIASES_OF_MLP[model.cfg.gated_mlp])
        assert of_mlp <= theirs
        absent |= theirs - ours - set(ALIASES) - of_mlp
        unused -= theirs
    assert absent == set(HOOKS_ABSENT)
    assert not unused


def test_the_page_of_names_is_as_the_code_says(make_model):
    text = written(make_model())
    if os.environ.get("INTERP_WRITE_DOCS"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text, (
        "write it anew: INTERP_WRITE_DOCS=1 pytest tests/model/test_surface.py"
    )


@pytest.mark.parametrize("name", ["return_cache", "stop_strings"])
def test_arguments_that_are_not_here_raise_and_are_not_swallowed(make_model, name):
    with pytest.raises(TypeError, match=name):
        make_model().generate("fox", 1, **{name: None})

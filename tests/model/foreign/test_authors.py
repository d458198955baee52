"""Checkpoints of the authors' release give the logits of a plain transcription of their architecture."""

import pytest
import torch

from interp.errors import InterpError
from interp.model.config import BiasConfig
from interp.model.foreign.formats import read_foreign
from tests.model.foreign.release import Release

QUERY, VALUE, NONE = BiasConfig(0.5, (0.05, 0.15), "batch"), BiasConfig(0.5, 0.05, "batch"), BiasConfig()
VARIANTS = {"symmetric": (NONE, NONE), "bq": (QUERY, NONE), "bv": (NONE, VALUE), "bqbv": (QUERY, VALUE)}
SHAPES = [
    {},
    {"layers": 1, "heads": 1, "width": 8},
    {"layers": 3, "heads": 2, "width": 16, "context": 5, "vocabulary": 40},
]


@pytest.fixture
def saved(tmp_path):
    def save(content, **how):
        torch.save(content, tmp_path / "model.pt", **how)
        return tmp_path / "model.pt"

    return save


@torch.no_grad()
def check_logits(release, path):
    foreign = read_foreign(path)
    tokens = torch.randint(
        release.config["vocab_size"], (release.config["context_length"],), generator=release.generator
    )
    expected = release.logits(tokens)
    found = foreign.model(tokens)[0].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert foreign.format == "the authors' release"
    return foreign


@pytest.mark.parametrize("rope", [False, True], ids=["learned positions", "rope"])
@pytest.mark.parametrize("prelu", [False, True], ids=["gelu", "prelu"])
@pytest.mark.parametrize("kind", VARIANTS)
def test_logits_are_those_of_the_released_architecture(saved, kind, prelu, rope):
    release = Release(seed=1, kind=kind, prelu=prelu, rope=rope)
    model = check_logits(release, saved(release.checkpoint())).model
    assert (model.cfg.q, model.cfg.v) == VARIANTS[kind]
    assert (model.cfg.activation, model.cfg.positional) == (
        "prelu" if prelu else "gelu_exact", "rope" if rope else "learned",
    )  # fmt: skip
    assert not model.training


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_agree_for_several_shapes(saved, shape):
    release = Release(seed=2, kind="bqbv", **shape)
    check_logits(release, saved(release.checkpoint()))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", ["model", "model_state_dict"])
def test_both_keys_both_file_formats_and_compiled_names_are_read(saved, key, legacy):
    release = Release(seed=3)
    content = release.checkpoint(key)
    content[key] = {f"_orig_mod.{name}": value for name, value in release.state.items()}
    check_logits(release, saved(content, _use_new_zipfile_serialization=not legacy))


def test_a_state_dict_alone_tells_its_heads_and_context_by_its_buffers(saved):
    release = Release(seed=4, rope=True)
    model = check_logits(release, saved(release.state)).model
    assert (model.cfg.n_heads, model.cfg.n_ctx, model.cfg.rotary_dim) == (3, 13, 4)


def test_a_config_may_name_a_size_of_the_release(saved):
    release = Release(seed=5, heads=12)
    release.config = {"model": "124m", "n_layer": 2, "n_embd": 24, "context_length": 13, "vocab_size": 31}
    assert check_logits(release, saved(release.checkpoint())).model.cfg.n_heads == 12
    release.config = {"model": "355m"}
    with pytest.raises(
        InterpError, match="n_layer is 24 and the tensors have 2, n_embd is 1024 and the tensors have 24"
    ):
        read_foreign(saved(release.checkpoint()))


@pytest.mark.parametrize(("base", "part", "dimensions"), [(500, 0.25, 2), (10000.0, 1, 8), (77, 0.9, 6)])
def test_the_config_says_how_rope_turns(saved, base, part, dimensions):
    release = Release(seed=6, rope=True)
    release.config |= {"rotary_base": base, "rope_pct": part}
    model = check_logits(release, saved(release.checkpoint())).model
    assert (model.cfg.rotary_base, model.cfg.rotary_dim) == (base, dimensions)


def test_a_key_bias_is_left_out_with_a_note(saved):
    notes = read_foreign(saved(Release(kind="bq").checkpoint())).notes
    assert notes == ["bK is left out: it adds the same to all scores of a query and cancels in the softmax."]
    assert read_foreign(saved(Release(kind="symmetric").checkpoint())).notes == []


def set_layers(release, name, value):
    for layer in range(release.layers):
        release.state[f"transformer.h.{layer}.sa.{name}"] = value.clone()


@pytest.mark.parametrize(
    ("recorded", "drawn_q", "drawn_v", "expected"),
    [
        (True, True, False, VALUE),  # what the file records goes before everything
        (False, True, True, NONE),
        (None, True, True, VALUE),
        (None, True, False, NONE),  # b_Q was drawn and b_V was not: it was not in use
        (None, False, False, VALUE),  # nothing was drawn yet
    ],
)
def test_a_value_bias_counts_only_where_the_model_was_trained_with_it(saved, recorded, drawn_q, drawn_v, expected):
    release = Release(kind="bqbv")
    for name, drawn in (("bQ", drawn_q), ("bV", drawn_v)):
        set_layers(release, name, torch.full((3, 8), 0.1 if drawn else 0.0))
    more = {} if recorded is None else {"symmetry_breaking": {"bQ": True, "bV": recorded}}
    foreign = read_foreign(saved(release.checkpoint(**more)))
    assert foreign.model.cfg.v == expected
    assert any("trained without it" in note for note in foreign.notes) == (expected == NONE)


def test_buffers_of_zeros_are_a_symmetric_model(saved):
    release = Release(kind="bqbv")
    for name in ("mean_Q", "std_Q", "mean_K", "std_K"):
        set_layers(release, name, torch.zeros(8))
    model = read_foreign(saved(release.checkpoint(symmetry_breaking={"bV": False}))).model
    assert (model.cfg.q, model.cfg.v) == (NONE, NONE)


@torch.no_grad()
def test_any_profile_of_the_bias_survives(saved):
    release = Release(kind="bqbv")
    mean, std = torch.randn(8), torch.rand(8)
    set_layers(release, "mean_Q", mean)
    set_layers(release, "std_V", std)
    model = read_foreign(saved(release.checkpoint())).model
    assert torch.equal(model.biases_in_force()[0], mean.expand(2, 3, 8))
    assert torch.equal(model.bias_v.std, std)


WTE, WPE, ATTENTION = "transformer.wte.weight", "transformer.wpe.weight", "transformer.h.1.sa.c_attn.weight"
DAMAGE = {
    "missing key": (lambda r: r.state.pop(ATTENTION), rf"does not fit: missing: {ATTENTION}\."),
    "many missing": (
        lambda r: [r.state.pop(name) for name in list(r.state) if ".bias" in name],
        r"missing: .*sa\.c_attn\.bias.* and 8 more\.",
    ),
    "unknown key": (lambda r: r.state.update(extra=torch.ones(2)), r"unknown: extra\."),
    "wrong shape": (
        lambda r: r.state.update({ATTENTION: torch.ones(24, 72)}),
        r"of another shape: transformer\.h\.1\.sa\.c_attn\.weight is \[24, 72\] of float32, expected \[72, 24\]\.",
    ),
    "integers": (lambda r: r.state.update({ATTENTION: torch.ones(72, 24).long()}), r"is \[72, 24\] of int64, expected"),
    "sparse": (lambda r: r.state.update({ATTENTION: torch.ones(72, 24).to_sparse()}), "without numbers .*sparse"),
    "not finite": (lambda r: r.state[ATTENTION].fill_(torch.nan), rf"not finite: {ATTENTION}\."),
    "untied": (lambda r: r.state.update({"lm_head.weight": torch.ones(31, 24)}), "is not its token embedding"),
    "no embedding": (lambda r: [r.state.pop(n) for n in (WTE, "lm_head.weight")], "has no token embedding"),
    "config of another size": (
        lambda r: r.config.update(n_layer=12, vocab_size=50304, context_length="13"),
        "n_layer is 12 and the tensors have 2, vocab_size is 50304 and the tensors have 31, context_length is '13'",
    ),
    "heads that do not divide": (lambda r: r.config.update(n_head=5), "5 heads do not divide d_model 24"),
    "other heads than the biases": (lambda r: r.config.update(n_head=4), r"another shape than \[6\], d_head: .*\[8\]"),
    "heads no number": (lambda r: r.config.update(n_head="three"), "n_head 'three'; a whole number is expected"),
    "no positions and no rope": (lambda r: (r.state.pop(WPE), r.config.update(rope_pct=0.1)), "rope_pct 0.1; expected"),
    "rope of a word": (lambda r: (r.state.pop(WPE), r.config.update(rotary_base="e")), "rotary_base 'e'"),
    "mean without std": (
        lambda r: [r.state.pop(f"transformer.h.{i}.sa.std_Q") for i in (0, 1)],
        "only one of mean_Q and std_Q",
    ),
    "layers that differ": (
        lambda r: r.state["transformer.h.1.sa.mean_Q"].add_(1),
        "has not the same mean_Q in all layers; one for all is expected",
    ),
    "a layer without": (lambda r: r.state.pop("transformer.h.1.sa.std_Q"), "has not the same std_Q in all layers"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_what_does_not_fit_is_listed(saved, damage, message):
    release = Release()
    damage(release)
    with pytest.raises(InterpError, match=message) as error:
        read_foreign(saved(release.checkpoint()))
    assert "\n" not in str(error.value)


def test_without_config_and_buffers_nothing_says_how_many_heads(saved):
    with pytest.raises(InterpError, match="n_head None; a whole number is expected"):
        read_foreign(saved(Release(kind="symmetric").state))


def test_activation_is_not_asked_where_the_file_says_it(saved):
    with pytest.raises(InterpError, match="says itself which activation it has; leave out --activation gelu"):
        read_foreign(saved(Release().checkpoint()), "gelu")

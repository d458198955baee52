import pytest
import torch

from interp.errors import InterpError
from interp.model.config import SIZES, BiasConfig, ModelConfig, preset
from interp.model.transformer import HookedSymmetryBrokenTransformer

SIZE = {"n_layers": 1, "d_model": 8, "n_heads": 2, "n_ctx": 4, "d_vocab": 10}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3}, "3 heads do not divide d_model 8"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"activation": "gleu"}, "did you mean 'gelu'"),
        ({"positional": "rope", "rotary_dim": 3}, "rotary_dim is 3"),
        ({"q": BiasConfig([0.5, 0.5, 0.5], 0.1, "batch")}, "mean of the q bias has 3 numbers; d_head is 4"),
        ({"n_layers": 4.0}, "n_layers is 4.0; a whole number from 1 to 10,000 is expected"),
        ({"n_ctx": True}, "n_ctx is True; a whole number"),
        ({"d_model": 10**9}, r"has 1.2e\+19 parameters; at most 1e\+12"),
        ({"d_mlp": -1}, "d_mlp is -1; a whole number from 0"),
        ({"eps": "1e-5"}, "eps is '1e-5'; a number from 0 to 1 is expected"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"dropout": 2}, "dropout is 2; a number from 0 to 1"),
        ({"rotary_base": 0}, "rotary_base is 0"),
        ({"init_range": 10**400}, "init_range is 10+\\.\\.\\."),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"q": {"mean": 1}}, "q is .*; a BiasConfig is expected"),
        ({"model_name": None}, "model_name is None; a str is expected"),
        ({"norm": "rmsnorm"}, "norm is 'rmsnorm'; choose one of layer, rms"),
        ({"learned_biases": False}, "learned_biases is False; choose one of all, qkv, none"),
        ({"tied": 1}, "tied is 1; a bool is expected"),
        ({"n_key_value_heads": 3}, "3 key and value heads do not divide 2 heads"),
        ({"n_key_value_heads": 0}, "n_key_value_heads is 0; a whole number from 1"),
        ({"d_head": -1}, "d_head is -1; a whole number from 0"),
    ],
)
def test_contradictions_are_refused(unchecked, changes, message):
    with pytest.raises(InterpError, match=message):
        ModelConfig(**{**SIZE, **changes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "bacth"}, "did you mean 'batch'"),
        ({"std": -1.0, "mode": "batch"}, "negative"),
        ({"mean": 0.5}, "say mode"),
        ({"mean": "abc", "mode": "batch"}, "mean of a bias is 'abc'; a number"),
        ({"mean": 1e308, "mode": "batch"}, r"mean of a bias is 1e\+308; a number from -1e\+06 to 1e\+06"),
        ({"std": [0.1, float("nan")], "mode": "batch"}, "std of a bias is nan"),
        ({"mean": (1.0, 2.0, 3.0), "mode": "batch"}, r"\(start, end\) or d_head numbers"),
        ({"mean": [], "mode": "batch"}, r"\(start, end\) or d_head numbers"),
        ({"shared_across_heads": "no"}, "shared_across_heads is 'no'; a bool"),
    ],
)
def test_impossible_biases_are_refused(unchecked, values, message):
    with pytest.raises(InterpError, match=message):
        BiasConfig(**values)


@pytest.mark.parametrize(
    ("name", "millions"), [("gpt2-124m", 124), ("gpt2-355m", 355), ("gpt2-774m", 774), ("gpt2-1.3b", 1557)]
)
def test_presets_have_the_parameters_of_their_names(name, millions):
    with torch.device("meta"):
        config = preset(name, activation="gelu")
    n_layers, _, d_model, n_ctx, d_vocab = SIZES[name]
    per_layer = 12 * d_model**2 + 13 * d_model  # attention 4 d^2 + 4 d, MLP 8 d^2 + 5 d, two norms 4 d
    count = d_vocab * d_model + n_ctx * d_model + n_layers * per_layer + 2 * d_model
    assert count == pytest.approx(millions * 1e6, rel=0.005)
    assert config.d_head == 64


def test_llamas_presets_have_its_block_and_their_number_of_parameters():
    with torch.device("meta"):
        config = preset("llama-124m", "bqbv")
        model = HookedSymmetryBrokenTransformer(config)
    assert (config.norm, config.activation, config.positional, config.learned_biases) == (
        "rms",
        "swiglu",
        "rope",
        "none",
    )
    assert (config.d_head, config.rotary_dim, config.n_key_value_heads, config.tied) == (64, 64, 4, True)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(124e6, rel=0.01)
    assert config.normalization_type == "RMS" and config.act_fn == "silu" and config.gated_mlp
    mini = preset("llama-mini", d_head=48, n_key_value_heads=4)
    assert (mini.rotary_dim, mini.n_key_value_heads, mini.d_mlp) == (48, None, 344)


@pytest.mark.parametrize(
    "changes",
    [{"n_heads": 4, "n_key_value_heads": 2, "d_head": 6}, {"activation": "swiglu", "tied": False}, {"qk_norm": True}],
    ids=str,
)
def test_matrices_are_counted(changes):
    config = ModelConfig(**{**SIZE, **changes})
    model = HookedSymmetryBrokenTransformer(config)
    assert config.n_parameters == sum(p.numel() for p in model.parameters() if p.ndim == 2)


def test_an_older_config_is_read_as_gpt2s_block_and_its_weights_are_the_same():
    config = ModelConfig(**SIZE)
    new = ("d_head", "n_key_value_heads", "norm", "qk_norm", "tied", "learned_biases")
    older = {name: value for name, value in config.to_dict().items() if name not in new}
    assert ModelConfig.from_dict(older) == config
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert not {"d_head", "norm"} & older.keys()
    names = list(HookedSymmetryBrokenTransformer(config).state_dict())
    assert names[:4] == ["embed.weight", "pos_embed.weight", "blocks.0.ln1.w", "blocks.0.ln1.b"]
    assert names[-2:] == ["ln_final.w", "ln_final.b"]


def test_a_built_model_has_the_counted_parameters():
    config = preset("tiny", "bqbv", activation="gelu")
    model = HookedSymmetryBrokenTransformer(config)
    per_layer = 12 * 192**2 + 13 * 192
    assert sum(p.numel() for p in model.parameters()) == (4096 + 128) * 192 + 4 * per_layer + 2 * 192


def test_unknown_presets_and_variants_name_the_nearest():
    with pytest.raises(InterpError, match="did you mean 'gpt2-124m'"):
        preset("gpt2-124")
    with pytest.raises(InterpError, match="did you mean 'bqbv'"):
        preset("tiny", "bqvb")


def test_a_model_larger_than_the_machine_is_refused_before_memory_is_taken():
    config = ModelConfig(**{**SIZE, "d_model": 1024, "n_ctx": 2**29})
    with pytest.raises(InterpError, match=r"needs 2,199 GB, this machine has .*; choose a smaller one"):
        HookedSymmetryBrokenTransformer(config)

"""Which rotations of head vectors leave a model with grouped heads as it is: tried one by one, and named."""

import math

import pytest
import torch

from interp.model.config import BiasConfig
from tests.model.cases import LLAMA, QWEN3, random_tokens

SYMMETRIC = {"q": BiasConfig(), "v": BiasConfig()}
GROUPED = {**LLAMA, "learned_biases": "all", "positional": "learned"}  # heads 0, 1 read group 0; 2, 3 group 1
GROUPS = [0, 0, 1, 1]


def turn(model, part, heads, rotation):
    """Turn queries (0), keys (1) or values (2) of some heads, of keys and values by their group, with their biases."""
    for weights in model.blocks[1].attn.heads_in(part):
        for head in heads:
            weights[head] = weights[head] @ rotation


def turn_outputs(model, heads, rotation):
    for head in heads:
        model.blocks[1].attn.W_O[head] = rotation.T @ model.blocks[1].attn.W_O[head]


ROTATIONS = {
    "queries and keys of a group": lambda m, r: (turn(m, 0, [2, 3], r), turn(m, 1, [1], r)),
    "values and outputs of a group": lambda m, r: (turn(m, 2, [1], r), turn_outputs(m, [2, 3], r)),
    "queries of a group": lambda m, r: turn(m, 0, [2, 3], r),
    "keys of a group": lambda m, r: turn(m, 1, [1], r),
    "keys of a group and the queries of one of its heads": lambda m, r: (turn(m, 0, [2], r), turn(m, 1, [1], r)),
    "keys of a group and the queries of another": lambda m, r: (turn(m, 0, [0, 1], r), turn(m, 1, [1], r)),
    "values of a group": lambda m, r: turn(m, 2, [1], r),
    "values of a group and the output of one of its heads": lambda m, r: (turn(m, 2, [1], r), turn_outputs(m, [3], r)),
    "values of a group and the outputs of another": lambda m, r: (turn(m, 2, [1], r), turn_outputs(m, [0, 1], r)),
    "queries and values of a group": lambda m, r: (turn(m, 0, [2, 3], r), turn(m, 2, [1], r)),
}
KEYS, VALUES = list(ROTATIONS)[:2]


def plane(i, j, angle=0.9):
    """The rotation of a head's dimensions i and j."""
    rotation = torch.eye(8, dtype=torch.float64)
    rotation[i, i] = rotation[j, j] = math.cos(angle)
    rotation[i, j], rotation[j, i] = math.sin(angle), -math.sin(angle)
    return rotation


WHOLE = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
PAIR, ACROSS = plane(1, 5), plane(1, 2)  # of RoPE's pairs (m, m + 4)
CASES = {
    "learned positions": (GROUPED, WHOLE, {KEYS, VALUES}),
    "b_Q": ({**GROUPED, "q": BiasConfig(0.5, 0.1, "batch")}, WHOLE, {VALUES}),
    "b_Q of each head": ({**GROUPED, "q": BiasConfig(0.5, 0.3, "fixed", shared_across_heads=False)}, WHOLE, {VALUES}),
    "b_V": ({**GROUPED, "v": BiasConfig(0.5, 0.1, "batch")}, WHOLE, {KEYS}),
    "RoPE": (LLAMA, WHOLE, {VALUES}),
    "RoPE, in the plane of a pair": (LLAMA, PAIR, {KEYS, VALUES}),
    "RoPE, across pairs": (LLAMA, ACROSS, {VALUES}),
    "a norm of queries and keys": ({**GROUPED, "qk_norm": True}, WHOLE, {VALUES}),
    "a norm of queries and keys, in a plane": ({**QWEN3, "n_key_value_heads": 2}, PAIR, {VALUES}),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_rotations_that_change_nothing_are_those_of_whole_groups(make_model, name):
    changes, rotation, expected = CASES[name]
    model = make_model(**{**SYMMETRIC, **changes}).double()
    tokens, state = random_tokens(model), {key: value.clone() for key, value in model.state_dict().items()}
    plain, differences = model(tokens), {}
    for rotated, act in ROTATIONS.items():
        act(model, rotation)
        differences[rotated] = float((model(tokens) - plain).abs().max())
        model.load_state_dict(state)
    assert {rotated for rotated, difference in differences.items() if difference < 1e-9} == expected
    assert all(difference > 1e-4 for rotated, difference in differences.items() if rotated not in expected), differences


@torch.no_grad()
def test_grouped_heads_are_whole_heads_that_have_the_same_keys_and_values(make_model):
    grouped = make_model(**{**LLAMA, "learned_biases": "all"})
    whole = make_model(**{**LLAMA, "learned_biases": "all", "n_key_value_heads": None})
    state = {name: value for name, value in grouped.state_dict().items() if "qkv" not in name}
    whole.load_state_dict(state, strict=False)
    for ours, theirs in zip(whole.blocks, grouped.blocks, strict=True):
        for name in ("W_Q", "W_K", "W_V", "b_Q", "b_K", "b_V"):
            getattr(ours.attn, name).copy_(getattr(theirs.attn, name))
    tokens = random_tokens(grouped)
    torch.testing.assert_close(grouped(tokens), whole(tokens), rtol=1e-5, atol=1e-5)
    for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
        torch.testing.assert_close(getattr(grouped, name), getattr(whole, name))
    for name in ("QK", "OV"):
        torch.testing.assert_close(getattr(grouped, name).AB, getattr(whole, name).AB)
    torch.testing.assert_close(grouped.bias_OV, whole.bias_OV)
    assert torch.equal(grouped.blocks[1].attn._W_K[GROUPS], grouped.W_K[1])

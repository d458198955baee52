"""What two runs must have in common to be the same run, and the command that starts one to be stopped."""

import sys

import torch

from interp.train import checkpoints

TIMES = ("seconds", "tokens_per_second", "utilization")


def final(folder):
    """Everything of the last state that training could have made different."""
    saved = torch.load(checkpoints.saved_states(folder)[-1] / checkpoints.STATE, weights_only=True)
    evaluations = [{k: v for k, v in row.items() if k not in TIMES} for row in saved["reached"]["evaluations"]]
    return {key: saved[key] for key in ("model", "optimizer", "random")}, evaluations, saved["reached"]["best"]


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    else:
        assert a == b


def same_run(a, b, curve):
    """Weights, optimizer, random numbers, best weights and curve are equal."""
    assert_same(final(a), final(b))
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    rows = [[{k: v for k, v in row.items() if k not in TIMES} for row in curve(folder)] for folder in (a, b)]
    assert rows[0] == rows[1]


def command(corpus, output, *more):
    words = (
        f"--corpus {corpus} --preset mini --experts 3 --steps 60 --batch-size 4 --context 16 --dropout 0.1 --lr 0.003"
    )
    words += f" --evaluate-every 6 --save-every 6 --optimizer ecd --clip 1 -o {output}"
    return [sys.executable, "-m", "interp.train", *words.split(), *more]


def begun(output, before):
    states = checkpoints.saved_states(output)
    return bool(states) and states[-1].name != before

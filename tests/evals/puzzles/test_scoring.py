"""Scores against what is known: a model that knows every answer, one that knows nothing, one forward pass at a time."""

import json
import math
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from interp.errors import InterpError
from interp.evals.continuations import Continuation, score_continuations
from interp.evals.puzzles import SETS, Item, evaluate, generate
from interp.evals.puzzles.scoring import grouped_mean, mean, median, share
from interp.model.config import BiasConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer

ITEMS = generate(seed=3, n_items=8)
SHARES = ("top1", "top5", "exact")


class Oracle(HookedSymmetryBrokenTransformer):
    """After the beginning of a right text it is sure of the next token."""

    right: ClassVar = {}

    def forward(self, tokens, *args, **kwargs):
        logits = torch.zeros(*tokens.shape, self.cfg.d_vocab)
        for row, own in enumerate(tokens.tolist()):
            for end in range(len(own)):
                following = self.right.get(tuple(own[: end + 1]))
                if following is not None:
                    logits[row, end, following] = 100.0
        return logits


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(n_ctx=300)


@pytest.fixture(scope="module")
def oracle(model):
    oracle = Oracle(model.cfg, model.tokenizer).eval()
    oracle.right = {}
    for item in ITEMS:
        start = [model.tokenizer.bos_token_id, *model.tokenizer.encode(item.prompt)]
        whole = start + model.tokenizer.encode(item.continuations[0])
        oracle.right.update({tuple(whole[:end]): whole[end] for end in range(len(start), len(whole))})
    return oracle


@pytest.fixture(scope="module")
def uniform(make_model):
    uniform = make_model(n_ctx=300)
    with torch.no_grad():
        uniform.embed.weight.zero_()  # tied: every logit is 0
    return uniform


def test_an_oracle_gets_everything_right_in_every_family_and_metric(oracle):
    families = evaluate(oracle, ITEMS).families
    completions, comparisons = (families[families["kind"] == kind] for kind in ("completion", "comparison"))
    assert set(families["family"]) == set(SETS["basic"]) and len(comparisons) == 2
    for name in SHARES:
        assert (completions[name] == 1).all() and (completions[f"{name}_high"] == 1).all()
    assert (completions["rank"] == 1).all()
    assert (completions[["first_token_loss", "completion_loss"]] < 1e-9).all(axis=None)
    assert (comparisons["accuracy"] == 1).all() and (comparisons["ratio"] > 1e6).all()


def test_a_uniform_model_scores_chance_in_every_family_and_metric(uniform):
    families = evaluate(uniform, ITEMS).families
    metrics = {
        "completion": (*SHARES, "rank", "first_token_loss", "completion_loss"),
        "comparison": ("accuracy", "ratio"),
    }
    for kind, names in metrics.items():
        own = families[families["kind"] == kind]
        for name in names:
            np.testing.assert_allclose(own[name], own[f"{name}_chance"], rtol=1e-6)
    first, d_vocab = families.iloc[0], uniform.cfg.d_vocab
    assert first["top1_chance"] == 1 / d_vocab and first["top5_chance"] == 5 / d_vocab
    assert first["rank_chance"] == (d_vocab + 1) / 2 and first["completion_loss_chance"] == math.log(d_vocab)


@pytest.mark.slow
def test_the_scores_of_an_item_are_those_of_one_forward_pass_a_token(model):
    result = evaluate(model, ITEMS)
    for item, row in zip(ITEMS, result.items.to_dict("records"), strict=True):
        start = model.to_tokens(item.prompt)[0].tolist()
        losses, ranks = [], []
        for text in item.continuations:
            whole = start + model.tokenizer.encode(text)
            found = [model(torch.tensor([whole[:end]]))[0, -1].double() for end in range(len(start), len(whole))]
            losses.append([-f.log_softmax(-1)[t].item() for f, t in zip(found, whole[len(start) :], strict=True)])
            ranks.append([1 + int((f > f[t]).sum()) for f, t in zip(found, whole[len(start) :], strict=True)])
        if item.compare:
            assert row["log_ratio"] == pytest.approx(np.mean(losses[1]) - np.mean(losses[0]), abs=1e-4)
            assert row["accuracy"] == (np.mean(losses[1]) > np.mean(losses[0]))
        else:
            assert row["first_token_loss"] == pytest.approx(losses[0][0], abs=1e-4)
            assert row["completion_loss"] == pytest.approx(np.mean(losses[0]), abs=1e-4)
            assert (row["rank"], row["top1"], row["top5"]) == (ranks[0][0], ranks[0][0] == 1, ranks[0][0] <= 5)
            assert row["exact"] == (max(ranks[0]) == 1)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7])
def test_scores_do_not_depend_on_the_batch_size(model, batch_size):
    expected, found = evaluate(model, ITEMS).items, evaluate(model, ITEMS, batch_size=batch_size).items
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-4)


def test_the_families_of_a_result_summarize_its_items(model):
    result = evaluate(model, n_items=12, seed=5)
    assert len(result.items) == 12 * len(SETS["basic"]) and (result.families["n"] == 12).all()
    for row in result.families.to_dict("records"):
        own = result.items[result.items["family"] == row["family"]]
        assert own["number"].tolist() == list(range(1, 13))
        if row["kind"] == "completion":
            expected = stats.binomtest(int(own["top5"].sum()), 12).proportion_ci(method="wilson")
            assert (row["top5_low"], row["top5_high"]) == pytest.approx((expected.low, expected.high))
            assert row["constant"] == own["first_token"].value_counts().max() / 12
        else:
            assert row["ratio"] == pytest.approx(math.exp(own["log_ratio"].mean()))
            assert np.isnan(row["top1"]) and np.isnan(row["constant"])


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 40), (1, 1)])
def test_the_interval_of_a_share_is_wilsons(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = share(np.r_[np.ones(hits), np.zeros(n - hits)])
    np.testing.assert_allclose(found, (hits / n, expected.low, expected.high), atol=1e-12)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    draws = [random.exponential(size=60) for _ in range(600)]
    for summary, truth in ((mean, 1.0), (median, math.log(2)), (lambda x: share((x > 2) * 1.0), math.exp(-2))):
        held = [low <= truth <= high for _, low, high in map(summary, draws)]
        assert 0.91 <= np.mean(held) <= 0.985


def test_a_liking_for_one_word_cancels_within_groups_and_adds_nothing_to_the_interval_of_the_ratio():
    random = np.random.default_rng(1)
    groups, liking = np.repeat(np.arange(40.0), 2), np.tile([3.0, -3.0], 40)
    effect = 0.5 + 0.1 * random.normal(size=40)
    found = grouped_mean(liking + np.repeat(effect, 2), groups)
    np.testing.assert_allclose(found, mean(effect))


def test_one_value_has_a_mean_and_a_median_but_no_interval():
    for summary in (mean, median):
        value, low, high = summary(np.array([2.0]))
        assert value == 2.0 and np.isnan(low) and np.isnan(high)


def test_the_mean_bias_is_in_force_in_training_mode_too_and_the_mode_is_restored(make_model):
    model = make_model(n_ctx=300)
    expected = evaluate(model, ITEMS[:5]).items
    model.draw_biases(3)
    found = evaluate(model.train(), ITEMS[:5])
    assert model.training and found.run["mean_bias"]
    pd.testing.assert_frame_equal(found.items, expected)


@pytest.mark.parametrize("change", [{"scale": 0.5}, {"bias": "none"}, {"bias": "sample"}, {"heads": [1], "scale": 0.0}])
def test_other_biases_than_the_mean_are_warned_of(make_model, change):
    model = make_model(n_ctx=300)
    with model.bias(**change), pytest.warns(UserWarning, match="not their means"):
        result = evaluate(model, ITEMS[:2])
    assert not result.run["mean_bias"] and result.run["warnings"]
    assert evaluate(model, ITEMS[:2]).run["warnings"] == []


def test_a_symmetric_model_has_no_biases_to_be_warned_of(make_model):
    model = make_model(n_ctx=300, q=BiasConfig(), v=BiasConfig())
    with model.bias(bias="none"):
        assert evaluate(model, ITEMS[:2]).run["mean_bias"]


def test_bad_input_is_refused_in_one_sentence(make_model):
    model = make_model(n_ctx=20)
    with pytest.raises(InterpError, match="no items to evaluate"):
        evaluate(model, [])
    with pytest.raises(InterpError, match=r"family 'long' needs 26 positions.* n_ctx 20"):
        evaluate(model, [Item("long", "a" * 25, "b")])
    with pytest.raises(InterpError, match="Continuation 2 has no token to score"):
        score_continuations(model, [Continuation([1], [2]), Continuation([1], [])])
    for changes, message in (
        ({}, "either"), ({"expected": " a", "compare": (" a", " b")}, "either"), ({"expected": ""}, "empty"),
        ({"compare": (" a", " a")}, "the same"), ({"prompt": "", "expected": " a"}, "prompt of an item"),
    ):  # fmt: skip
        with pytest.raises(InterpError, match=message):
            Item(**{"family": "f", "prompt": "p", **changes})
    with torch.no_grad():
        model.embed.weight[3] = torch.nan
    with pytest.raises(InterpError, match="not finite"):
        evaluate(model, [Item("f", "The", " fox")])


def test_an_item_may_be_as_long_as_the_context_and_no_longer(make_model):
    model = make_model(n_ctx=20)
    fox = model.tokenizer.encode(" fox")
    prompt = " fox" * (20 // len(fox) - 1)
    longest = len(model.tokenizer.encode(prompt)) + len(fox)
    assert longest <= 20
    assert json.loads(evaluate(model, [Item("f", prompt, " fox")]).items.to_json(orient="records"))[0][
        "n_tokens"
    ] == len(fox)

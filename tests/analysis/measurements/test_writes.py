"""What heads look for and write, from the weights alone, against the formula token by token in float64."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.analysis.measurements.static_alignment import WRITES, writes_table
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.model.cases import QWEN3


def counted(model, counts):
    """A table `tokens` with these counts of the first tokens."""
    index = np.arange(len(counts))
    return pd.DataFrame({"layer": 0, "head": 0, "token_index": index, "count": counts})


def by_hand(model, layer, head, pool, k):
    """{of: {token: value}} with explicit loops; keys and values as `test_static_alignment` and the circuits have them."""
    model = model.double()
    weights = {name: getattr(model, name).detach().numpy() for name in ("W_E", "W_U", "W_V", "W_O", "key_maps")}
    bias_q, bias_v = (each[layer, head].detach().numpy() for each in model.mean_biases())

    def logits(vector):
        final = vector - vector.mean() if model.cfg.normalization_type == "LN" else vector
        final = final * model.ln_final.w.detach().numpy()
        every = np.array([final @ weights["W_U"][:, token] for token in range(model.cfg.d_vocab)])
        return {token: every[token] - every.mean() for token in pool}

    cosines = {}
    for token in pool:
        key = weights["W_E"][token] @ weights["key_maps"][layer, head]
        cosines[token] = key @ bias_q / np.linalg.norm(key) / np.linalg.norm(bias_q)
    sought = sorted(pool, key=lambda token: -cosines[token])[:k]
    seen = weights["W_E"][sought].mean(0) - weights["W_E"][pool].mean(0)
    seen = (seen - seen.mean() if model.cfg.normalization_type == "LN" else seen) * model.blocks[
        layer
    ].ln1.w.detach().numpy()
    model.float()
    return {
        "b_Q": cosines,
        "OV": logits(seen @ weights["W_V"][layer, head] @ weights["W_O"][layer, head]),
        "b_V": logits(bias_v @ weights["W_O"][layer, head]),
    }


@pytest.mark.parametrize("changes", [{}, {"n_layers": 1, "n_heads": 4, "d_model": 16}, QWEN3], ids=str)
def test_lists_are_the_ends_of_the_formula_over_frequent_tokens(make_model, changes):
    model = make_model(**changes)
    counts = np.random.default_rng(0).integers(0, 30, size=80)
    pool = np.flatnonzero(counts >= 10)
    table = writes_table(model, counted(model, counts), k=5)
    assert list(table) == list(WRITES)
    for layer, head in ((0, 1), (model.cfg.n_layers - 1, model.cfg.n_heads - 1)):
        for of, expected in by_hand(model, layer, head, pool, 5).items():
            rows = table[(table["layer"] == layer) & (table["head"] == head) & (table["of"] == of)]
            ranked = sorted(expected, key=lambda token: expected[token])
            for end, tokens in (("top", ranked[::-1][:5]), ("bottom", ranked[:5])):
                own = rows[rows["end"] == end]
                assert own["token_index"].tolist() == tokens
                assert own["rank"].tolist() == list(range(5))
                np.testing.assert_allclose(own["value"], [expected[token] for token in tokens], atol=1e-5, rtol=1e-4)
                assert own["count"].tolist() == counts[tokens].tolist()


def test_a_head_that_copies_writes_the_very_tokens_that_it_looks_for(make_model):
    """With W_V W_O = 1, orthogonal embeddings and W_U = W_E^T, attending to a token raises it."""
    model = make_model(n_heads=1, n_layers=1, d_model=48, d_vocab=300)
    with torch.no_grad():
        model.embed.weight[:40].copy_(torch.eye(48)[:40])
        for name, parameter in model.named_parameters():
            if name.endswith(("ln1.w", "ln_final.w")):
                parameter.fill_(1.0)
    model.__class__ = type("Copying", (type(model),), {
        "W_V": property(lambda self: torch.eye(48)[None, None]), "W_O": property(lambda self: torch.eye(48)[None, None]),
        "W_U": property(lambda self: self.W_E.T),
        "bias_OV": property(lambda self: torch.zeros(1, 1, 48)),
    })  # fmt: skip
    table = writes_table(model, counted(model, np.full(40, 20)), k=6)
    sought, written = (set(table.query("of == @of and end == 'top'")["token_index"]) for of in ("b_Q", "OV"))
    assert sought == written
    assert "b_V" not in set(table["of"])


def test_heads_without_biases_and_corpora_of_rare_tokens_have_no_lists(make_model):
    tokens = counted(None, np.full(40, 20))
    assert writes_table(make_model(q=BiasConfig(), v=BiasConfig()), tokens).empty
    assert set(writes_table(make_model(q=BiasConfig()), tokens)["of"]) == {"b_V"}
    assert set(writes_table(make_model(v=BiasConfig()), tokens)["of"]) == {"b_Q", "OV"}
    rare = writes_table(make_model(), counted(None, np.full(40, 9)))
    assert rare.empty and list(rare) == list(WRITES)
    few = writes_table(make_model(), counted(None, np.array([20] * 7 + [1] * 9)))
    assert few["rank"].max() == 2


def test_every_run_of_a_model_of_ours_has_the_table_and_a_result_makes_it_again(make_model):
    texts = ["The quick brown fox doesn't jump over 13 lazy dogs; it sleeps. "] * 12
    model = make_model()
    asked = {"schemes": "surface", "pipeline": "blank:en", "nulls": 0, "shifts": 0, "replicates": 2, "workers": 0}
    result = interp.amplification(model, texts, **asked)
    pd.testing.assert_frame_equal(result.tables["writes"], result.writes(model))
    assert (result.tables["writes"]["count"] >= 10).all()
    along = interp.amplification(make_model(q=BiasConfig()), texts, direction=model, **asked)
    assert set(along.tables["writes"]["of"]) == {"b_Q", "OV", "b_V"}
    with pytest.raises(InterpError, match="give it as direction="):
        along.writes(model)

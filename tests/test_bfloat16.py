"""Every analysis of a bfloat16 copy of a model runs, and finds about what it finds of the model itself."""

from copy import deepcopy

import numpy as np
import pytest
import torch

import interp
from interp.analysis.settings import Settings
from interp.api import Text
from interp.errors import InterpError
from interp.evals.held_out import held_out_loss
from interp.evals.puzzles.scoring import evaluate
from tests.conftest import TEXT

TEXTS = [TEXT[:90], TEXT[90:], TEXT[40:150]]
SCHEMES = ("surface",)


@pytest.fixture(scope="module")
def models(make_model):
    model = make_model(n_ctx=220)
    return model, deepcopy(model).to(torch.bfloat16)


@pytest.fixture(scope="module")
def results(models):
    return [interp.amplification(model, TEXTS, SCHEMES, nulls=20, workers=0) for model in models]


def check(tables, *columns):
    """Compare columns of two tables, up to a tenth of what is largest in them."""
    for name in columns:
        exact, rough = (table[name].to_numpy(float) for table in tables)
        assert len(exact) == len(rough) > 0 and np.array_equal(np.isnan(exact), np.isnan(rough)), name
        np.testing.assert_allclose(exact, rough, rtol=0, atol=0.1 * float(np.nanmax(np.abs(exact))), err_msg=name)


def test_amplification_static_alignment_and_values(models, results):
    check([result.heads for result in results], "share", "log2_amplification", "bias_score_mean")
    static = [result.static(model) for model, result in zip(models, results, strict=True)]
    check([tables["static_positions"] for tables in static], "static_alignment")
    texts = [Text.opened(model.need_tokenizer(), TEXTS, Settings(schemes=SCHEMES)) for model in models]
    values = [
        result.values(model, text.documents(0), text.schemes)
        for model, result, text in zip(models, results, texts, strict=True)
    ]
    check([tables["value_components"] for tables in values], "component_mean", "bias_norm")


def test_a_run_says_how_far_half_precision_takes_amplification_from_float32():
    little = {"nulls": 0, "shifts": 0, "fit_tokens": 0, "passages": 0, "replicates": 0, "workers": 0}
    texts = [TEXT * 5, TEXT[::-1] * 3, TEXT * 4]  # less than is held against float32, so all of it is
    rough, exact = (interp.amplification("tiny-bq", texts, SCHEMES, dtype=of, **little) for of in ("bfloat16", None))
    told, n = rough.run["rounding"], rough.heads["n_tokens"]
    errors = (rough.heads["log2_amplification"] - exact.heads["log2_amplification"])[n >= 100].dropna()
    assert told["against"] == "the checkpoint in float32" and told["tokens"] == rough.run["n_tokens"] > 500
    assert told["pairs"] == len(errors) > 20
    assert told["max_error"] == pytest.approx(errors.abs().max(), abs=1e-5)
    assert told["rms_error"] == pytest.approx(np.sqrt(np.square(errors).mean()), abs=1e-5)
    assert 1e-5 < told["rms_error"] < 0.02  # the budget of A
    assert rough.run["dtype"] == "bfloat16" and any("Read in bfloat16: on" in word for word in rough.run["warnings"])
    assert exact.run["dtype"] == "float32" and "rounding" not in exact.run


def test_a_model_in_memory_is_read_as_it_is_and_held_against_its_own_weights(models, results):
    told = results[1].run["rounding"]
    assert results[1].run["dtype"] == "bfloat16" and told["against"].startswith("the same weights")
    assert models[1].cfg.dtype == torch.bfloat16
    with pytest.raises(InterpError, match="cast it"):
        interp.amplification(models[0], TEXTS, SCHEMES, dtype="bfloat16", workers=0)


def test_effective_direction_and_another_models(models):
    for direction in ("effective", models[0]):
        results = [interp.amplification(m, TEXTS, SCHEMES, direction=direction, nulls=0, workers=0) for m in models]
        check([result.heads for result in results], "share", "log2_amplification")


def test_comparison(models, results):
    own, others = interp.compare(results[1], results[1]), interp.compare(results[0], results[1])
    assert own.heads.shape == others.heads.shape and own.classes.shape == others.classes.shape


@pytest.mark.slow
def test_interventions_and_uses(models):
    asked = {"workers": 0, "replicates": 5, "where": "all,L1,L0H1", "scales": (0, 2), "part": "qv"}
    check([interp.interventions(m, TEXTS, SCHEMES, **asked).loss for m in models], "loss", "loss_unchanged")
    for model in models:
        interp.uses(model, TEXTS, SCHEMES, workers=0, replicates=5, controls=2)


def test_a_sentence_read_and_explored(models):
    readings = [interp.read_sentence(model, TEXTS[0], SCHEMES) for model in models]
    check([reading.tokens for reading in readings], "loss", "loss_unchanged")
    check([reading.scores for reading in readings], "bias_score", "attention")
    interp.explore(models[1], text=TEXTS[0], schemes=SCHEMES)


def test_evaluations(models, results):
    check([evaluate(model, n_items=3).families for model in models], "first_token_loss")
    texts = [Text.opened(model.need_tokenizer(), TEXTS, Settings(schemes=SCHEMES)) for model in models]
    losses = [held_out_loss(model, text.corpus, ()).overall for model, text in zip(models, texts, strict=True)]
    check(losses, "loss")

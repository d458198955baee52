import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.direction import random_directions
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.reference import auroc, contrast, null_rows, observe, rows_of

LENGTHS = [33, 7, 50, 21, 64]


@pytest.mark.parametrize("changes", [{"seed": 1}, {"seed": 2, "positional": "rope", "n_layers": 1}], ids=str)
def test_statistics_along_random_directions_equal_a_slow_reference(make_model, make_documents, make_scheme, changes):
    model, scheme = make_model(**changes), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [13, 5, 8, 12])
    result = measure(model, documents, [scheme], Settings(nulls=5, seed=5, batch_size=3))
    directions = random_directions(model.biases_in_force()[0], 5, 5)
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    flat, layer, head = np.concatenate(labels), model.cfg.n_layers - 1, 1
    found = {"contrast": [], "alignment": [], "auroc": []}  # [direction][class]
    bias, reference = torch.zeros_like(model.biases_in_force()[0]), model.double()
    for u in directions[layer, head]:
        bias[layer, head] = u
        seen = observe(reference, rows, layer, head, bias=bias)
        scores, cosines = (np.concatenate([s[place] for s in seen]) for place in (2, 3))
        found["contrast"].append([contrast(scores, flat, c) for c in range(3)])
        found["alignment"].append([cosines[flat == c].mean() for c in range(3)])
        found["auroc"].append([auroc(scores[flat == c], scores[flat != c]) for c in range(3)])
    model.float()
    for statistic in ("contrast", "alignment"):
        table = null_rows(result, "direction", statistic, layer, head)
        further = (np.abs(found[statistic]) >= np.abs(table["value"].to_numpy())).sum(0)
        np.testing.assert_allclose(table["p_rank"], (1 + further) / 6)
    spread = np.sqrt(np.square(np.array(found["auroc"]) - 0.5).mean(0))
    np.testing.assert_allclose(null_rows(result, "direction", "auroc", layer, head)["null_sd"], spread, atol=0.01)


def test_exact_nulls_equal_those_of_very_many_random_directions(make_model, make_documents, make_scheme):
    model, scheme = make_model(n_layers=1), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    result = measure(model, documents, [scheme], Settings(nulls=4000, seed=1, passages=0))
    for statistic in ("contrast", "alignment"):
        table = null_rows(result, "direction", statistic)
        noise = 4 * np.sqrt(table["p"] * (1 - table["p"]) / 4000) + 1 / 4000
        assert (np.abs(table["p"] - table["p_rank"]) < noise).all()
        assert (table["null_mean"] == 0).all() and (table["draws"] == 0).all()
    table = null_rows(result, "direction", "auroc")
    assert (np.abs(table["p"] - table["p_rank"]) < 0.1).all()  # its shape is taken for normal


def test_the_mean_contrast_of_a_class_is_its_mean_key_along_the_bias(make_model, make_documents, make_scheme):
    """p depends on the value by its cosine alone: value / null_sd = cosine * sqrt(d_head)."""
    model, scheme = make_model(), make_scheme("s", 4)
    result = measure(model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), [scheme])
    for statistic in ("contrast", "alignment"):
        table = null_rows(result, "direction", statistic)
        cosine = table["value"] / table["null_sd"] / model.cfg.d_head**0.5
        assert cosine.abs().max() <= 1
        draws = np.random.default_rng(0).standard_normal((200_000, model.cfg.d_head))
        draws = np.abs(draws[:, 0] / np.linalg.norm(draws, axis=1))
        expected = [(draws >= c).mean() for c in cosine.abs()]
        np.testing.assert_allclose(table["p"], expected, atol=0.006)


def test_random_directions_are_as_long_as_the_bias_and_follow_from_seed_and_layer(make_model):
    vector = make_model(q=BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)).biases_in_force()[0]
    directions = random_directions(vector, 6, 0)
    lengths = directions.norm(dim=-1)
    torch.testing.assert_close(lengths, vector.norm(dim=-1)[..., None].expand_as(lengths))
    torch.testing.assert_close(directions, random_directions(2 * vector, 6, 0) / 2)
    assert not torch.allclose(directions, random_directions(vector, 6, 1))
    flat = directions.flatten(0, 2)
    assert len(flat.unique(dim=0)) == len(flat)


def test_a_model_as_direction_is_its_mean_bias(make_model, make_documents, make_scheme):
    scheme = make_scheme("s", 4)
    broken, symmetric = make_model(), make_model(q=BiasConfig(), v=BiasConfig())
    documents = make_documents([scheme], broken.cfg.d_vocab, LENGTHS)
    given = measure(symmetric, documents, [scheme], Settings(direction=broken))
    as_tensor = measure(symmetric, documents, [scheme], Settings(direction=broken.mean_biases()[0]))
    pd.testing.assert_frame_equal(given.nulls, as_tensor.nulls)
    assert given.run["direction"] == f"b_Q of {broken.cfg.model_name}"
    with pytest.raises(InterpError, match="shape"):
        measure(make_model(n_layers=1), documents, [scheme], Settings(direction=broken))

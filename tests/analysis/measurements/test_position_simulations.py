"""A class that only comes late does not survive adjustment, a planted one does, and intervals hold their level."""

import numpy as np
import pytest
import torch

from interp.analysis.measurements.position import Positions
from interp.analysis.settings import Settings
from tests.analysis.passes import alone
from tests.analysis.planted import documents_of, plant

N_CTX, LENGTH, DOCUMENTS, VOCABULARY = 40, 40, 40, 20
CLASS_OF_TOKEN = np.arange(VOCABULARY) % 2  # class 1 comes late


class Keys:
    """Bias scores that rise with the position by 2 nats over the context, are `nats` higher for class 1, and vary.

    Each context has a level of its own, so the tokens of a document are not independent. Tokens of the rare half of the
    vocabulary are `rare` nats higher.
    """

    def __init__(self, model, seed, nats=0.0, rare=0.0):
        vector = model.biases_in_force()[0][0]  # [head_index, d_head]
        self.unit = vector / vector.square().sum(-1, keepdim=True) * model.cfg.attn_scale  # a bias score of 1 nat
        self.generator, self.nats, self.rare = torch.Generator().manual_seed(seed), nats, rare

    def __call__(self, tokens):
        noise = torch.randn(*tokens.shape, len(self.unit), generator=self.generator) * 0.5
        noise += torch.randn(len(tokens), 1, len(self.unit), generator=self.generator) * 0.3
        of_token = self.nats * torch.from_numpy(CLASS_OF_TOKEN)[tokens] + self.rare * (tokens >= VOCABULARY // 2)
        scores = noise + (of_token + 2 * torch.arange(tokens.shape[1]) / N_CTX)[..., None]
        return scores[..., None] * self.unit


@pytest.fixture
def small(make_model):
    return make_model(n_layers=1, n_heads=4, d_model=32, n_ctx=N_CTX)


@pytest.fixture
def wide(make_model):
    """Each head draws scores of its own, so that one pass is as many simulations as there are heads."""
    return make_model(n_layers=1, n_heads=20, d_model=40, n_ctx=N_CTX)


def simulate(model, scheme, monkeypatch, seed, rare_class=False, deciles=None, **effects):
    plant(monkeypatch, Keys(model, seed, **effects))
    random = np.random.default_rng(seed)
    late = random.random((DOCUMENTS, LENGTH)) < 0.2 + 0.6 * np.arange(LENGTH) / LENGTH
    half = random.random((DOCUMENTS, LENGTH)) < (np.where(late, 0.8, 0.2) if rare_class else 0.5)
    tokens = 2 * random.integers(VOCABULARY // 4, size=late.shape) + late + VOCABULARY // 2 * half
    documents = documents_of(tokens.ravel(), CLASS_OF_TOKEN, scheme, LENGTH)
    positions, found = alone(Positions, model, documents, [scheme], Settings(batch_size=64, fit_tokens=0), deciles)
    adjusted = positions.tables(found)["adjusted"]
    table = adjusted[adjusted["token_class"] == "s1"]
    return {name: rows for name, rows in table.groupby("adjusted_for")}


def test_a_class_that_only_comes_late_does_not_survive_and_a_planted_one_does(small, make_scheme, monkeypatch):
    scheme = make_scheme("s", 2)
    late = simulate(small, scheme, monkeypatch, 0)
    assert (late["nothing"]["q"] < 0.001).all() and (late["nothing"]["bias_score_contrast"] > 0.1).all()
    assert (late["position"]["q"] > 0.05).all() and (late["position"]["bias_score_contrast"].abs() < 0.05).all()
    planted = simulate(small, scheme, monkeypatch, 0, nats=0.4)
    assert (planted["position"]["q"] < 0.001).all()
    np.testing.assert_allclose(planted["position"]["bias_score_contrast"], 0.2, atol=0.05)  # half the tokens: 0.4 / 2


def test_a_class_of_rare_tokens_does_not_survive_adjustment_for_frequency(small, make_scheme, monkeypatch):
    scheme, deciles = make_scheme("s", 2), np.where(np.arange(VOCABULARY) < VOCABULARY // 2, 1, 8)
    rare = simulate(small, scheme, monkeypatch, 0, rare_class=True, deciles=deciles, rare=0.8)
    assert (rare["position"]["q"] < 0.001).all()
    adjusted = rare["position and frequency"]
    assert (adjusted["q"] > 0.05).all() and (adjusted["bias_score_contrast"].abs() < 0.05).all()
    both = simulate(small, scheme, monkeypatch, 0, rare_class=True, deciles=deciles, rare=0.8, nats=0.4)
    np.testing.assert_allclose(both["position and frequency"]["bias_score_contrast"], 0.2, atol=0.06)


@pytest.mark.slow
def test_adjusted_intervals_hold_what_was_planted_at_their_nominal_rate(wide, make_scheme, monkeypatch):
    """Rows are documents with levels of their own: the spread between documents, not between tokens, has to count."""
    scheme, rejected, covered = make_scheme("s", 2), [], []
    for seed in range(20):
        position = simulate(wide, scheme, monkeypatch, seed)["position"]
        rejected.append((position["p"] < 0.05).mean())
        covered.append(((position["ci_low"] <= 0) & (position["ci_high"] >= 0)).mean())
    error = np.std(rejected, ddof=1) / np.sqrt(len(rejected))
    print(f"rejected {np.mean(rejected):.3f} +- {error:.3f}, covered {np.mean(covered):.3f}")
    assert np.mean(rejected) == pytest.approx(1 - np.mean(covered), abs=1e-9)
    assert np.mean(rejected) - 3 * error < 0.05 < np.mean(rejected) + 3 * error

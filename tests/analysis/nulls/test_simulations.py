"""How often the nulls reject when there is nothing to find, and that they find planted effects of known size."""

import numpy as np
import pytest
import torch

from interp.analysis.run import measure
from interp.analysis.settings import Settings
from tests.analysis.planted import documents_of, plant

SIMULATIONS, TOKENS, VOCABULARY = 24, 600, 40
CLASS_OF_TOKEN = np.arange(VOCABULARY) % 4


class Keys:
    """A key per token of the vocabulary and noise per occurrence, longer in some dimensions than in others.

    `shift` [class, head_index, d_head] is added to the keys of each class.
    """

    def __init__(self, cfg, seed, shift=None, same_classes=False):
        self.generator = torch.Generator().manual_seed(seed)
        self.lengths = torch.linspace(0.5, 2.0, cfg.d_head)
        self.size = cfg.n_heads, cfg.d_head
        self.table = torch.randn(VOCABULARY, *self.size, generator=self.generator) * (0.0 if same_classes else 1.0)
        if shift is not None:
            self.table = self.table + shift[torch.from_numpy(CLASS_OF_TOKEN)]

    def __call__(self, tokens):
        noise = torch.randn(*tokens.shape, *self.size, generator=self.generator)
        return (self.table[tokens] + noise) * self.lengths


def simulate(model, scheme, monkeypatch, seed, keys, direction="bias", **nulls):
    plant(monkeypatch, keys)
    random = np.random.default_rng(seed)
    documents = documents_of(random.integers(VOCABULARY, size=TOKENS), CLASS_OF_TOKEN, scheme, 75)
    if nulls.pop("random_labels", False):
        for document in documents:
            document.classes["s"] = random.integers(4, size=len(document.tokens))
    return measure(
        model,
        documents,
        [scheme],
        Settings(direction=direction, passages=0, replicates=2, batch_size=64, seed=seed, fit_tokens=0, **nulls),
    ).nulls


def rejected(tables, null, statistic, alpha):
    """Rate of p <= alpha and its standard error, simulations being what is independent."""
    rates = [
        (t["p"][(t["null"] == null) & (t["statistic"] == statistic)] <= alpha).mean() for t in tables
    ]  # fmt: skip
    return np.mean(rates), np.std(rates, ddof=1) / np.sqrt(len(rates))


@pytest.fixture
def small(make_model):
    return make_model(n_layers=1, n_heads=8, d_model=128, n_ctx=50)


@pytest.fixture
def wide(make_model):
    """Each head has keys and a direction of its own, so that one pass looks at 20 pairs of them."""
    return make_model(n_layers=1, n_heads=20, d_model=320, n_ctx=50)


@pytest.mark.slow
def test_random_biases_are_significant_at_the_nominal_rate(wide, make_scheme, monkeypatch):
    """Classes differ in their keys, but the direction looked along has nothing to do with them."""
    scheme, cfg = make_scheme("s", 4), wide.cfg
    tables = []
    for seed in range(SIMULATIONS):
        direction = torch.randn(1, cfg.n_heads, cfg.d_head, generator=torch.Generator().manual_seed(1000 + seed))
        tables.append(simulate(wide, scheme, monkeypatch, seed, Keys(cfg, seed), direction, nulls=64, shifts=0))
    for statistic, allowed_below in (("contrast", 0), ("alignment", 0), ("auroc", 0.03)):  # auroc's p is conservative
        for alpha in (0.05, 0.2):
            rate, error = rejected(tables, "direction", statistic, alpha)
            print(f"{statistic}: {rate:.4f} +- {error:.4f} at {alpha}")
            assert rate - 3 * error < alpha < rate + 3 * error + allowed_below
    discoveries = [(t["q"][t["null"] == "direction"] <= 0.05).any() for t in tables]
    assert np.mean(discoveries) < 3 * 0.05 + 3 * np.sqrt(0.05 / SIMULATIONS)  # 3 statistics, each at most 0.05


@pytest.mark.slow
def test_random_labels_are_significant_at_the_nominal_rate(wide, make_scheme, monkeypatch):
    scheme = make_scheme("s", 4)
    tables = [
        simulate(wide, scheme, monkeypatch, seed, Keys(wide.cfg, seed), nulls=2, random_labels=True)
        for seed in range(SIMULATIONS)
    ]
    for alpha in (0.05, 0.2):
        rate, error = rejected(tables, "shifted", "contrast", alpha)
        print(f"{rate:.4f} +- {error:.4f} at {alpha}")
        assert rate - 3 * error < alpha < rate + 3 * error
    discoveries = [(t["q"][(t["null"] == "shifted") & (t["statistic"] == "contrast")] <= 0.05).any() for t in tables]
    assert np.mean(discoveries) < 0.05 + 3 * np.sqrt(0.05 / SIMULATIONS)


@pytest.mark.parametrize("nats", [0.5, 1.0, -1.0])
def test_a_planted_effect_is_found_by_every_null_with_its_size(small, make_scheme, monkeypatch, nats):
    """In heads 0 and 1 the bias scores of class 2 are shifted by a known number of nats; nothing else is planted."""
    scheme, cfg = make_scheme("s", 4), small.cfg
    vector = small.biases_in_force()[0][0]  # [head_index, d_head]
    shift = torch.zeros(4, cfg.n_heads, cfg.d_head)
    lengths = torch.linspace(0.5, 2.0, cfg.d_head)  # what Keys multiplies with
    along = vector / vector.square().sum(-1, keepdim=True) * cfg.d_head**0.5 / lengths
    shift[2, :2] = nats * along[:2]
    keys = Keys(cfg, 0, shift, same_classes=True)
    nulls = simulate(small, scheme, monkeypatch, 0, keys, nulls=64, amplified_nulls=16)
    planted = (nulls["token_class"] == "s2") & nulls["head"].isin([0, 1])
    contrasts = nulls[planted & (nulls["statistic"] == "contrast")]
    np.testing.assert_allclose(contrasts["value"], nats * 0.75, atol=0.1)  # a quarter of the tokens has moved
    for (null, statistic), rows in nulls[planted].groupby(["null", "statistic"]):
        # 16 draws in 16 dimensions are too few to survive correction, and so are 64 for the AUROC
        corrected = null != "direction" or statistic not in ("amplification", "auroc")
        assert (rows["q" if corrected else "p"] < 0.05).all(), (null, statistic)
    elsewhere = nulls[~nulls["head"].isin([0, 1])]
    assert (elsewhere["q"] < 0.05).mean() < 0.05

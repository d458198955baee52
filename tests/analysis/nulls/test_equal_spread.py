import numpy as np
import pytest
import torch
from scipy import signal, stats

from interp.analysis.nulls.equal_spread import equal_spread
from interp.analysis.nulls.spread import DRAWS, Quadratic, Spread, key_spread
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.analysis.significance import benjamini_hochberg, p_of_projection
from tests.analysis.planted import documents_of, plant
from tests.analysis.reference import null_rows, regression

LENGTHS = [33, 7, 50, 21, 64, 40]
SIZE = 16


class Recorded:
    """Anisotropic keys with a mean, a part by position and a part by token, remembered as the model saw them."""

    def __init__(self, cfg, seed=0):
        self.generator, self.size, self.seen = torch.Generator().manual_seed(seed), (cfg.n_heads, cfg.d_head), []
        self.scale = torch.linspace(0.3, 3.0, cfg.d_head)
        self.of_token = torch.randn(cfg.d_vocab, *self.size, generator=self.generator)
        self.of_place = torch.randn(cfg.n_ctx, *self.size, generator=self.generator)

    def __call__(self, tokens):
        noise = torch.randn(*tokens.shape, *self.size, generator=self.generator)
        keys = (self.of_token[tokens] + self.of_place[: tokens.shape[1]] + noise + 1.0) * self.scale
        self.seen.append(keys)
        return keys

    def flat(self, rows):
        """Keys that are no padding, [token, head_index, d_head], float64; one row per call."""
        return np.concatenate([k[0, :n].double().numpy() for k, n in zip(self.seen, rows, strict=True)])


def rare(documents, scheme="s"):
    """Class 0 becomes rare, class 4 empty, and class 3 a single token."""
    for document in documents:
        labels = document.classes[scheme]
        labels[(labels >= 3) | ((labels == 0) & (np.arange(len(labels)) % 5 > 0))] = 1
    documents[2].classes[scheme][11] = 3
    return documents


def explicit(documents, n_ctx, scheme="s"):
    """Labels, positions and tokens of all tokens in order, and the lengths of rows, which documents fill one by one."""
    labels, tokens = (
        np.concatenate(each) for each in ([d.classes[scheme] for d in documents], [d.tokens for d in documents])
    )
    n = len(tokens)
    return labels, np.arange(n) % n_ctx, tokens, [min(n_ctx, n - at) for at in range(0, n, n_ctx)]


def cosines(vector, x, covariance):
    """cos2_w and x' S^-1 x, with numpy's pseudo-inverse."""
    length = x @ np.linalg.pinv(covariance, hermitian=True) @ x
    return (vector @ x) ** 2 / (vector @ covariance @ vector * length), length


def test_p_equals_the_formula_from_explicit_keys(make_model, make_documents, make_scheme, monkeypatch):
    model, schemes = make_model(n_layers=1), [make_scheme("other", 2), make_scheme("s", 5)]
    keys, documents = Recorded(model.cfg), rare(make_documents(schemes, model.cfg.d_vocab, LENGTHS))
    plant(monkeypatch, keys)
    result = measure(model, documents, schemes, Settings(nulls=0, passages=0, batch_size=1, fit_tokens=0))
    labels, places, _, rows = explicit(documents, model.cfg.n_ctx)
    k, d = keys.flat(rows), model.cfg.d_head
    design = np.eye(model.cfg.n_ctx)[places]
    for head in range(model.cfg.n_heads):
        b, of_head = model.biases_in_force()[0][0, head].double().numpy(), k[:, head]
        left = of_head - design @ np.linalg.lstsq(design, of_head, rcond=None)[0]
        effects = np.stack([regression(column, labels, places, 4) for column in of_head.T], -1)  # [class, d_head]
        offsets = np.stack([of_head[labels == c].mean(0) - of_head.mean(0) for c in range(4)])
        heads = result.heads[(result.heads["head"] == head) & (result.heads["scheme"] == "s")]
        for statistic, columns, x, covariance in (
            ("contrast", "class", offsets, np.cov(of_head.T, bias=True)),
            ("contrast beyond position", "class_beyond", effects, left.T @ left / len(left)),
        ):
            table = null_rows(result, "equal spread", statistic, 0, head).query("scheme == 's'")
            found = [cosines(b, of_class, covariance) for of_class in x]
            p = [stats.beta.sf(cos2, 0.5, (d - 1) / 2) for cos2, _ in found]
            sd = [np.sqrt(b @ covariance @ b * length / d / d) for _, length in found]
            np.testing.assert_allclose(table["p"][:4], p, atol=1e-6)
            np.testing.assert_allclose(table["null_sd"][:4], sd, rtol=1e-6)
            np.testing.assert_allclose(table["value"][:4], x @ b / d**0.5, atol=1e-6)
            assert table["p"][4:].isna().all() and (table["null_mean"][:4] == 0).all()  # nothing is known of no tokens
            np.testing.assert_array_equal(heads[f"{columns}_p"], table["p"])
            np.testing.assert_array_equal(heads[f"{columns}_q"], table["q"])
    assert (result.heads.query("scheme == 's' and token_class == 's3'")["n_tokens"] == 1).all()


def test_without_what_differs_or_spreads_there_is_no_p(make_model, make_documents, make_scheme):
    model, schemes = make_model(), [make_scheme("s", 4), make_scheme("all", 1)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    direction = model.mean_biases()[0].clone()
    direction[1, 2] = 0
    heads = measure(model, documents, schemes, Settings(nulls=0, direction=direction)).heads
    columns = ["class_p", "class_q", "class_beyond_p", "class_beyond_q"]
    silent = (heads["scheme"] == "all") | ((heads["layer"] == 1) & (heads["head"] == 2))
    assert heads.loc[silent, columns].isna().all(axis=None) and heads.loc[~silent, columns].notna().all(axis=None)


def test_the_law_is_uniform_along_directions_of_equal_spread_and_in_the_dimensions_that_keys_have():
    random = np.random.default_rng(0)
    keys = random.standard_normal((300, SIZE)) * np.linspace(0.2, 4, SIZE) @ random.standard_normal((SIZE, SIZE))
    keys[:, 3:5] = keys[:, :2]  # two dimensions more than keys vary in
    labels = np.arange(300) < 9
    x, covariance = keys[labels].mean(0) - keys.mean(0), np.cov(keys.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    half = np.where(values > 1e-9, values, np.inf) ** -0.5
    draws = 4000
    b = random.standard_normal((draws, SIZE)) * half @ vectors.T  # S^(-1/2) z
    spread = Spread.of(np.broadcast_to(covariance, (1, draws, SIZE, SIZE)))
    assert (spread.rank == SIZE - 2).all()
    null = equal_spread("contrast", "class", b[None], np.broadcast_to(x, (1, draws, 1, SIZE)), spread)
    assert stats.kstest(null.p.ravel(), "uniform").pvalue > 0.01
    z = null.value / null.null_sd
    assert z.mean() == pytest.approx(0, abs=4 / draws**0.5) and np.square(z).mean() == pytest.approx(1, abs=0.1)
    isotropic = random.standard_normal((draws, SIZE))
    null = equal_spread("contrast", "class", isotropic[None], np.broadcast_to(x, (1, draws, 1, SIZE)), spread)
    assert stats.kstest(null.p.ravel(), "uniform").pvalue < 1e-6  # another law, so the test above can fail


def labels_with_runs(random, tokens, classes=6):
    """Labels that stay for a while, the last class rare, shifted by a random number of places."""
    new = random.random(tokens) > 0.7
    drawn = random.choice(classes, tokens, p=[0.3, 0.25, 0.2, 0.14, 0.1, 0.01])
    starts = np.maximum.accumulate(np.where(new, np.arange(tokens), 0))
    labels = np.roll(drawn[starts], random.integers(tokens))
    labels[random.integers(tokens, size=2)] = classes - 1  # it is never empty
    return labels


def test_labels_that_mean_nothing_are_no_findings_along_a_direction_in_which_keys_vary_most():
    """Keys vary 12 times more along b than elsewhere, and both keys and labels have runs."""
    random, runs, heads, tokens, classes = np.random.default_rng(0), 400, 8, 400, 6
    b = np.zeros((1, heads, SIZE))
    b[..., 0] = 1.0
    false, nominal = {"isotropic": [], "equal spread": []}, []
    for _ in range(runs):
        keys = signal.lfilter([0.75**0.5], [1, -0.5], random.standard_normal((tokens, heads, SIZE)), axis=0)
        keys[..., 0] *= 12**0.5
        labels = labels_with_runs(random, tokens)
        x = np.stack([keys[labels == c].mean(0) - keys.mean(0) for c in range(classes)], 1)[None]
        centred = keys - keys.mean(0)
        spread = Spread.of(np.einsum("thd,the->hde", centred, centred)[None] / tokens)
        null = equal_spread("contrast", "class", b, x, spread)
        isotropic = p_of_projection(np.einsum("lhd,lhcd->lhc", b, x) / np.linalg.norm(x, axis=-1), SIZE)
        for name, p in (("isotropic", isotropic), ("equal spread", null.p)):
            false[name].append((benjamini_hochberg(p.ravel()) < 0.05).any())
        nominal.append((null.p < 0.05).mean())
    print({name: np.mean(found) for name, found in false.items()}, np.mean(nominal))
    assert np.mean(false["isotropic"]) > 0.5
    assert np.mean(false["equal spread"]) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert np.mean(nominal) == pytest.approx(0.05, abs=3 * np.std(nominal) / runs**0.5)


def test_a_planted_class_effect_is_found_beyond_a_planted_position_effect(make_model, make_scheme, monkeypatch):
    """In head 0 class 1 is 1.6 nats above the rest; bias scores rise by 6 nats along the context in all heads."""
    model, scheme, nats = make_model(n_layers=1, n_heads=4, d_model=64, n_ctx=40), make_scheme("s", 4), 1.6
    vector = model.biases_in_force()[0][0]
    one_nat = vector / vector.square().sum(-1, keepdim=True) * model.cfg.d_head**0.5
    generator, of_token = torch.Generator().manual_seed(0), np.arange(20) % 4

    def keys(tokens):
        scores = 6 * torch.arange(tokens.shape[1])[None, :, None] / 40 * torch.ones(*tokens.shape, 4)
        scores[..., 0] += nats * (torch.from_numpy(of_token)[tokens] == 1)
        return torch.randn(*tokens.shape, 4, 16, generator=generator) + scores[..., None] * one_nat

    plant(monkeypatch, keys)
    documents = documents_of(np.random.default_rng(0).integers(20, size=1600), of_token, scheme, 40)
    result = measure(model, documents, [scheme], Settings(nulls=0, passages=0, replicates=2, fit_tokens=0))
    heads = result.heads.set_index(["head", "token_class"])
    assert (heads.loc[(0, "s1"), ["class_q", "class_beyond_q"]] < 0.001).all()
    assert (heads.drop(index=0)[["class_q", "class_beyond_q"]] > 0.05).all(axis=None)
    found = null_rows(result, "equal spread", "contrast beyond position", 0, 0).set_index("token_class")["value"]
    assert found["s1"] == pytest.approx(nats * 0.75, abs=0.15)  # a quarter of the tokens has moved


def test_key_spread_is_the_ratio_of_spreads_along_the_bias_and_along_random_directions():
    random = np.random.default_rng(0)
    keys, b = random.standard_normal((500, SIZE)) * np.linspace(0.1, 3, SIZE), random.standard_normal((1, 3, SIZE))
    b[0, 1], b[0, 2] = np.eye(SIZE)[-1] * 7, 0.0  # along the widest direction; none
    spread = Spread.of(np.broadcast_to(np.cov(keys.T, bias=True), (1, 3, SIZE, SIZE)))
    found, p = key_spread(b, spread, seed=0)
    around = random.standard_normal((100_000, SIZE))
    variances = (
        np.square(around / np.linalg.norm(around, axis=1, keepdims=True) @ spread.vectors[0, 0]) @ spread.values[0, 0]
    )
    for head in range(2):
        own = (keys @ b[0, head]).var() / np.square(b[0, head]).sum()
        assert found[0, head] == pytest.approx(np.sqrt(own / variances.mean()), rel=0.01)
        expected = (variances >= own).mean()
        assert p[0, head] == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / DRAWS) + 2 / DRAWS)
    assert found[0, 1] > 1.5 and p[0, 1] < 0.01
    assert np.isnan(found[0, 2]) and np.isnan(p[0, 2])


def test_p_of_a_quadratic_form_is_uniform_and_heeds_the_rank():
    random = np.random.default_rng(1)
    eigenvalues, rank, heads = np.array([0.0, 0.0, 0.0, 0.1, 0.5, 2.0]), 4, 1500
    w = random.standard_normal((heads, rank))
    value = np.square(w) @ eigenvalues[-rank:] / np.square(w).sum(1)
    law = Quadratic(np.broadcast_to(eigenvalues, (1, heads, 6)), np.full((1, heads), rank))
    assert stats.kstest(law.p(value[None], 0).ravel(), "uniform").pvalue > 0.01
    assert law.mean()[0, 0] == pytest.approx(2.6 / 4) and value.mean() == pytest.approx(2.6 / 4, abs=0.05)

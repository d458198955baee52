"""The checkpoints that come with the repository: what they are, and what the mathematics says of them."""

import copy
import hashlib
import json

import numpy as np
import pytest
import torch

import interp
from interp.analysis.run import measure
from interp.data.classes.built_in import build_schemes
from interp.data.contexts import token_stream
from interp.data.corpora.corpus import open_corpus
from interp.data.tagging.documents import tag_documents
from interp.evals.held_out import validation_loss
from interp.model.checkpoint import BUNDLED, read_training
from tests.analysis.reference import observe, rows_of, shares

NAMES = ["tiny-symmetric", "tiny-bq", "tiny-bqbv", "tiny-symmetric-ecd", "tiny-bq-ecd"]
TEXTS = [
    "In 1905 Albert Einstein published four papers that changed physics. Nobody had expected it from a clerk in Bern."
] * 4


@pytest.fixture(scope="module")
def models():
    return {name: interp.load_model(name) for name in NAMES}


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "part", "changes"),
    [
        ("tiny-symmetric", "QK", False),
        ("tiny-bq", "QK", True),
        ("tiny-bqbv", "QK", True),
        ("tiny-symmetric", "VO", False),
        ("tiny-bq", "VO", False),
        ("tiny-bqbv", "VO", True),
        ("tiny-symmetric-ecd", "QK", False),
        ("tiny-bq-ecd", "QK", True),
        ("tiny-bq-ecd", "VO", False),
    ],
)
def test_rotating_a_head_changes_exactly_the_models_whose_symmetry_is_broken_there(name, part, changes):
    model = interp.load_model(name)
    tokens = torch.randint(4096, (2, 64), generator=torch.Generator().manual_seed(0))
    plain = model(tokens)
    size = model.cfg.d_head
    for layer, head in [(0, 1), (2, 3), (3, 5)]:
        rotation = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(layer)))[0]
        for weight in ("W_Q", "W_K", "b_Q", "b_K") if part == "QK" else ("W_V", "b_V"):
            view = getattr(model, weight)
            view[layer, head] = view[layer, head] @ rotation
        if part == "VO":
            model.W_O[layer, head] = rotation.T @ model.W_O[layer, head]
    difference = float((model(tokens) - plain).abs().max())
    assert difference > 1e-2 if changes else difference < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_hooked_and_fused_attention_give_the_same_logits(models, name):
    tokens = torch.randint(4096, (2, 128), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(models[name].run_with_cache(tokens)[0], models[name](tokens), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_amplification_of_a_bundled_model_equals_the_slow_reference(models):
    model, corpus = models["tiny-bqbv"], open_corpus(TEXTS)
    schemes = build_schemes(["pos"], model.tokenizer, corpus)
    documents = list(tag_documents(model.tokenizer, corpus, schemes, workers=0, cache=None))
    heads = measure(model, documents, schemes).heads
    rows, labels = rows_of(documents, model.cfg.n_ctx, "pos")
    for layer, head in [(0, 0), (1, 3), (3, 2)]:
        expected = shares(observe(model.double(), rows, layer, head), labels, len(schemes[0].classes))
        model.float()
        table = heads[(heads["layer"] == layer) & (heads["head"] == head)]
        np.testing.assert_allclose(table["share"], expected[0], atol=1e-5)
        np.testing.assert_allclose(table["share_unbiased"], expected[1], atol=1e-5)


@pytest.fixture(scope="module")
def held_out(models):
    """Tokens of the held-out articles: all models have one tokenizer, as another test says."""
    return token_stream(models[NAMES[0]].tokenizer, open_corpus("wikipedia-sample", "validation"))


@pytest.fixture(scope="module")
def eighth(models, held_out):
    """Every eighth of their contexts, what tiny-bqbv loses there, and what it loses on all."""
    model = models["tiny-bqbv"]
    rows = held_out[: -(len(held_out) % model.cfg.n_ctx)].reshape(-1, model.cfg.n_ctx)
    part = rows[::8].ravel()
    return part, validation_loss(model, part), validation_loss(model, held_out)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_model_card_tells_the_validation_loss_that_is_measured(models, eighth, name):
    """That of one model is measured in full, and of the others by how they differ from it on an eighth of the text."""
    training = read_training(name)
    part, on_the_part, on_all = eighth
    measured = on_all + (validation_loss(models[name], part) - on_the_part if name != "tiny-bqbv" else 0)
    assert measured == pytest.approx(training["best_validation_loss"], abs=0.01)  # trained in bfloat16, kept in float16
    assert measured < (5.2 if name.endswith("ecd") else 5.0)
    assert training["command"] in (BUNDLED / name / "README.md").read_text()
    assert training["command"].endswith(f"-o checkpoints/{name}")


def test_all_models_share_seed_data_and_tokenizer_and_those_of_one_optimizer_all_but_the_biases(models):
    keys = ("seed", "corpus", "tokens", "dropout", "batch_size", "precision")
    settings = [{key: read_training(name)[key] for key in keys} for name in NAMES]
    assert all(other == settings[0] for other in settings)
    for optimizer in ("adamw", "ecd"):
        same = [read_training(n) for n in NAMES if read_training(n)["optimizer"] == optimizer]
        assert len(same) >= 2
        assert all(s[key] == same[0][key] for s in same for key in ("lr", "weight_decay", "clip"))
    tokenizers = {hashlib.sha256((BUNDLED / name / "tokenizer.json").read_bytes()).hexdigest() for name in NAMES}
    assert len(tokenizers) == 1
    assert [(models[n].cfg.q.mode, models[n].cfg.v.mode) for n in NAMES] == [
        ("none", "none"), ("batch", "none"), ("batch", "batch"), ("none", "none"), ("batch", "none"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_validation_loss_has_flattened(name):
    rows = [json.loads(line) for line in (BUNDLED / name / "training.jsonl").read_text().splitlines()]
    losses = [row["validation_loss"] for row in rows if "validation_loss" in row]
    late = losses[len(losses) * 3 // 4] - min(losses)
    assert 0 <= late < 0.1 * (losses[0] - min(losses))


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_bridge_of_a_trained_checkpoint_has_its_logits(models, name, dtype, tolerance):
    model = copy.deepcopy(models[name]).to(dtype)
    tokens = model.to_tokens(TEXTS[0] * 8)
    torch.testing.assert_close(model.to_bridge()(tokens), model(tokens), rtol=tolerance, atol=tolerance)

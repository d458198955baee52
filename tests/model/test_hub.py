"""Checkpoints by hub id: from a cache as the hub's client lays it out, with the way to the hub closed."""

import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from interp.errors import InterpError
from interp.model.checkpoint import find_checkpoint, load_model, save_checkpoint
from interp.model.transformer import HookedSymmetryBrokenTransformer
from tests.model.cases import random_tokens

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The client's cache folder, and a client that is told to stay offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def keep(cache, folder, hub_id):
    """Lay a checkpoint folder into the cache, as a download of `hub_id` would."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, repository / "snapshots" / COMMIT)


@torch.no_grad()
def test_a_model_is_loaded_by_its_hub_id(make_model, cache, tmp_path):
    model = make_model(activation="prelu", positional="rope")
    keep(cache, save_checkpoint(model, tmp_path / "saved"), "someone/tiny-bq-124")
    tokens = random_tokens(model)
    for load in (load_model, HookedSymmetryBrokenTransformer.from_pretrained):
        loaded = load("someone/tiny-bq-124", device="cpu")
        assert torch.equal(loaded(tokens), model(tokens))
        assert loaded.to_tokens("fox").equal(model.to_tokens("fox"))
        assert not loaded.training


def test_only_what_a_checkpoint_needs_is_fetched(make_model, cache, tmp_path, monkeypatch):
    asked = []

    def fetch(*args, **kwargs):
        asked.append((args, kwargs))
        return str(save_checkpoint(make_model(), tmp_path / "fetched"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_checkpoint("someone/model") == tmp_path / "fetched"
    files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert asked == [(("someone/model",), {"allow_patterns": files})]


def test_a_hub_that_gives_nothing_is_reported_in_one_sentence(cache):
    with pytest.raises(
        InterpError, match="'someone/nothing' is no folder here, and the Hugging Face hub gave"
    ) as error:
        load_model("someone/nothing")
    assert "\n" not in str(error.value)


def test_a_hub_model_without_config_is_refused(cache, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "tokenizer.json").write_text("{}")
    keep(cache, tmp_path / "empty", "someone/odd")
    with pytest.raises(InterpError, match=r"'someone/odd' on the Hugging Face hub has no config\.json"):
        load_model("someone/odd")


def test_a_place_in_a_folder_that_is_here_is_never_asked_of_the_hub(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    (tmp_path / "runs" / "tiny-bq").mkdir(parents=True)
    (tmp_path / "runs" / "tiny-bq" / "config.json").touch()
    with pytest.raises(InterpError, match=r"no checkpoint folder runs/tny-bq; did you mean 'tiny-bq'\? Give"):
        load_model("runs/tny-bq")
    for name in (
        "runs/first",
        "tiny-qb",
        "/nowhere/at/all",
        "./a/b",
        "gone/model.pt",
        "a/b/c",
        "../x",
        "~/x",
        "runs/first/",
    ):
        with pytest.raises(InterpError, match="There is no checkpoint"):
            load_model(name)

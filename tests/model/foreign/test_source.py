"""Where a foreign model may lie, and what is said when there is none."""

import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from transformers import GPT2LMHeadModel

from interp.errors import InterpError
from interp.model.foreign.formats import read_foreign
from interp.model.foreign.source import open_source
from tests.model.foreign.gpt2 import gpt2, pytorch_bin
from tests.model.foreign.release import Release


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that gives a folder's files of the patterns that are asked for, and records what was asked."""
    monkeypatch.chdir(tmp_path)
    asked, shelf = [], tmp_path / "shelf"

    def fetch(hub_id, allow_patterns):
        asked.append((hub_id, allow_patterns))
        folder = tmp_path / "cache"
        folder.mkdir(exist_ok=True)
        for file in {f for pattern in allow_patterns for f in shelf.glob(pattern)}:
            shutil.copy(file, folder)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    return shelf, asked


@pytest.mark.parametrize("name", ["someone/tiny-gpt2", "gpt2"])
@pytest.mark.parametrize("save", [GPT2LMHeadModel.save_pretrained, pytorch_bin], ids=["safetensors", "bin"])
@torch.no_grad()
def test_a_model_on_the_hub_is_fetched_by_its_id(hub, name, save):
    shelf, asked = hub
    theirs, tokens = gpt2(), torch.arange(11)[None]
    save(theirs, shelf)
    (shelf / "model.onnx").write_bytes(b"not needed")
    foreign = read_foreign(name)
    torch.testing.assert_close(foreign.model(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
    assert {hub_id for hub_id, _ in asked} == {name}
    assert len(asked) == (1 if save is not pytorch_bin else 2)  # pickles only where there is nothing else
    assert not (foreign.folder / "model.onnx").exists()


def test_a_hub_out_of_reach_is_reported_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InterpError, match="'someone/nothing' is no folder here, and the Hugging Face hub gave"
    ) as error:
        open_source("someone/nothing")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere/at/all", "runs/model_best.pt"])
def test_a_file_that_is_not_there_is_never_asked_of_the_hub(hub, tmp_path, name):
    (tmp_path / "runs").mkdir()
    with pytest.raises(InterpError, match=f"There is no file or folder {name}; give a checkpoint file, a model folder"):
        open_source(name)
    assert hub[1] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"weight": torch.ones(2)}}, r"none of the known formats .*; its tensors are weight\."),
        ({"model": {}}, "has no state dict of tensors; what is no tensor in it: nothing"),
        ({"model": {"a": 3, 5: torch.ones(1)}}, "has no state dict of tensors; what is no tensor in it: a, 5"),
        ({"epoch": 3, "loss": 0.1}, "has no state dict of tensors; what is no tensor in it: epoch, loss"),
        ([torch.ones(1)], "holds list; expected a dictionary of tensors"),
        (torch.ones(1), "holds Tensor; expected a dictionary of tensors"),
        ({"model": Release().state, "config": 3}, None),  # the sizes are in the tensors
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "file.pt")
    if message is None:
        assert read_foreign(tmp_path / "file.pt").model.cfg.n_heads == 3
        return
    with pytest.raises(InterpError, match=message):
        read_foreign(tmp_path / "file.pt")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "file.pt"
    path.write_bytes(b"")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(InterpError, match=r"Cannot read .*file\.pt: Permission denied\."):
        open_source(path)

"""A state goes on with what it is of, as it was saved, or not at all: corpus, shards, tokenizer, and every byte of it."""

import json
import os
import shutil
import signal
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.data.shards.open import TokenShards, digest
from interp.data.tokenizer import train_tokenizer
from interp.errors import InterpError
from interp.train import checkpoints
from interp.train.loop import train
from tests.train.same_run import same_run

SETTINGS = {"steps": 6, "evaluate_every": 2, "keep": 9}


@pytest.fixture(scope="module")
def trained(make_config, tmp_path_factory):
    return train(make_config(output=tmp_path_factory.mktemp("trained") / "run", **SETTINGS))


@pytest.fixture
def begun(config, trained, tmp_path):
    """A run with states after 2, 4 and 6 steps, and the settings it goes on with."""
    return shutil.copytree(trained, tmp_path / "run"), config(**SETTINGS, resume=True)


def texts(folder, words):
    folder.mkdir(exist_ok=True)
    for number in range(16):
        (folder / f"{number:02}.txt").write_text(f"{words} " * 200)
    return str(folder)


@pytest.mark.slow
def test_a_changed_corpus_is_refused_with_both_values_and_no_tokenizer_is_trained_again(config, tmp_path, monkeypatch):
    settings = config(corpus=texts(tmp_path / "texts", "one two three"), steps=2, evaluate_every=2)
    folder = train(settings)
    texts(tmp_path / "texts", "two three one")
    monkeypatch.setattr("interp.train.setup.train_tokenizer", lambda *_: pytest.fail("trained again"))
    with pytest.raises(InterpError, match=r"training tokens was 8,\d+ tokens, sha256 (\w+), now 8,\d+ tokens, sha256 "):
        train(replace(settings, steps=4, resume=True))
    assert len(checkpoints.saved_states(folder)) == 1
    texts(tmp_path / "texts", "one two three")
    train(replace(settings, steps=4, resume=True))


def test_exchanged_shards_are_refused(config, tmp_path):
    random, shards = np.random.default_rng(0), tmp_path / "shards"
    shards.mkdir()
    np.save(shards / "part.npy", random.integers(4096, size=20_000).astype(np.uint16))
    settings = config(corpus=str(shards), steps=2, evaluate_every=2)
    train(settings)
    np.save(shards / "part.npy", random.integers(4096, size=20_000).astype(np.uint16))
    with pytest.raises(InterpError, match="training tokens was 19,000 tokens, sha256 "):
        train(replace(settings, steps=4, resume=True))


def test_another_tokenizer_than_the_shards_own_is_refused(config, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    np.save(shards / "part.npy", np.zeros(20_000, dtype=np.uint16))
    for name, text in (("shards/tokenizer.json", "one two"), ("other.json", "three four")):
        train_tokenizer([text * 99], 270).backend_tokenizer.save(str(tmp_path / name))
    settings = config(corpus=str(shards), steps=2, evaluate_every=2)
    with pytest.raises(
        InterpError, match=r"other.json \(sha256 \w+\) is not the tokenizer of the shards in .* \(sha256"
    ):
        train(replace(settings, tokenizer=str(tmp_path / "other.json")))
    train(replace(settings, tokenizer=str(shards / "tokenizer.json")))


@pytest.mark.slow
def test_micro_batches_may_change_unless_biases_are_drawn_for_each(config):
    settings = config(steps=2, evaluate_every=2, micro_batch_size=4)
    train(settings)
    train(replace(settings, steps=4, micro_batch_size=2, resume=True))
    settings = config(steps=2, evaluate_every=2, micro_batch_size=4, bias_draws="micro-batch", overwrite=True)
    train(settings)
    with pytest.raises(InterpError, match="micro_batch_size was 4, now 2"):
        train(replace(settings, steps=4, micro_batch_size=2, overwrite=False, resume=True))


def test_a_digest_is_of_every_token_and_its_place():
    tokens = np.arange(2**18 + 5)
    first = digest(TokenShards.of(tokens))
    assert first.startswith("262,149 tokens, sha256 ") and first == digest(TokenShards.of(tokens.astype(np.uint32)))
    for place in (0, 2**17, len(tokens) - 1):
        changed = tokens.copy()
        changed[place] += 1
        assert digest(TokenShards.of(changed)) != first
    assert digest(TokenShards.of(tokens[:0])).startswith("0 tokens")


def flipped(path):
    """Flip a bit in the largest tensor; torch does not look at the checksums of the zip file."""
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + 1000] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)


def edited(path, **changes):
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **{key: {**values[key], **change} for key, change in changes.items()}}))


DAMAGES = {
    "its checksum does not fit": lambda folder: flipped(folder / "state.pt"),
    "it has no model, optimizer, random, reached": lambda folder: torch.save({}, folder / "state.pt"),
    "it has no model": lambda folder: torch.save([], folder / "state.pt"),
    "config.json was changed: its lr": lambda folder: edited(folder / "config.json", training={"lr": 0.5}),
    "does not fit the model of": lambda folder: edited(folder / "config.json", model={"n_layers": 2}),
    "n_layers is": lambda folder: edited(folder / "config.json", model={"n_layers": -1}),
    "cannot be read as JSON": lambda folder: (folder / "config.json").write_text("{"),
    "tokenizer.json was changed": lambda folder: shutil.copy("checkpoints/tiny-bq/tokenizer.json", folder),
    "There is no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.slow
@pytest.mark.parametrize("told", DAMAGES)
def test_a_damaged_state_is_named_and_passed_over_and_none_is_deleted(begun, told, tmp_path, curve, capsys):
    folder, settings = begun
    part = shutil.copytree(folder, tmp_path / "part")
    states = checkpoints.saved_states(part)
    DAMAGES[told](states[-1])
    capsys.readouterr()
    train(replace(settings, output=part))
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"passed over in {part}: {states[-1].name}: " in said and told in said and "going on after step 4 of 6" in said
    )
    same_run(folder, part, curve)
    for state in checkpoints.saved_states(part):
        DAMAGES[told](state)
    with pytest.raises(InterpError, match="No saved state can be read"):
        train(replace(settings, output=part))
    assert checkpoints.saved_states(part) == states


def test_a_state_that_was_passed_over_costs_no_good_one_its_place(begun):
    folder, settings = begun
    newest = checkpoints.saved_states(folder)[-1]
    torch.save({}, newest / "state.pt")
    train(replace(settings, steps=5, keep=1))
    assert [path.name for path in checkpoints.saved_states(folder)] == ["step-00000005", newest.name]


def test_a_state_of_before_goes_on_and_says_what_is_not_known(begun, tmp_path, curve, capsys):
    folder, settings = begun
    part = shutil.copytree(folder, tmp_path / "part", ignore=shutil.ignore_patterns("*6"))
    for state in checkpoints.saved_states(part):
        saved = torch.load(state / "state.pt", weights_only=True)
        torch.save({name: saved[name] for name in checkpoints.PARTS}, state / "state.pt")
    train(replace(settings, output=part))
    assert "whether corpus and tokenizer are those it continues is not known" in capsys.readouterr().err
    same_run(folder, part, curve)


def test_a_prune_that_is_killed_between_its_steps_leaves_no_half_a_state_and_the_next_one_nothing(tmp_path):
    for step in (2, 4, 6):
        folder = checkpoints.state_folder(tmp_path, step)
        folder.mkdir()
        for name in ("config.json", checkpoints.STATE):
            (folder / name).touch()

    def killed_in_the_middle(folder, *_, **__):
        (folder / "config.json").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        checkpoints.shutil.rmtree = killed_in_the_middle
        checkpoints.prune(tmp_path, keep=1)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert [folder.name[-1] for folder in checkpoints.saved_states(tmp_path)] == ["4", "6"]
    assert len(list(tmp_path.iterdir())) == 3
    checkpoints.prune(tmp_path, keep=1)
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-00000006"]


def test_everything_that_a_run_writes_may_be_read_by_others_as_the_umask_says(config):
    before = os.umask(0o022)
    try:
        folder = train(config(steps=2, evaluate_every=2, preset="mini"))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert {"state.pt", "model.safetensors", "tokenizer.json", "training.jsonl"} <= modes.keys()
    assert {name for name, mode in modes.items() if mode not in (0o644, 0o755)} == set()

"""A folder of shards says when it is damaged, and the commands pass it on."""

import json
import subprocess
import sys

import numpy as np
import pytest

from interp.data.shards.manifest import verify
from interp.data.shards.open import open_shards, tokenizer_of
from interp.errors import InterpError
from tests import commands
from tests.data.folders import ENVIRONMENT, command, cut, flip, make, write_corpus


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", 100)


def beyond(file, place):
    content = bytearray(file.read_bytes())
    content[place : place + 2] = np.uint16(300).tobytes()
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": ("train-000002.bin", lambda file: flip(file, 1100), r"train-000002\.bin is damaged: its checksum"),
    "cut short": ("train-000002.bin", lambda file: cut(file, 1100), r"train-000002\.bin ends at byte 1100"),
    "an id too large": (
        "train-000000.bin",
        lambda file: beyond(file, 1034),
        r"holds the token id 300 at position 5; the .* has \d+ entries",
    ),
    "a missing shard": ("validation-000001.bin", lambda file: file.unlink(), r"validation-000001\.bin is missing, but"),
    "another tokenizer": ("tokenizer.json", lambda file: cut(file, 500), r"tokenizer\.json is missing or not the one"),
    "no tokenizer": ("tokenizer.json", lambda file: file.unlink(), r"tokenizer\.json is missing or not the one"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(corpus, tmp_path, name):
    folder = make(corpus, tmp_path / "shards")
    file, damage, message = DAMAGE[name]
    damage(folder / file)
    (problem,) = verify(folder)
    with pytest.raises(InterpError, match=message):
        raise InterpError(problem)


def test_opening_finds_what_can_be_found_without_reading_tokens(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards")
    (folder / "train-000001.bin").write_bytes((folder / "train-000000.bin").read_bytes())
    with pytest.raises(InterpError, match=r"train-000001\.bin holds \d+ tokens, manifest\.json says \d+"):
        open_shards(folder, "train")
    (folder / "train-000001.bin").unlink()
    with pytest.raises(InterpError, match=r"train-000001\.bin is missing"):
        open_shards(folder, "train")
    assert len(open_shards(folder, "validation")) > 100
    cut(folder / "tokenizer.json", 300)
    with pytest.raises(InterpError, match=r"tokenizer\.json is missing or not the tokenizer the shards were made with"):
        tokenizer_of(folder)


def broken(change):
    def write(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(change(manifest)))

    return write


MANIFESTS = {
    "no JSON": (lambda folder: cut(folder / "manifest.json", 100), "cannot be read as JSON"),
    "a list": (broken(lambda m: [m]), "holds a JSON list; expected a manifest"),
    "another kind": (broken(lambda m: {**m, "kind": "ships"}), "is not a manifest of token shards"),
    "a newer format": (broken(lambda m: {**m, "format": 2}), "has format 2; this version reads 1: install a newer"),
    "a missing key": (broken(lambda m: {k: v for k, v in m.items() if k != "shards"}), r"is damaged \('shards'\)"),
    "an unknown key": (broken(lambda m: {**m, "colour": 1}), r"is damaged \(.*colour.*\); prepare the shards again"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_one_clear_sentence(corpus, tmp_path, name):
    folder = make(corpus, tmp_path / "shards")
    damage, message = MANIFESTS[name]
    damage(folder)
    with pytest.raises(InterpError, match=message):
        verify(folder)


@pytest.mark.slow
def test_the_commands_print_verdicts_and_exit_statuses(corpus, tmp_path):
    folder = tmp_path / "shards"
    done = subprocess.run(command(corpus, folder), env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr
    verifying = [sys.executable, "-m", "interp.data", "verify", str(folder)]
    good = subprocess.run(verifying, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert (good.returncode, good.stdout.strip()) == (0, f"{folder} is complete and whole")
    flip(folder / "train-000002.bin", 1100)
    (folder / "tokenizer.json").unlink()
    bad = commands.run(verifying, env=ENVIRONMENT)
    assert bad.returncode == 1
    assert "tokenizer.json is missing" in bad.stderr
    assert "train-000002.bin is damaged" in bad.stderr
    assert f"error: {folder} has 2 faults" in bad.stderr


def test_help_teaches_by_example():
    for name in ("prepare", "verify"):
        shown = commands.run([sys.executable, "-m", "interp.data", name, "--help"], env=ENVIRONMENT).stdout
        assert f"{name} " in shown
        assert "shards/wikipedia" in shown

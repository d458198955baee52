"""The tokenizer is complete, deterministic, loses nothing, and cannot be talked into a document border."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from interp.data.corpora.corpus import Document, open_corpus
from interp.data.tokenizer import encode_documents, train_tokenizer
from interp.errors import InterpError
from interp.vocabulary import END_OF_TEXT, load_tokenizer


def encode(tokenizer, text):
    return next(encode_documents(tokenizer, [Document("one", text)]))


def test_the_vocabulary_has_exactly_the_size_asked_for(tokenizer):
    assert len(tokenizer) == 320
    assert len(train_tokenizer(["a"], 400)) == 257, "a text without pairs gives the bytes and the special token"


def test_training_twice_gives_the_same_tokenizer():
    texts = ["to be or not to be, that is the question"] * 3
    first, second = (train_tokenizer(iter(texts), 290).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(InterpError, match=r"vocabulary of 256 is too small.*give at least 257"):
        train_tokenizer(["a"], 256)


def test_every_special_token_is_the_end_of_text(tokenizer):
    assert {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token} == {END_OF_TEXT}
    assert tokenizer.encode("a b") == tokenizer.encode("a b", add_special_tokens=False), "nothing is added on encoding"


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_decoding_gives_back_any_text(tokenizer, text):
    tokens, offsets = encode(tokenizer, text)
    assert tokens[0] == tokenizer.bos_token_id
    assert offsets[0].tolist() == [0, 0]
    assert tokenizer.decode(tokens[1:]) == text
    covered = {place for start, end in offsets[1:] for place in range(start, end)}
    assert covered == set(range(len(text))), "offsets are indices of the Python string"


def test_a_text_that_spells_the_special_token_does_not_become_it(tokenizer):
    text = f"before{END_OF_TEXT}after {END_OF_TEXT}"
    for _ in range(2):
        tokens, _ = encode(tokenizer, text)
        assert tokenizer.bos_token_id not in tokens[1:]
        assert tokenizer.decode(tokens[1:]) == text
        tokenizer(text)  # transformers sets the switch back on its own copy


def test_a_saved_tokenizer_encodes_the_same(tokenizer, tmp_path):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "the rain, caf\u00e9 \N{GRINNING FACE}"
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert np.array_equal(encode(load_tokenizer(path), text)[0], encode(tokenizer, text)[0])


def test_truncation_and_padding_in_the_file_are_ignored(tokenizer, tmp_path):
    changed = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    changed.enable_truncation(2)
    changed.enable_padding(length=50)
    changed.save(str(tmp_path / "tokenizer.json"))
    assert np.array_equal(encode(load_tokenizer(tmp_path), "the rain fell")[0], encode(tokenizer, "the rain fell")[0])


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(InterpError, match=r"no tokenizer at .*tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"version": "1.0"}), "\x80"])
def test_a_broken_tokenizer_file_is_one_sentence(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    with pytest.raises(InterpError, match=r"tokenizer\.json is not a tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_the_special_token_is_refused(tmp_path):
    Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InterpError, match=r"has no <\|endoftext\|> token"):
        load_tokenizer(tmp_path)


def test_documents_are_encoded_one_by_one_in_order(tokenizer):
    corpus = open_corpus(["the rain", "", "the art"])
    assert [tokenizer.decode(tokens) for tokens, _ in encode_documents(tokenizer, corpus)] == [
        f"{END_OF_TEXT}the rain",
        f"{END_OF_TEXT}the art",
    ]


def hub_cache(folder, tokenizer, name, revision="0123456789012345678901234567890123456789"):
    """A file as the hub's cache keeps it: refs/main names the revision, snapshots/REVISION holds the file."""
    repository = folder / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots" / revision).mkdir(parents=True)
    tokenizer.backend_tokenizer.save(str(repository / "snapshots" / revision / "tokenizer.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "some-owner/some.name"])
def test_a_tokenizer_comes_from_the_hub_by_its_id(tokenizer, tmp_path, name):
    hub_cache(tmp_path, tokenizer, name)
    code = "import sys; from interp.vocabulary import load_tokenizer; print(load_tokenizer(sys.argv[1]).encode('the rain'))"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, name], env=offline, capture_output=True, text=True)
    assert json.loads(done.stdout) == tokenizer.encode("the rain"), done.stderr


def test_the_disk_goes_before_the_hub(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    tokenizer.backend_tokenizer.save("gpt2/tokenizer.json")
    assert load_tokenizer("gpt2").get_vocab() == tokenizer.get_vocab()
    for absent in ("runs/absent/tokenizer.json", "absent.json", "./gpt3", "~/gpt3", tmp_path / "absent", "a/b/c"):
        with pytest.raises(InterpError, match="There is no tokenizer at"):
            load_tokenizer(absent)


@pytest.mark.parametrize("error", [ConnectionError("no route"), OSError(2, "gone"), ValueError("bad id")])
def test_a_hub_that_gives_nothing_is_one_sentence_with_a_remedy(monkeypatch, error):
    def refuse(name, allow_patterns):
        assert name == "gpt2" and "tokenizer.json" in allow_patterns
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    expected = (
        rf"'gpt2' is no file or folder, .*\({type(error).__name__}\); .* download its tokenizer\.json and give the path"
    )
    for name in ("gpt2", Path("gpt2")):
        with pytest.raises(InterpError, match=expected):
            load_tokenizer(name)


def test_a_place_in_a_folder_that_is_here_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    with pytest.raises(InterpError, match="There is no tokenizer at shards/mine"):
        load_tokenizer("shards/mine")

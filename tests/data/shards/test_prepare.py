"""Prepared shards hold exactly the corpus' tokens, with any number of processes, and a folder is never half right."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import interp
from interp.data import tokenizer as tokenizing
from interp.data.contexts import token_stream
from interp.data.corpora.corpus import open_corpus
from interp.data.shards.config import PrepareConfig
from interp.data.shards.open import is_shards, open_shards, tokenizer_of
from interp.data.shards.prepare import prepare
from interp.data.tokenizer import encode_documents, text_encoder
from interp.errors import InterpError
from interp.train.config import TrainConfig
from interp.train.loop import train
from interp.vocabulary import END_OF_TEXT, load_tokenizer
from tests.data import kinds

WORDS = [
    "the",
    "rain",
    "caf\u00e9",
    "1905",
    "\N{GRINNING FACE}",
    "London,",
    "\n\n",
    "x" * 40,
    END_OF_TEXT,
    "well-known",
]


def random_texts(seed, count=120, longest=60):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=random.integers(0, longest))) for _ in range(count)]


@pytest.fixture
def corpus(tmp_path):
    lines = [json.dumps({"text": text}) for text in random_texts(0)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    return tmp_path / "corpus.jsonl"


def make(corpus, folder, **settings):
    return prepare(
        PrepareConfig(str(corpus), folder, **{"vocabulary": 300, "workers": 0, "shard_tokens": 700, **settings})
    )


def tokens_in(file):
    """A shard by the format's definition."""
    if file.suffix == ".npy":
        return np.load(file, allow_pickle=False)
    content = file.read_bytes()
    magic, version, count = np.frombuffer(content[:12], "<i4")
    assert (magic, version, len(content)) == (20240520, 1, 1024 + 2 * count)
    assert not any(content[12:1024])
    return np.frombuffer(content[1024:], "<u2")


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ".lock"}


@pytest.mark.parametrize("shard_tokens", [1, 100, 700, 10**6])
def test_the_shards_are_the_token_stream_of_each_split(corpus, tmp_path, shard_tokens):
    folder = make(corpus, tmp_path / "shards", shard_tokens=shard_tokens)
    tokenizer, manifest = load_tokenizer(folder), json.loads((folder / "manifest.json").read_text())
    assert len(tokenizer) == manifest["d_vocab"] == 300
    for split in ("train", "validation"):
        expected = token_stream(tokenizer, open_corpus(corpus, split))
        files = sorted(folder.glob(f"{split}-*.bin"))
        assert np.array_equal(np.concatenate([tokens_in(file) for file in files]), expected)
        shards = open_shards(folder, split)
        assert np.array_equal(shards.windows(np.array([0]), len(shards))[0], expected)
        assert [shard["file"] for shard in manifest["shards"] if shard["split"] == split] == [f.name for f in files]


def test_no_document_lies_in_two_shards_and_shards_close_at_the_first_that_does_not_fit(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards", shard_tokens=120)
    tokenizer = load_tokenizer(folder)
    lengths = {
        s: [len(t) for t, _ in encode_documents(tokenizer, open_corpus(corpus, s))] for s in ("train", "validation")
    }
    assert any(length > 120 for length in lengths["train"]), "a document longer than a shard is among them"
    for split, waiting in lengths.items():
        expected, shard = [], []
        for length in waiting:
            if shard and sum(shard) + length > 120:
                expected.append(shard)
                shard = []
            shard.append(length)
        expected.append(shard)
        files = sorted(folder.glob(f"{split}-*.bin"))
        assert [len(tokens_in(file)) for file in files] == [sum(shard) for shard in expected]
        assert [(tokens_in(file) == tokenizer.bos_token_id).sum() for file in files] == [
            len(shard) for shard in expected
        ]
        assert all(tokens_in(file)[0] == tokenizer.bos_token_id for file in files)


def test_the_manifest_counts_tokens_documents_and_places(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards")
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    rows = [number for number, text in enumerate(random_texts(0), start=1) if text and not text.isspace()]
    splits = {"train": [i for i in range(len(rows)) if i % 8 != 7], "validation": list(range(7, len(rows), 8))}
    for split, documents in splits.items():
        mine = [shard for shard in shards if shard["split"] == split]
        for shard in mine:
            inside, documents = documents[: shard["documents"]], documents[shard["documents"] :]
            assert (shard["first_document"], shard["end_document"]) == (inside[0], inside[-1] + 1)
            assert shard["end_row"] == rows[inside[-1]]
            assert shard["tokens"] == len(tokens_in(folder / shard["file"]))
        assert documents == []


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_processes(corpus, tmp_path, monkeypatch):
    whole = contents(make(corpus, tmp_path / "0"))
    monkeypatch.setattr(tokenizing, "CHUNK_CHARACTERS", 900)
    for workers in (0, 2):
        assert contents(make(corpus, tmp_path / f"{workers} and small chunks", workers=workers)) == whole
    monkeypatch.setattr(tokenizing, "CHUNK_DOCUMENTS", 1)
    assert contents(make(corpus, tmp_path / "one by one", workers=1)) == whole


@pytest.mark.slow
def test_few_chunks_are_read_ahead(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "CHUNK_DOCUMENTS", 3)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = []

    def documents():
        for place, document in open_corpus([f"text {number}" for number in range(1000)]).documents():
            read.append(place)
            yield place, document

    tokens = tokenizing.tokenize(tmp_path / "tokenizer.json", documents(), workers=2)
    for number, (place, _) in enumerate(tokens):  # noqa: B007 - looked at after the loop
        assert len(read) - number <= 3 * (2 * 2 + 1) + 1
        if number == 100:
            break
    assert place.document == 101
    tokens.close()


@pytest.mark.parametrize("seed", range(3))
def test_the_quick_encoder_makes_the_tokens_of_encode_documents(tokenizer, seed):
    texts = [text or "x" for text in random_texts(seed, 20)]
    tokens, lengths = text_encoder(tokenizer)(texts)
    expected = [tokens for tokens, _ in encode_documents(tokenizer, open_corpus(texts))]
    assert np.array_equal(tokens, np.concatenate(expected))
    assert lengths.tolist() == [len(one) for one in expected]


@pytest.mark.slow
def test_a_large_vocabulary_makes_npy_shards(corpus, tmp_path):
    entries = [*(f"<{number}>" for number in range(70_000)), END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({entry: number for number, entry in enumerate(entries)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    folder = make(corpus, tmp_path / "shards", tokenizer=str(tmp_path / "tokenizer.json"))
    made = np.concatenate([tokens_in(file) for file in sorted(folder.glob("train-*.npy"))])
    assert made.dtype == np.uint32
    assert made.min() >= 70_000
    assert np.array_equal(made, token_stream(load_tokenizer(folder), open_corpus(corpus, "train")))
    shards = open_shards(folder, "train")
    assert np.array_equal(shards.windows(np.array([0]), len(shards))[0], made)


KINDS = [
    (kinds.qwen2, "<|endoftext|>"),
    (kinds.sentencepiece, "<s>"),
    (kinds.unigram, "</s>"),
    (kinds.wordpiece, "[CLS]"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "border"), KINDS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_tokenizer_of_any_kind_makes_shards_to_train_on_and_a_checkpoint_to_measure(kind, border, tmp_path, capfd):
    """Of each document the shards hold its own tokens behind the border, and the border of no text."""
    tokenizer = kind()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    texts = [f"The quick brown fox jumps over lazy dogs; it sleeps near the café. {number}" for number in range(40)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    given = {"tokenizer": str(tmp_path / "tokenizer")}
    if kind is kinds.wordpiece:
        with pytest.raises(
            InterpError, match="no file beside it names a bos or eos token; name the token with --border"
        ):
            make(tmp_path / "corpus.jsonl", tmp_path / "shards", **given)
        given["border"] = border
    folder = make(tmp_path / "corpus.jsonl", tmp_path / "shards", overwrite=True, shard_tokens=10**6, **given)
    own, index = tokenizer_of(folder), tokenizer.convert_tokens_to_ids(border)
    assert own is not None and own.bos_token == border
    [file] = folder.glob("train-*")
    expected = [[index, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in texts]
    trained = np.concatenate([tokens for number, tokens in enumerate(expected) if number % 8 != 7])
    assert tokens_in(file).tolist() == trained.tolist()
    assert file.suffix == (".npy" if kind is kinds.qwen2 else ".bin")
    if kind is kinds.qwen2:
        assert trained.max() > 2**16 and open_shards(folder, "train").d_vocab == kinds.LARGEST + 1
    spelled = f"before{border}after {border} <s></s> [CLS] {border}"
    for encoded in (text_encoder(own)([spelled])[0], next(encode_documents(own, open_corpus([spelled])))[0]):
        assert encoded[0] == index and index not in encoded[1:]
    config = TrainConfig(
        corpus=str(folder), preset="mini", steps=1, batch_size=2, context=16, evaluate_every=1, validation_tokens=64,
        output=tmp_path / "run",
    )  # fmt: skip
    asked = {"workers": 0, "nulls": 0, "shifts": 0, "replicates": 2, "fit_tokens": 0}
    tokens = interp.amplification(str(train(config)), texts[7:8] * 3, "surface", **asked).tokens
    assert set(tokens["token_index"]) == set(expected[7]) and set(tokens["count"]) <= set(
        range(3, 3 * len(expected[7]))
    )


def test_a_given_tokenizer_is_used_and_kept_beside_the_shards(corpus, tmp_path, tokenizer):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    folder = make(corpus, tmp_path / "shards", tokenizer=str(tmp_path))
    found = tokenizer_of(folder)
    assert found is not None
    assert found.get_vocab() == tokenizer.get_vocab()
    assert open_shards(folder, "train").d_vocab == len(tokenizer)
    assert is_shards(folder)


def test_a_streamed_data_set_gives_the_shards_of_its_texts(corpus, tmp_path):
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"text": random_texts(0)}), tmp_path / "set" / "a.parquet", row_group_size=10)
    streamed, local = make(f"hf:{tmp_path / 'set'}", tmp_path / "streamed"), make(corpus, tmp_path / "local")
    files = {name: content for name, content in contents(local).items() if name != "manifest.json"}
    assert {name: content for name, content in contents(streamed).items() if name != "manifest.json"} == files


@pytest.mark.slow
@pytest.mark.parametrize("documents", [8, 41, 10**6])
def test_shards_of_the_first_documents_are_those_of_a_corpus_that_ends_there(corpus, tmp_path, documents, tokenizer):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    given = {"tokenizer": str(tmp_path / "tokenizer.json"), "shard_tokens": 200}
    texts = [document.text for document in open_corpus(corpus)]  # without the empty ones, which do not count
    (tmp_path / "short.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts[:documents]))
    first = make(corpus, tmp_path / "first", documents=documents, **given)
    short = make(tmp_path / "short.jsonl", tmp_path / "short", **given)
    names = sorted(path.name for path in short.glob("*.bin"))
    assert names and names == sorted(path.name for path in first.glob("*.bin"))
    assert all((first / name).read_bytes() == (short / name).read_bytes() for name in names)


def test_the_text_column_can_be_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in random_texts(1)))
    folder = make(tmp_path / "a.jsonl", tmp_path / "shards", text_field="body")
    assert len(open_shards(folder, "train")) > 1000


@pytest.mark.slow
def test_a_script_without_a_main_guard_can_prepare_with_processes(corpus, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from interp.data.shards.prepare import prepare; from interp.data.shards.config import PrepareConfig\n"
        "print('once')\n"
        "prepare(PrepareConfig(sys.argv[1], sys.argv[2], vocabulary=300, workers=2, shard_tokens=700))\n"
    )
    command = [sys.executable, str(script), str(corpus), str(tmp_path / "made")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "once\n", done.stderr
    assert contents(tmp_path / "made") == contents(make(corpus, tmp_path / "shards"))


@pytest.mark.slow
def test_tokenizing_processes_start_without_torch():
    check = "import sys, interp.data.tokenizer; sys.exit('torch' in sys.modules or 'spacy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_bad_numbers_are_refused_at_once(tmp_path):
    with pytest.raises(InterpError, match="cannot be -1 tokenizing processes"):
        PrepareConfig("c", tmp_path, workers=-1)
    with pytest.raises(InterpError, match="shard of 0 tokens cannot be; give 1 to 2,147,483,647"):
        PrepareConfig("c", tmp_path, shard_tokens=0)
    with pytest.raises(InterpError, match="0 documents make no shards"):
        PrepareConfig("c", tmp_path, documents=0)


def test_a_corpus_without_a_held_out_document_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(InterpError, match=r"validation split of .* is empty.*give at least 8"):
        make(tmp_path / "one.txt", tmp_path / "shards")
    with pytest.raises(InterpError, match="neither a file, a folder nor a corpus"):
        make(tmp_path / "absent", tmp_path / "shards")
    assert not (tmp_path / "shards").exists()

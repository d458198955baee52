"""Tokenizers as people have them: files beside the vocabulary, borders of other names, ids with holes, broken libraries."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import interp
from interp.data.contexts import token_stream
from interp.data.corpora.corpus import open_corpus
from interp.data.shards.config import PrepareConfig
from interp.data.shards.manifest import verify
from interp.data.shards.open import open_shards, tokenizer_of
from interp.data.shards.prepare import prepare
from interp.errors import InterpError
from interp.model.checkpoint import load_model, save_checkpoint
from interp.model.config import ModelConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.replicate.config import ReplicateConfig
from interp.train.config import TrainConfig
from interp.train.loop import train
from interp.vocabulary import (
    END_OF_TEXT,
    border_id,
    library_errors,
    load_tokenizer,
    tokenizer_sha256,
    tokenizer_texts,
    vocabulary_size,
    wrap,
)

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TEXTS = [f"the rain in Spain fell on {number} plains" for number in range(16)]


def byte_level(special=("<s>", "</s>"), hole=0):
    """A tokenizer of bytes, then a hole between the ids, then special tokens."""
    entries = {entry: index for index, entry in enumerate(ALPHABET)}
    entries |= {token: 256 + hole + index for index, token in enumerate(special)}
    tokenizer = Tokenizer(models.BPE(entries, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def written(folder, tokenizer, **beside):
    """A tokenizer's folder, with files beside its tokenizer.json: tokenizer_config={...} and so on."""
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, values in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


BOS, EOS = {"bos_token": "<s>"}, {"bos_token": None, "eos_token": {"content": "</s>", "lstrip": False}}
BORDERS = {
    "the bos token of the config": ({"tokenizer_config": BOS | {"eos_token": "</s>"}}, "<s>"),
    "the eos token where there is no bos": ({"tokenizer_config": EOS}, "</s>"),
    "the map of special tokens": ({"special_tokens_map": {"bos_token": {"content": "<s>"}}}, "<s>"),
    "the config before the map": ({"tokenizer_config": BOS, "special_tokens_map": {"bos_token": "</s>"}}, "<s>"),
}


@pytest.mark.parametrize("case", BORDERS)
def test_the_border_is_what_the_files_of_a_folder_name(tmp_path, case):
    beside, border = BORDERS[case]
    folder = written(tmp_path / "mine", byte_level(), **beside)
    for path in (folder, folder / "tokenizer.json"):
        tokenizer = load_tokenizer(path)
        assert tokenizer.convert_ids_to_tokens(border_id(tokenizer)) == border
        assert {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token} == {border}
    other = load_tokenizer(folder, border="<s>" if border == "</s>" else "</s>")
    assert border_id(other) != border_id(tokenizer)
    assert tokenizer_sha256(other) != tokenizer_sha256(tokenizer)


def test_gpt2s_border_goes_before_an_eos_token_and_after_a_bos_token(tmp_path):
    tokenizer = byte_level(("<s>", "</s>", END_OF_TEXT))
    for beside, border in (
        ({}, END_OF_TEXT),
        ({"tokenizer_config": EOS}, END_OF_TEXT),
        ({"tokenizer_config": BOS}, "<s>"),
    ):
        assert load_tokenizer(written(tmp_path / "mine", tokenizer, **beside)).bos_token == border


REFUSED = {
    "no border": ({}, None, r"has no <\|endoftext\|> token, .* name the token with --border, or with border= in Python"),
    "a border it has not": ({}, "<x>", "has no token '<x>' to stand before documents"),
    "a bos token it has not": ({"tokenizer_config": {"bos_token": "<x>"}}, None, "name the token '<x>' .* does not have"),
    "a bos token of another kind": ({"tokenizer_config": {"bos_token": 3}}, None, r"has the bos_token 3; expected a token"),
    "a broken config": ({"tokenizer_config": []}, None, r"tokenizer_config\.json holds a JSON list"),
    "added tokens of another kind": ({"added_tokens": {"<m>": "x"}}, None, "are no tokens with their ids"),
    "an added token without text": ({"tokenizer_config": {"added_tokens_decoder": {"9": {}}}}, None, "are no tokens"),
    "an added token of another id": (
        {"added_tokens": {"<s>": 7}}, None,
        r"added_tokens\.json gives '<s>' the id 7, with tokenizer\.json it has 256; the files do not belong together",
    ),
    "an id that cannot be given": ({"added_tokens": {"<m>": 999}}, None, "'<m>' the id 999, .* it has 258"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_do_not_go_together_are_one_sentence(tmp_path, case):
    beside, border, message = REFUSED[case]
    with pytest.raises(InterpError, match=message) as error:
        load_tokenizer(written(tmp_path / "mine", byte_level(), **beside), border)
    assert "\n" not in str(error.value)


def test_added_tokens_beside_the_vocabulary_are_part_of_it(tmp_path):
    decoder = {"256": {"content": "<s>", "special": True}, "259": {"content": "<y>", "special": False}}
    config = {"bos_token": "<s>", "added_tokens_decoder": decoder}
    tokenizer = load_tokenizer(
        written(tmp_path / "one", byte_level(), added_tokens={"<x>": 258}, tokenizer_config=config)
    )
    assert vocabulary_size(tokenizer) == 260
    assert tokenizer.encode("a<y>b<x>", add_special_tokens=False)[1::2] == [259, 258]
    assert "<x>" in tokenizer.get_added_vocab()


def test_a_pair_of_vocabulary_and_merges_has_its_files_beside_it_too(tmp_path):
    folder = written(tmp_path / "pair", byte_level(("<s>",)), tokenizer_config=BOS | {"add_prefix_space": True})
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = load_tokenizer(folder)
    assert border_id(tokenizer) == 256
    assert tokenizer.decode(tokenizer.encode("rain")) == " rain"


def test_a_tokenizer_made_elsewhere_is_asked_for_its_bos_then_its_eos_token():
    tokenizer = wrap(byte_level(), "<s>")
    tokenizer.eos_token = "</s>"
    assert border_id(tokenizer) == 256
    tokenizer.bos_token = None
    assert border_id(tokenizer) == 257
    tokenizer.eos_token = None
    with pytest.raises(InterpError, match="neither a bos nor an eos token"):
        border_id(tokenizer)


def test_a_checkpoint_keeps_the_border_and_another_takes_its_place(tmp_path):
    place, texts = tmp_path / "checkpoint", ["a", "the rain"]
    for border in ("<s>", END_OF_TEXT, "</s>"):
        tokenizer = wrap(byte_level(("<s>", "</s>", END_OF_TEXT), hole=5), border)
        cfg = ModelConfig(1, 8, 2, 16, vocabulary_size(tokenizer))
        save_checkpoint(HookedSymmetryBrokenTransformer(cfg, tokenizer), place)
        loaded = load_model(place, "cpu")
        assert loaded.need_tokenizer().bos_token == border
        rows = loaded.to_tokens(texts)
        assert rows[:, 0].tolist() == [border_id(tokenizer)] * 2
        assert rows[0, -1] == border_id(tokenizer), "the border pads"
        generated = loaded.generate("the rain", 3, verbose=False, return_type="tokens")
        assert generated.shape[-1] <= 12
    assert set(tokenizer_texts(wrap(byte_level((END_OF_TEXT,))))) == {"tokenizer.json"}


@pytest.fixture
def spanish(tmp_path):
    """A tokenizer's folder with a border of another name and a hole between its ids; texts in a file."""
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return written(tmp_path / "spanish", byte_level(hole=700), tokenizer_config=EOS), str(tmp_path / "texts.jsonl")


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_shards_have_the_border_before_every_document_and_know_the_largest_id(spanish, tmp_path, workers):
    folder, texts = spanish
    for border, index in ((None, 957), ("<s>", 956))[workers:]:  # one with a process
        config = PrepareConfig(texts, tmp_path / "shards", str(folder), border, workers=workers, overwrite=True)
        shards = prepare(config)
        stream = open_shards(shards, "train")
        assert stream.d_vocab == 958 and verify(shards) == []
        tokens = stream.windows(np.array([0]), len(stream))[0]
        assert (tokens == index).sum() == 14 and tokens[0] == index
        assert np.array_equal(tokens, token_stream(tokenizer_of(shards), open_corpus(texts, "train")))
    with pytest.raises(InterpError, match="border was <s>, is None"):
        prepare(PrepareConfig(texts, tmp_path / "shards", str(folder)))
    (shards / "tokenizer_config.json").write_text(json.dumps(EOS))
    with pytest.raises(InterpError, match="not the tokenizer the shards were made with"):
        tokenizer_of(shards)
    assert any("not the one that the shards were made with" in problem for problem in verify(shards))


def test_a_changed_file_beside_a_tokenizer_is_another_tokenizer(spanish, tmp_path):
    folder, texts = spanish
    prepare(PrepareConfig(texts, tmp_path / "shards", str(folder), workers=0))
    (folder / "tokenizer_config.json").write_text(json.dumps(BOS))
    with pytest.raises(InterpError, match=r"tokenizer was sha256 \w{16}, is sha256 \w{16}"):
        prepare(PrepareConfig(texts, tmp_path / "shards", str(folder), workers=0))


def test_a_run_trains_and_is_measured_with_a_border_of_another_name(spanish, tmp_path):
    folder, texts = spanish
    sizes = {"preset": "mini", "context": 16, "batch_size": 2, "steps": 1}
    run = train(TrainConfig(texts, str(folder), "<s>", output=tmp_path / "run", **sizes))
    model = load_model(run, "cpu")
    assert model.cfg.d_vocab == 958 and border_id(model.need_tokenizer()) == 956
    assert "--border '<s>'" in json.loads((run / "config.json").read_text())["training"]["command"]
    asked = {"schemes": "surface", "workers": 0, "nulls": 0, "shifts": 0, "fit_tokens": 0}
    found = interp.amplification(model, TEXTS, **asked)
    assert found.run["n_documents"] == 16
    bos = found.heads.query("token_class == 'bos'")
    assert set(bos["n_tokens"]) == {16}
    with pytest.raises(InterpError, match=r"border was <s>, now </s>"):
        train(TrainConfig(texts, str(folder), "</s>", output=run, resume=True, **sizes))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(border="<s>"),
        lambda: PrepareConfig("texts", Path("shards"), border="<s>"),
        lambda: ReplicateConfig(border="<s>"),
    ],
    ids=["train", "prepare", "replicate"],
)
def test_a_border_without_a_tokenizer_is_refused(make):
    with pytest.raises(InterpError, match="border is '<s>', but no tokenizer is named"):
        make()


class PanicException(BaseException):
    """What pyo3 makes of a panic in Rust: it passes every `except Exception`."""


def panic(*_, **__):
    raise PanicException("called `Option::unwrap()` on a `None` value\nnote: run with RUST_BACKTRACE=1")


def test_panics_of_the_library_are_one_sentence(tmp_path, monkeypatch):
    folder = written(tmp_path / "mine", byte_level(), tokenizer_config=BOS)
    with monkeypatch.context() as patch:
        patch.setattr("interp.vocabulary.Tokenizer", SimpleNamespace(from_str=panic))
        with pytest.raises(
            InterpError, match=r"is not a tokenizer\.json \(called `Option::unwrap.*\); write it again"
        ) as error:
            load_tokenizer(folder)
        assert "\n" not in str(error.value)
    monkeypatch.setattr("interp.vocabulary.PreTrainedTokenizerFast.encode", panic)
    with pytest.raises(InterpError, match="The tokenizer cannot split a text"):
        load_tokenizer(folder)


def test_what_is_no_error_of_the_library_passes():
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(kind), library_errors("told", "remedy"):
            raise kind


def test_a_vocabulary_that_lacks_letters_is_refused_when_it_is_loaded(tmp_path):
    tokenizer = Tokenizer(models.WordPiece({"<s>": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(InterpError, match=r"cannot split a text \(.*\[UNK\].*\); use another"):
        load_tokenizer(written(tmp_path / "mine", tokenizer, tokenizer_config=BOS))


def test_hooks_see_the_border_at_the_start(tmp_path):
    tokenizer = wrap(byte_level(), "</s>")
    model = HookedSymmetryBrokenTransformer(ModelConfig(1, 8, 2, 16, 258), tokenizer).eval()
    _, cache = model.run_with_cache("rain")
    assert torch.equal(cache["hook_embed"][0, 0], model.W_E[257])

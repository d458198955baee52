"""How tokens are shown: whole characters as text, pieces of them by their bytes."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import interp
from interp.data.classes.built_in import SURFACES, surfaces
from interp.data.tokenizer import train_tokenizer
from interp.evals.puzzles import evaluate
from interp.evals.puzzles.items import Item
from interp.spelling import token_strings, token_texts
from interp.vocabulary import END_OF_TEXT, wrap

EMOJI = "😀"  # F0 9F 98 80


def byte_fallback(*names):
    """A tokenizer of SentencePiece's kind: blanks are ▁, bytes are tokens named <0xF0>."""
    known = [END_OF_TEXT, *(f"<0x{byte:02X}>" for byte in range(256)), *names]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(known)}, [], byte_fallback=True))
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return wrap(tokenizer)


@pytest.fixture(scope="module")
def merging():
    """A byte-level tokenizer that has learned a blank with the first half of an emoji, and U+FFFD."""
    return train_tokenizer(["😀 😁 😂 \N{REPLACEMENT CHARACTER} " * 40], 300)


def test_every_byte_of_a_byte_level_tokenizer_is_itself(merging):
    alphabet = [token for token in range(len(merging)) if len(merging.convert_ids_to_tokens(token)) == 1]
    bytes_of = {text.encode("utf-8", "surrogateescape") for text in token_texts(merging, alphabet)}
    assert bytes_of == {bytes([byte]) for byte in range(256)}
    shown = dict(zip(token_texts(merging, alphabet), token_strings(merging, alphabet), strict=True))
    assert shown["a"] == "a" and shown["\n"] == "\n" and shown["\udcf0"] == "<0xF0>" and shown["\udc80"] == "<0x80>"


def test_tokens_join_to_the_bytes_of_the_text_whatever_they_cut(merging):
    text = f"a {EMOJI} \N{REPLACEMENT CHARACTER}é שלום\x00\u2028"
    tokens = merging.encode(text, add_special_tokens=False)
    joined = "".join(token_texts(merging, tokens)).encode("utf-8", "surrogateescape")
    assert joined == text.encode()
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(token_strings(merging, merging.encode(EMOJI + "é")))


def test_a_piece_with_a_blank_before_it_keeps_the_blank_and_has_its_bytes_together(merging):
    mixed = [name for name in merging.get_vocab() if name.startswith("Ġ") and len(name) > 2]
    shown = token_strings(merging, merging.convert_tokens_to_ids(mixed))
    assert " <0xF0 9F 98>" in shown and all(text.startswith(" ") for text in shown)


def test_the_replacement_character_itself_is_a_character(merging):
    [token] = merging.convert_tokens_to_ids(["ï¿½"])
    assert token_strings(merging, [token]) == ["\N{REPLACEMENT CHARACTER}"]
    assert SURFACES[surfaces(merging)[token]] == "punctuation"


def test_byte_tokens_of_sentencepiece_are_shown_by_their_byte_unless_it_is_a_character():
    tokenizer = byte_fallback("▁the", "é", "\N{REPLACEMENT CHARACTER}", "Ċ")
    names = ["<0xF0>", "<0x41>", "<0x0A>", "▁the", "é", "\N{REPLACEMENT CHARACTER}", "Ċ", END_OF_TEXT]
    shown = token_strings(tokenizer, tokenizer.convert_tokens_to_ids(names))
    assert shown == ["<0xF0>", "A", "\n", "the", "é", "\N{REPLACEMENT CHARACTER}", "Ċ", END_OF_TEXT]
    table = surfaces(tokenizer)
    assert [SURFACES[table[tokenizer.convert_tokens_to_ids(name)]] for name in ("<0xF0>", "<0x41>")] == [
        "bytes", "capitalized",
    ]  # fmt: skip


def test_a_tokenizer_without_a_decoder_shows_its_tokens_as_they_stand():
    names = [END_OF_TEXT, "<0xF0>", "\N{REPLACEMENT CHARACTER}", "word"]
    plain = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, END_OF_TEXT))
    assert token_strings(PreTrainedTokenizerFast(tokenizer_object=plain), [1, 2, 3]) == names[1:]


def test_a_token_that_spells_a_byte_and_an_index_beyond_the_vocabulary_are_no_pieces(merging):
    merging.add_tokens(["<0xF0>", "x\N{REPLACEMENT CHARACTER}"])
    added = merging.convert_tokens_to_ids(["<0xF0>", "x\N{REPLACEMENT CHARACTER}"])
    assert token_strings(merging, added) == ["<0xF0>", "x\N{REPLACEMENT CHARACTER}"]
    assert token_strings(merging, [10_000]) == [""] and token_strings(merging, []) == []


def test_every_table_shows_pieces_of_characters_by_their_bytes(make_model):
    model, texts = make_model(), ["A fox 😀 é 😀. " * 9] * 2
    result = interp.amplification(model, texts, "surface", workers=0, nulls=0, shifts=0, fit_tokens=0, passages=2)
    sentence = interp.read_sentence(model, "A fox 😀.", ["surface"], top=300)
    columns = {
        "tokens": result.tokens["token_string"], "passages": result.passages["token_string"],
        "static": result.static(model)["static_tokens"]["token_string"], "sentence": sentence.tokens["token_string"],
        "predictions": sentence.predictions["token_string"], "top": model.bias_top_tokens(0, 0, k=150)["token"],
    }  # fmt: skip
    for name, column in columns.items():
        known = set(column)
        assert not [token for token in known if "\N{REPLACEMENT CHARACTER}" in token], name
        assert name == "static" or {"<0xF0>", "<0x9F>"} <= known, name
    guesses = evaluate(model, [Item("mine", "A fox", expected=" fox")] * 2).items["guess"]
    assert set(guesses) == set(token_strings(model.tokenizer, [token_of(model, "A fox")]))


def token_of(model, text):
    return int(model(text)[0, -1].argmax())

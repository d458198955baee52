"""How tokens read: as text, or, where one is a piece of a character, by its bytes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

_PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_OTHERS = iter(range(256, 512))
_LETTERS = [chr(byte if byte in _PRINTABLE else next(_OTHERS)) for byte in range(256)]
"""How byte-level tokenizers write each byte: a printable one as its Latin-1 letter, the others as letters from U+0100 on."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # of SentencePiece
PIECES = re.compile("[\udc80-\udcff]+")
"""Bytes that are no whole character, in the strings of `token_texts`."""


def token_strings(tokenizer: PreTrainedTokenizerFast, tokens: Iterable[int]) -> list[str]:
    """Return each token as people are shown it: a piece of a character by its bytes, " <0xF0 9F>", anything else as text."""
    return [PIECES.sub(_shown, text) for text in token_texts(tokenizer, tokens)]


def token_texts(tokenizer: PreTrainedTokenizerFast, tokens: Iterable[int]) -> list[str]:
    """Return the text of each token alone, special ones too. A byte b that is no whole character is the code point DC00 + b.

    So Python writes bytes that it cannot decode ("surrogateescape"): ``text.encode("utf-8", "surrogateescape")`` is what the
    token stands for, exactly, and a token that is U+FFFD itself is told from a piece of something.
    """
    tokens = [int(token) for token in tokens]
    texts = tokenizer.backend_tokenizer.decode_batch([[token] for token in tokens], skip_special_tokens=False)
    if not (doubtful := [place for place, text in enumerate(texts) if _REPLACEMENT in text]):
        return texts
    spelled = _Spelling(tokenizer.backend_tokenizer)
    for place in doubtful:
        if (found := spelled.bytes_of(tokens[place])) is not None:
            texts[place] = found.decode("utf-8", "surrogateescape")
    return texts


def spaced_texts(tokenizer: PreTrainedTokenizerFast, tokens: Iterable[int]) -> list[str]:
    """Return `token_texts` with the space that SentencePiece tokens begin with, which decoders leave out of one alone."""
    tokens = [int(token) for token in tokens]
    names = tokenizer.convert_ids_to_tokens(tokens)
    texts = zip(token_texts(tokenizer, tokens), names, strict=True)
    return [f" {text}" if str(name).startswith("▁") and not text.startswith(" ") else text for text, name in texts]


def joined(texts: Iterable[str]) -> str:
    """Return the text that tokens spell together, from their `token_texts`; pieces that stay no character become U+FFFD."""
    return "".join(texts).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def at_words(texts: Sequence[str], first: int, last: int, focus: int) -> tuple[int, int]:
    """Return the widest first:last inside these two that holds the token `focus` and cuts no word of `texts`.

    An end stays where it is if there is no such cut, as in scripts that put no spaces. What comes before and after the texts
    is taken for more of a word; "" stands for a border that ends words.
    """
    start = next((cut for cut in range(first, focus + 1) if not _inside(texts, cut)), first)
    return start, next((cut for cut in range(last, focus, -1) if not _inside(texts, cut)), last)


def _inside(texts: Sequence[str], cut: int) -> bool:
    """Whether a cut before the token `cut` is inside of a word, or of a character of several tokens."""
    before = texts[cut - 1] if cut else "x"
    after = texts[cut] if cut < len(texts) else "x"
    if not before or not after:
        return False
    if _in_words(after[0]):  # "well-known", "5.30" and "doesn't" go on after their middle
        return _in_words(before[-1]) or before in MIDDLES
    further = after[1:] or "".join(texts[cut + 1 : cut + 2])
    return after[0] in MIDDLES and _in_words(further[:1]) and _in_words(before[-1])


def _in_words(letter: str) -> bool:
    return bool(letter) and (unicodedata.category(letter)[0] in "LMN" or PIECES.match(letter) is not None)


MIDDLES = ("'", "’", "-", ".", ",")
"""What stands inside of words and numbers, between two letters or digits."""


class _Spelling:
    """How a vocabulary writes bytes, as its decoder tells: in GPT-2's alphabet of 256 letters, or as tokens named <0xF0>."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, decoder = tokenizer, tokenizer.decoder
        self.added = set(tokenizer.get_added_tokens_decoder())
        letters = decoder is not None and decoder.decode([_LETTERS[ord("\n")]]) == "\n"
        self.byte_of = {letter: byte for byte, letter in enumerate(_LETTERS)} if letters else {}
        self.named = decoder is not None and decoder.decode([f"<0x{byte:02X}>" for byte in "€".encode()]) == "€"

    def bytes_of(self, token: int) -> bytes | None:
        """Return the bytes that a token stands for; None where it is text as it stands."""
        name = self.tokenizer.id_to_token(token)
        if name is None or token in self.added:
            return None
        if self.named and (found := _BYTE_TOKEN.fullmatch(name)):
            return bytes.fromhex(found[1])
        if self.byte_of.keys() >= set(name):
            return bytes(self.byte_of[letter] for letter in name)
        return None


def _shown(piece: re.Match[str]) -> str:
    return f"<0x{piece[0].encode('utf-8', 'surrogateescape').hex(' ').upper()}>"

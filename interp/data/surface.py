"""What a token looks like, told from its own string: the scheme `surface`."""

import unicodedata

import numpy as np
from jaxtyping import Int64
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

SURFACES = (
    "word start",  # lower-case letters after a blank
    "continuation",  # lower-case letters without a blank before them
    "capitalized",  # the first letter is upper-case
    "digits",  # at least one
    "punctuation",  # and symbols, emoji among them: neither letters nor digits
    "whitespace",
    "non-ascii",  # letters or marks beyond ASCII
    "bytes",  # a piece of a multi-byte character
)

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def surfaces(tokenizer: PreTrainedTokenizerFast) -> Int64[np.ndarray, " d_vocab"]:
    """Return the index into `SURFACES` of every token of the vocabulary."""
    backend = tokenizer.backend_tokenizer
    ids = list(range(len(tokenizer)))
    strings = backend.decode_batch([[token] for token in ids], skip_special_tokens=False)
    # Bytes that are no whole character decode to U+FFFD; so does U+FFFD itself, which is a character like any other.
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(_REPLACEMENT)[0][0]
    whole = [(backend.id_to_token(token) or "").count(spelled) for token in ids]
    found = (
        "bytes" if string.count(_REPLACEMENT) > expected else surface(string)
        for string, expected in zip(strings, whole, strict=True)
    )
    return np.array([SURFACES.index(name) for name in found], dtype=np.int64)


def surface(string: str) -> str:
    """Return the surface of a token's string, the first that fits in the order of the questions below."""
    body = string.strip()
    if not body:
        return "whitespace"
    if any(character.isdecimal() for character in body):
        return "digits"
    if not any(_is_letter_or_mark(character) for character in body):
        return "punctuation"
    if not body.isascii():
        return "non-ascii"
    if next(character for character in body if character.isalpha()).isupper():
        return "capitalized"
    return "word start" if string[0].isspace() else "continuation"


def _is_letter_or_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"

"""What a tokenizer is to models and data alike: a `tokenizer.json`, and the one token that borders documents."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.files import parse_json

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token. It stands before every document, and is bos, eos, unk and pad at once."""

_PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_OTHERS = iter(range(256, 512))
_LETTERS = [chr(byte if byte in _PRINTABLE else next(_OTHERS)) for byte in range(256)]
"""How byte-level tokenizers write each byte: a printable one as its Latin-1 letter, the others as letters from U+0100 on."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # of SentencePiece
PIECES = re.compile("[\udc80-\udcff]+")
"""Bytes that are no whole character, in the strings of `token_texts`."""

_HUB_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*(?<!\.json)")


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a `tokenizer.json`, from a folder that holds one, or from the Hugging Face hub by its id.

    What exists on disk goes before the hub; "gpt2" or "owner/name" is looked for there, in its cache first.

    Raises:
        InterpError: no such file, no way to the hub, not a tokenizer, or without the token that stands between documents.
    """
    local = Path(path).expanduser()
    file = local / "tokenizer.json" if local.is_dir() else local
    here = len(local.parts) > 1 and local.parent.is_dir()  # then it is mistyped, and no owner's name
    if not file.is_file() and not local.is_dir() and not here and _HUB_ID.fullmatch(str(path)):
        file = _download(str(path))
    if not file.is_file():
        raise InterpError(f"There is no tokenizer at {file}; expected a tokenizer.json as `tokenizers` writes it.")
    tokenizer = _read(file)
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise InterpError(f"The tokenizer {file} has no {END_OF_TEXT} token, which must stand before every document.")
    return wrap(tokenizer)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, file: Path) -> None:
    """Write a tokenizer.json, by Python: on a full disk `tokenizers` raises a bare Exception, Python an OSError."""
    file.write_text(tokenizer.backend_tokenizer.to_str(pretty=True), encoding="utf-8")


def _read(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(parse_json(file.read_bytes())))
    except OSError as error:
        raise InterpError(f"Cannot read {file}: {error.strerror}.") from error
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InterpError(f"{file} is not a tokenizer.json ({error}); write it again with `tokenizers`.") from error


def _download(name: str) -> Path:
    import huggingface_hub  # late: most tokenizers are files

    try:
        return Path(huggingface_hub.hf_hub_download(name, "tokenizer.json"))
    except Exception as error:  # of the hub, of the network below it
        raise InterpError(
            f"{name!r} is no file or folder, and the Hugging Face hub gave no tokenizer of that name "
            f"({type(error).__name__}); check the name and the network, or download its tokenizer.json and give the path."
        ) from error


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return a checksum of how a tokenizer splits text; padding and truncation, which calls change, are no part of it."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in ("padding", "truncation"):
        parts.pop(setting, None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the largest id + 1, which d_vocab must reach: with gaps between the ids it is more than their number."""
    return max(tokenizer.get_vocab().values()) + 1


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


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer as the class TransformerLens uses, with its special tokens named."""
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)

"""What a tokenizer is to models and data alike: a `tokenizer.json`, and the one token that borders documents."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token. It stands before every document, and is bos, eos, unk and pad at once."""


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a `tokenizer.json`, or from a folder that holds one.

    Raises:
        InterpError: no such file, not a tokenizer, or without the token that stands between documents.
    """
    path = Path(path).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InterpError(f"There is no tokenizer at {file}; expected a tokenizer.json as `tokenizers` writes it.")
    try:
        tokenizer = Tokenizer.from_str(json.dumps(json.loads(file.read_text(encoding="utf-8"))))
    except OSError as error:
        raise InterpError(f"Cannot read {file}: {error.strerror}.") from error
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InterpError(f"{file} is not a tokenizer.json ({error}); write it again with `tokenizers`.") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise InterpError(f"The tokenizer {file} has no {END_OF_TEXT} token, which must stand before every document.")
    return wrap(tokenizer)


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer as the class TransformerLens uses, with its special tokens named."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )

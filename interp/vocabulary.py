"""What a tokenizer is to models and data alike: a `tokenizer.json`, and the one token that borders documents."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.files import parse_json

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token. It stands before every document, and is bos, eos, unk and pad at once."""

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
    return wrap(tokenizer, str(path))


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


def wrap(tokenizer: Tokenizer, name_or_path: str = "") -> PreTrainedTokenizerFast:
    """Return a tokenizer as the class TransformerLens uses, with its special tokens, and where it is from, named."""
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, name_or_path=name_or_path, **special
    )
    # TransformerLens then takes the tokenizer as it is and puts bos before a text itself; else it would load another one
    # from `name_or_path`. Given to the constructor, it would change how the tokenizer encodes.
    wrapped.init_kwargs["add_bos_token"] = True
    return wrapped

"""What a tokenizer is to models and data alike: the files it is read from, and the one token that borders documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.files import is_hub_id, parse_json, read_json
from interp.provenance import file_sha256

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token. It stands before every document, unless a tokenizer's files or `border` name another."""

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
COMPANIONS = (CONFIG, "special_tokens_map.json", "added_tokens.json")
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # Hugging Face's names and OpenAI's
TOKENIZER_FILES = (TOKENIZER, *COMPANIONS, TEMPLATE, *PAIRS[0], *PAIRS[1])
"""All that a tokenizer's folder may hold, as Hugging Face and OpenAI name it."""
NOT_SPLIT = ("The tokenizer cannot split a text", "use another, or write it again with `tokenizers`")


def load_tokenizer(path: str | Path, border: str | None = None) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a `tokenizer.json`, from a folder, or from the Hugging Face hub by its id.

    A folder holds a tokenizer.json, or a byte-level vocab.json and merges.txt; what stands beside them is read too, namely
    tokenizer_config.json, special_tokens_map.json and added_tokens.json. What exists on disk goes before the hub; "gpt2" or
    "owner/name" is looked for there, in its cache first.

    Args:
        path: the file, the folder or the id.
        border: the token that stands before every document (default: the bos token that the files name, else
            "<|endoftext|>", else the eos token that they name).

    Raises:
        InterpError: no such file, no way to the hub, not a tokenizer, or without the token that stands between documents.
    """
    files = tokenizer_files(path)
    if not files and not Path(path).expanduser().exists() and is_hub_id(path, bare=True):
        files = tokenizer_files(_download(str(path)))
    if not files:
        place = Path(path).expanduser()
        place = place / TOKENIZER if place.is_dir() else place
        raise InterpError(f"There is no tokenizer at {place}; expected a tokenizer.json as `tokenizers` writes it.")
    beside = {file.name: read_json(file) for file in files if file.name in COMPANIONS}
    tokenizer = _read([file for file in files if file.name not in COMPANIONS], beside.get(CONFIG, {}))
    _add(tokenizer, beside, files[0])
    found = wrap(tokenizer, _border(tokenizer, beside, files[0], border), str(path))
    found.chat_template = _chat_template(files, beside)
    with library_errors(*NOT_SPLIT):
        found.encode("A b.\n")
    return found


def tokenizer_files(path: str | Path) -> list[Path]:
    """Return the files on disk that a path stands for: what splits text first, then what stands beside it; none for none."""
    place = Path(path).expanduser()
    folder, choices = (place.parent, [(place.name,)]) if place.is_file() else (place, [(TOKENIZER,), *PAIRS])
    for names in choices:
        if all((folder / name).is_file() for name in names):
            beside = COMPANIONS if names[0] in TOKENIZER_FILES else ()  # a file of a name of its own stands alone
            return [folder / name for name in (*names, *beside) if (folder / name).is_file()]
    return []


def tokenizer_files_sha256(path: str | Path) -> str | None:
    """Return a checksum of the files on disk that a path stands for, of a lone file its own; None where there are none."""
    files = tokenizer_files(path)
    if len(files) < 2:
        return file_sha256(files[0]) if files else None
    return hashlib.sha256("\n".join(f"{file.name} {file_sha256(file)}" for file in files).encode()).hexdigest()


def tokenizer_texts(tokenizer: PreTrainedTokenizerFast, named: bool = False) -> dict[str, str]:
    """Return what a tokenizer's files hold, by their names: tokenizer.json, and what names the border if it is not GPT-2's,
    and a chat template if there is one.

    Python is to write them: on a full disk `tokenizers` raises a bare Exception, Python an OSError.

    Args:
        tokenizer: whose padding and truncation are part of it.
        named: name GPT-2's border too, as where a file is to take the place of one that names another.
    """
    border, config = _border_of(tokenizer), dict[str, Any]()
    if border is not None and (named or border != END_OF_TEXT):
        config["bos_token"] = border
    if isinstance(tokenizer.chat_template, str):
        config["chat_template"] = tokenizer.chat_template
    texts = {TOKENIZER: tokenizer.backend_tokenizer.to_str(pretty=True)}
    return {**texts, CONFIG: json.dumps(config) + "\n"} if config else texts


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return a checksum of how a tokenizer splits text; padding and truncation, which calls change, are no part of it."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in ("padding", "truncation"):
        parts.pop(setting, None)
    if (border := _border_of(tokenizer)) not in (None, END_OF_TEXT):
        parts["border"] = border
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the largest id + 1, which d_vocab must reach: with gaps between the ids it is more than their number."""
    return max(tokenizer.get_vocab().values()) + 1


def border_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the index of the token that stands before every document: a tokenizer's bos token, else its eos token.

    Raises:
        InterpError: it has neither, as a tokenizer may that was not loaded here.
    """
    for index in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(index, int):
            return index
    raise InterpError("The tokenizer has neither a bos nor an eos token to stand before documents; set its bos_token.")


def wrap(tokenizer: Tokenizer, border: str = END_OF_TEXT, name_or_path: str = "") -> PreTrainedTokenizerFast:
    """Return a tokenizer as the class TransformerLens uses, named by its place; the border is bos, eos, unk and pad."""
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), border)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, name_or_path=name_or_path, **special
    )
    # TransformerLens then takes the tokenizer as it is and puts bos before a text itself; else it would load another one
    # from `name_or_path`. Given to the constructor, it would change how the tokenizer encodes.
    wrapped.init_kwargs["add_bos_token"] = True
    return wrapped


@contextmanager
def library_errors(told: str, remedy: str) -> Iterator[None]:
    """Say in one sentence what `tokenizers` raises: a bare Exception, or the panic of a library in Rust, which is none.

    Raises:
        InterpError: what was `told`, the library's words, the `remedy`.
    """
    try:
        yield
    except (InterpError, OSError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C and the like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InterpError(f"{told} ({reason}); {remedy}.") from error


def _border_of(tokenizer: PreTrainedTokenizerFast) -> str | None:
    border = tokenizer.bos_token or tokenizer.eos_token
    return None if border is None else str(border)


def _read(files: list[Path], config: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json, or of a vocabulary and its merges, as GPT-2's."""
    try:
        if len(files) == 1:
            with library_errors(f"{files[0]} is not a tokenizer.json", "write it again with `tokenizers`"):
                return Tokenizer.from_str(json.dumps(parse_json(files[0].read_bytes())))
        with library_errors(f"{files[0]} and {files[1].name} are no byte-pair vocabulary", "copy both again"):
            tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
    except OSError as error:
        raise InterpError(f"Cannot read {error.filename or files[0]}: {error.strerror}.") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space") is True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add(tokenizer: Tokenizer, beside: Mapping[str, dict[str, Any]], file: Path) -> None:
    """Add the tokens that stand beside the vocabulary, under the ids that they have there."""
    listed = [(index, token, "added_tokens.json") for token, index in beside.get("added_tokens.json", {}).items()]
    decoder = beside.get(CONFIG, {}).get("added_tokens_decoder") or {}
    listed += [(index, token, CONFIG) for index, token in (decoder.items() if isinstance(decoder, dict) else [])]
    try:
        tokens = sorted((int(index), *_token(token), name) for index, token, name in listed)
    except (TypeError, ValueError, OverflowError) as error:
        raise InterpError(
            f"The tokens added beside {file} are no tokens with their ids ({error}); copy it again."
        ) from None
    for index, text, special, name in tokens:
        if tokenizer.token_to_id(text) is None:
            tokenizer.add_tokens([AddedToken(text, special=special, normalized=not special)])
        if (found := tokenizer.token_to_id(text)) != index:
            raise InterpError(
                f"{file.parent / name} gives {text!r} the id {index}, with {file.name} it has {found}; the files do not "
                "belong together: copy the folder again."
            )


def _token(token: Any) -> tuple[str, bool]:
    """Return the text of an added token, a string or a mapping, and whether it is special."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str) or not text:
        raise ValueError(f"{token!r} is none")
    return text, bool(token.get("special")) if isinstance(token, dict) else True


def _border(tokenizer: Tokenizer, beside: Mapping[str, dict[str, Any]], file: Path, asked: str | None) -> str:
    """Return the token that stands before every document: the one asked for, or as the files name it."""
    if asked is not None:
        if tokenizer.token_to_id(asked) is None:
            raise InterpError(
                f"The tokenizer {file} has no token {asked!r} to stand before documents; give one it has."
            )
        return asked
    bos, eos = (_special(beside, kind, file) for kind in ("bos_token", "eos_token"))
    gpt2 = END_OF_TEXT if tokenizer.token_to_id(END_OF_TEXT) is not None else None
    border = bos or gpt2 or eos
    if border is None:
        raise InterpError(
            f"The tokenizer {file} has no {END_OF_TEXT} token, which must stand before every document, and no file beside "
            "it names a bos or eos token; name the token with --border, or with border= in Python."
        )
    if tokenizer.token_to_id(border) is None:
        raise InterpError(
            f"The files beside {file} name the token {border!r} to stand before documents, which the tokenizer does not "
            "have; name another with --border, or with border= in Python."
        )
    return border


def _chat_template(files: list[Path], beside: Mapping[str, dict[str, Any]]) -> str | None:
    """Return the template of chats that stands beside a tokenizer, in a file of its own or in its configuration."""
    known = beside.get(CONFIG, {}).get("chat_template")
    if files[0].name in TOKENIZER_FILES and (file := files[0].parent / TEMPLATE).is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InterpError(f"Cannot read {file} ({error}).") from error
    return known if isinstance(known, str) else None


def _special(beside: Mapping[str, dict[str, Any]], kind: str, file: Path) -> str | None:
    for name in COMPANIONS[:2]:
        if (token := beside.get(name, {}).get(kind)) is not None:
            try:
                return _token(token)[0]
            except ValueError:
                raise InterpError(f"{file.parent / name} has the {kind} {token!r}; expected a token.") from None
    return None


def _download(name: str) -> Path:
    import huggingface_hub  # late: most tokenizers are files

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(TOKENIZER_FILES)))
    except Exception as error:  # of the hub, of the network below it
        raise InterpError(
            f"{name!r} is no file or folder, and the Hugging Face hub gave no tokenizer of that name "
            f"({type(error).__name__}); check the name and the network, or download its tokenizer.json and give the path."
        ) from error

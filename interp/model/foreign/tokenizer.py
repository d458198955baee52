"""The tokenizer for a converted model: the one that was asked for, the one beside the weights, or GPT-2's."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError
from interp.vocabulary import END_OF_TEXT, load_tokenizer, wrap

GPT2_VOCABULARIES = (50257, 50304)  # as it is, and rounded up to a multiple of 64
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # Hugging Face's names and OpenAI's


def tokenizer_for(
    d_vocab: int, asked: str | Path | None, folder: Path | None
) -> tuple[PreTrainedTokenizerFast | None, list[str]]:
    """Return a tokenizer, or None and a note that says why there is none.

    Args:
        d_vocab: the model's vocabulary.
        asked: a tokenizer.json, a folder with one or with GPT-2's two files, or a hub id such as "gpt2".
        folder: where the weights lay.

    Raises:
        InterpError: the tokenizer that was asked for cannot be read, or has more tokens than the model.
    """
    if asked is not None:
        return _fitting(_load(asked), d_vocab, str(asked)), []
    here = folder is not None and any((folder / name).is_file() for name in ("tokenizer.json", PAIRS[0][0]))
    found = folder if here else "gpt2" if d_vocab in GPT2_VOCABULARIES else None
    if found is None:
        return None, [f"No tokenizer: the vocabulary of {d_vocab:,} is not GPT-2's; give it with --tokenizer PATH."]
    try:
        return _fitting(_load(found), d_vocab, str(found)), []
    except InterpError as error:
        return None, [f"No tokenizer: {error} Give one with --tokenizer PATH."]


def _load(place: str | Path) -> PreTrainedTokenizerFast:
    folder = Path(place).expanduser()
    pair = next(((folder / a, folder / b) for a, b in PAIRS if (folder / a).is_file() and (folder / b).is_file()), None)
    if pair is None or (folder / "tokenizer.json").is_file():
        return load_tokenizer(place)
    return _from_pair(*pair)


def _from_pair(vocabulary: Path, merges: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InterpError(f"{vocabulary} and {merges.name} are no byte-pair vocabulary ({error}).") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise InterpError(
            f"The vocabulary {vocabulary} has no {END_OF_TEXT} token, which must stand before every document."
        )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return wrap(tokenizer)


def _fitting(tokenizer: PreTrainedTokenizerFast, d_vocab: int, where: str) -> PreTrainedTokenizerFast:
    if len(tokenizer) > d_vocab:
        raise InterpError(
            f"The tokenizer {where} has {len(tokenizer):,} tokens, the model only {d_vocab:,}; they do not belong together."
        )
    return tokenizer

"""Does it fit? Tensors, sizes and tokenizer of a foreign model against ours; all that is wrong is said in one sentence."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError, few, shown
from interp.vocabulary import PAIRS, TOKENIZER, load_tokenizer, vocabulary_size

Shape = tuple[int, ...]

GPT2_VOCABULARIES = (50257, 50304)  # as it is, and rounded up to a multiple of 64


def fitted(where: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], ignored: str) -> dict[str, Tensor]:
    """Return the tensors of the file `where` that are named in `shapes`, in float32.

    Names that the regular expression `ignored` matches as a whole may be there too.

    Raises:
        InterpError: names that are missing or unknown, or tensors that are of another shape, no floating-point numbers, or
            not finite; the message lists the first of each kind and counts the rest.
    """
    found = {name: tensor for name, tensor in tensors.items() if name in shapes}
    faults = {
        "missing": sorted(shapes.keys() - tensors.keys()),
        "unknown": sorted(n for n in tensors.keys() - shapes.keys() if not re.fullmatch(ignored, n)),
        "of another shape": [_fault(n, t, shapes[n]) for n, t in found.items() if not _fits(t, shapes[n])],
    }
    cast = {} if any(faults.values()) else {name: tensor.detach().to(torch.float32) for name, tensor in found.items()}
    faults["not finite"] = [name for name, tensor in cast.items() if not bool(tensor.isfinite().all())]
    if any(faults.values()):
        told = "; ".join(f"{kind}: {few(names)}" for kind, names in faults.items() if names)
        raise InterpError(f"{where} does not fit: {told}.")
    return cast


def agree(where: str, claimed: Mapping[str, Any], found: Mapping[str, int]) -> None:
    """Refuse a config that says other sizes than the tensors have.

    Raises:
        InterpError: the sizes on which they differ.
    """
    wrong = [f"{name} is {claimed[name]!r} and the tensors have {size}" for name, size in found.items()
             if claimed.get(name, size) != size]  # fmt: skip
    if wrong:
        raise InterpError(f"The config of {where} and its tensors do not belong together: {few(wrong)}.")


def whole_number(where: str, config: Mapping[str, Any], name: str) -> int:
    """Return a field of a config that must be a whole number.

    Raises:
        InterpError: it is missing or something else.
    """
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InterpError(f"The config of {where} has {name} {value!r}; a whole number is expected.")
    return value


def tokenizer_for(
    d_vocab: int, asked: str | Path | None, folder: Path | None, border: str | None = None
) -> tuple[PreTrainedTokenizerFast | None, list[str]]:
    """Return a tokenizer, or None and a note that says why there is none.

    Args:
        d_vocab: the model's vocabulary.
        asked: a tokenizer.json, a folder with one or with GPT-2's two files, or a hub id such as "gpt2".
        folder: where the weights lay.
        border: the token that stands before every document, as `load_tokenizer` takes it.

    Raises:
        InterpError: the tokenizer that was asked for cannot be read, or has more tokens than the model.
    """
    if asked is not None:
        return _fitting(load_tokenizer(asked, border), d_vocab, str(asked)), []
    here = folder is not None and any((folder / name).is_file() for name in (TOKENIZER, PAIRS[0][0]))
    found = folder if here else "gpt2" if d_vocab in GPT2_VOCABULARIES else None
    if found is None:
        return None, [f"No tokenizer: the vocabulary of {d_vocab:,} is not GPT-2's; give it with --tokenizer PATH."]
    try:
        return _fitting(load_tokenizer(found, border), d_vocab, str(found)), []
    except InterpError as error:
        return None, [f"No tokenizer: {error} Give one with --tokenizer PATH."]


def _fits(tensor: Tensor, shape: Shape) -> bool:
    plain = tensor.layout == torch.strided and tensor.is_floating_point() and not tensor.is_meta
    return plain and tuple(tensor.shape) == shape


def _fault(name: str, tensor: Tensor, shape: Shape) -> str:
    return f"{name} is {shown(tensor)}, expected {list(shape)}"


def _fitting(tokenizer: PreTrainedTokenizerFast, d_vocab: int, where: str) -> PreTrainedTokenizerFast:
    if (size := vocabulary_size(tokenizer)) > d_vocab:
        raise InterpError(
            f"The tokenizer {where} has {size:,} tokens, the model only {d_vocab:,}; they do not belong together."
        )
    return tokenizer

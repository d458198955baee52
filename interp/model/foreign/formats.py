"""Recognise a foreign model by its contents, and make a model of ours from it."""

import re
from dataclasses import dataclass
from pathlib import Path

from interp.errors import InterpError, few
from interp.model.config import Activation
from interp.model.export.llama import KINDS
from interp.model.foreign.authors import from_release
from interp.model.foreign.gpt2 import from_hugging_face, from_nanogpt, sizes_beside
from interp.model.foreign.llama import from_llama
from interp.model.foreign.source import Source, open_source
from interp.model.foreign.transformer_lens import from_transformer_lens
from interp.model.transformer import HookedSymmetryBrokenTransformer


@dataclass(frozen=True)
class Foreign:
    """A foreign model, read: the model without a tokenizer, what it was, notes for the reader, and the folder it lay in."""

    model: HookedSymmetryBrokenTransformer
    format: str
    notes: list[str]
    folder: Path | None


def read_foreign(name: str | Path, activation: Activation | None = None) -> Foreign:
    """Read a model of the authors' release, Hugging Face's GPT-2, Llama, Qwen2 or Qwen3, nanoGPT or TransformerLens.

    Args:
        name: a .pt or .safetensors file, a folder, or a hub id.
        activation: "gelu" or "gelu_exact", for nanoGPT and TransformerLens, whose files do not say which.

    Raises:
        InterpError: there is no such model, it is none of these, or does not fit together.
    """
    source = open_source(name)
    format_, (model, notes) = _read(source, activation)
    return Foreign(model.eval(), format_, notes, source.folder)


def _read(
    source: Source, activation: Activation | None
) -> tuple[str, tuple[HookedSymmetryBrokenTransformer, list[str]]]:
    names = "\n".join(source.tensors)
    if re.search(r"^blocks\.\d+\.attn\.W_[QKVO]$", names, re.MULTILINE):
        return "TransformerLens", from_transformer_lens(source, activation)
    gpt2 = re.search(r"^(transformer\.)?h\.\d+\.attn\.c_attn\.weight$", names, re.MULTILINE)
    if gpt2 and not source.beside.get("model_type") and sizes_beside(source):
        return "nanoGPT", from_nanogpt(source, activation)
    if activation is not None:
        raise InterpError(f"{source.where} says itself which activation it has; leave out --activation {activation}.")
    if re.search(r"^transformer\.h\.\d+\.sa\.", names, re.MULTILINE):
        return "the authors' release", from_release(source)
    if source.beside.get("model_type") in KINDS:
        return f"Hugging Face {str(source.beside['model_type']).capitalize()}", from_llama(source)
    if source.beside.get("model_type"):
        return "Hugging Face GPT-2", from_hugging_face(source)
    if gpt2:
        raise InterpError(
            f"{source.where} has GPT-2's weights, but nothing beside them says how many heads there are; give the "
            "folder with its config.json, or nanoGPT's checkpoint with its model_args."
        )
    raise InterpError(
        f"{source.where} is none of the known formats (the authors' release, Hugging Face GPT-2, Llama, Qwen2 "
        "or Qwen3, nanoGPT, TransformerLens); "
        f"its tensors are {few(sorted(source.tensors))}."
    )

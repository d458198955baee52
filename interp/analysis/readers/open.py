"""From what people have in hand to a reader: a model, a bridge, a model of transformers, a folder, a name on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge.bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.own import OwnReader
from interp.analysis.readers.reader import Reader
from interp.errors import InterpError
from interp.files import read_json
from interp.model.checkpoint import find_checkpoint, load_model
from interp.model.transformer import HookedSymmetryBrokenTransformer

ModelLike = HookedSymmetryBrokenTransformer | TransformerBridge | PreTrainedModel | str | Path
"""A model, ours or another's, or the path or name of a checkpoint, ours or Hugging Face's."""


def open_reader(
    model: ModelLike | Reader,
    tokenizer: Any = None,
    context: int | None = None,
    border: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Reader:
    """Return what reads a model.

    Args:
        model: a model, a bridge, a model of transformers, a checkpoint folder of ours or its name, a Hugging Face folder, or
            an id on the Hugging Face hub.
        tokenizer: of a model of transformers; others come with theirs.
        context: tokens of a context (default: the model's, of another's at most 1,024).
        border: the token that stands before every document (default: the tokenizer's bos, else its eos).
        dtype, device: of a model that is loaded.

    Raises:
        InterpError: nothing is there, or it cannot be read; the message says what would work.
    """
    if isinstance(model, Reader):
        return model
    if isinstance(model, str | Path):
        model = _loaded(model, dtype, device)
    if isinstance(model, HookedSymmetryBrokenTransformer):
        return OwnReader(model)
    if isinstance(model, PreTrainedModel):
        model = bridge_of(model, tokenizer)
    if not isinstance(model, TransformerBridge):
        raise InterpError(
            f"{type(model).__name__} is no model that can be read; give one of ours, a TransformerBridge, a model of "
            "transformers, or the path or name of a checkpoint."
        )
    return BridgeReader(model, context, border)


def bridge_of(model: PreTrainedModel, tokenizer: Any) -> TransformerBridge:
    """Return a bridge around a model of transformers that is in memory: around the model itself, not a copy of it.

    Raises:
        InterpError: no tokenizer, or TransformerLens knows no such model.
    """
    name = str(getattr(model.config, "name_or_path", "") or model.config.model_type)
    if tokenizer is None:
        raise InterpError(f"{name} comes without a tokenizer; give it: tokenizer=AutoTokenizer.from_pretrained(...).")
    if model.config.is_encoder_decoder or not model.can_generate():
        raise InterpError(f"{type(model).__name__} does not predict the next token; only models that do can be read.")
    try:
        bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config, model_name=name)
        bridge.tokenizer = (
            tokenizer  # as it is: given to the builder, another would be loaded by its name, from the hub
        )
        return bridge
    except Exception as error:  # of any adapter
        raise InterpError(
            f"TransformerLens' bridge cannot hold {type(model).__name__} ({type(error).__name__}: {first_line(error)})."
        ) from error


def first_line(error: BaseException) -> str:
    """Return the beginning of an error's text."""
    return (str(error).strip().splitlines() or ["no text"])[0][:200]


def _loaded(name: str | Path, dtype: torch.dtype | None, device: Any) -> Any:
    folder = Path(name).expanduser()
    if _is_hugging_face(folder) or not _is_ours(name):
        return _from_hugging_face(str(folder if folder.exists() else name), dtype, device)
    return load_model(name, device=device)


def _is_ours(name: str | Path) -> bool:
    try:
        find_checkpoint(name)
    except InterpError:
        return False
    return True


def _is_hugging_face(folder: Path) -> bool:
    """Whether it is a folder whose config.json is Hugging Face's: ours says its format."""
    file = folder / "config.json"
    if not file.is_file():
        return False
    config = read_json(file)
    return isinstance(config, dict) and "model_type" in config and "format" not in config


def _from_hugging_face(name: str, dtype: torch.dtype | None, device: Any) -> TransformerBridge:
    """Load weights that are safetensors, and no code."""
    try:
        inner = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype or torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, json.JSONDecodeError, RuntimeError) as error:
        raise InterpError(f"{name} cannot be loaded ({type(error).__name__}: {first_line(error)}).") from error
    return bridge_of(inner.to(device) if device is not None else inner, tokenizer)

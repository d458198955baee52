"""From what people have in hand to a reader: a model, a bridge, a model of transformers, a folder, a name on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformer_lens.model_bridge.bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.own import OwnReader
from interp.analysis.readers.reader import Reader
from interp.errors import InterpError
from interp.files import is_hub_id, read_json
from interp.model.checkpoint import find_checkpoint, load_model, tensors_sha256
from interp.model.distributed import choose_device
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.provenance import file_sha256
from interp.vocabulary import load_tokenizer

ModelLike = HookedSymmetryBrokenTransformer | TransformerBridge | PreTrainedModel | str | Path
"""A model, ours or another's, or the path or name of a checkpoint, ours or Hugging Face's."""


def open_reader(
    model: ModelLike | Reader,
    tokenizer: Any = None,
    context: int | None = None,
    border: str | None = None,
    dtype: str | None = None,
) -> Reader:
    """Return what reads a model.

    Args:
        model: a model, a bridge, a model of transformers, a checkpoint folder of ours or its name, a Hugging Face folder, or
            an id on the Hugging Face hub.
        tokenizer: of a model of transformers; all others come with theirs.
        context: tokens of a context (default: the model's, of another's at most 1,024).
        border: the token that stands before every document, of another's model (default: the tokenizer's bos, else its eos).
        dtype: in which a checkpoint is loaded and computes (default: float32).

    Raises:
        InterpError: nothing is there, or it cannot be read; the message says what would work.
    """
    if isinstance(model, Reader):
        return model
    if isinstance(model, str | Path):
        reader = open_reader(_loaded(model, getattr(torch, dtype or "float32")), tokenizer, context, border)
        reader.source = str(model)
        return reader
    if dtype is not None:
        raise InterpError(
            f"dtype={dtype!r} is for a checkpoint that is loaded by its path or name; this model is in memory: cast it, as "
            f"model.to(torch.{dtype}) does, and leave out dtype."
        )
    if isinstance(model, PreTrainedModel):
        model = bridge_of(model, tokenizer)
    elif tokenizer is not None:
        raise InterpError("A tokenizer is given beside a model that comes with its own; leave out tokenizer=.")
    if isinstance(model, HookedSymmetryBrokenTransformer):
        if border is not None:
            raise InterpError(
                f"{model.cfg.model_name} was trained with its own border between documents; leave out border."
            )
        return OwnReader(model, context)
    if not isinstance(model, TransformerBridge):
        raise InterpError(
            f"{type(model).__name__} is no model that can be read; give one of ours, a TransformerBridge, a model of "
            "transformers, or the path or name of a checkpoint."
        )
    return BridgeReader(model, context, border)


def exact_copy(reader: Reader) -> tuple[Reader | None, str]:
    """Return what reads the same model in float32, and what it is; or None, and why there is none.

    The checkpoint is loaded once more; of a model of ours that came in memory, the weights are taken as they are.
    """
    module = getattr(reader.model, "original_model", reader.model)
    gigabytes = 4e-9 * sum(parameter.numel() for parameter in module.parameters())
    if gigabytes > AFFORDED:
        return None, f"a copy in float32 would take {gigabytes:.1f} GB"
    ours = isinstance(reader, OwnReader)
    if reader.source is not None:
        border = None if ours else str(reader.tokenizer.convert_ids_to_tokens(reader.border))
        model, what = _loaded(reader.source, torch.float32, str(reader.device)), "the checkpoint in float32"
        return open_reader(model, None, reader.n_ctx, border), what
    if ours:
        return OwnReader(
            deepcopy(reader.model).float(), reader.n_ctx
        ), "the same weights, as they were given, in float32"
    return None, "the model came in memory"


AFFORDED = 4.0
"""Gigabytes that a copy in float32 may take."""


def bridge_of(model: PreTrainedModel, tokenizer: Any) -> TransformerBridge:
    """Return a bridge around a model of transformers that is in memory: around the model itself, not a copy of it.

    Raises:
        InterpError: no tokenizer, or TransformerLens knows no such model.
    """
    name = str(getattr(model.config, "name_or_path", "") or model.config.model_type)
    name = Path(name).name if Path(name).is_dir() else name
    if tokenizer is None:
        raise InterpError(f"{name} comes without a tokenizer; give it: tokenizer=AutoTokenizer.from_pretrained(...).")
    if model.config.is_encoder_decoder or not model.can_generate():
        raise InterpError(f"{type(model).__name__} does not predict the next token; only models that do can be read.")
    try:
        bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config, model_name=name)
    except Exception as error:  # of any adapter
        raise InterpError(
            f"TransformerLens' bridge cannot hold {type(model).__name__} ({type(error).__name__}: {first_line(error)})."
        ) from error
    bridge.tokenizer = tokenizer  # given to the builder, another would be loaded by its name, from the hub
    return bridge


def first_line(error: BaseException) -> str:
    """Return the beginning of an error's text."""
    return (str(error).strip().splitlines() or ["no text"])[0][:200]


def load_any(name: str | Path, dtype: str = "float32", device: str = "auto", progress: bool = True) -> tuple[Any, str]:
    """Load a model of any kind by its path or name, and return it with a checksum of its weights.

    Args:
        name: of the checkpoint, or its path.
        dtype: of the weights.
        device: "auto", "cpu" or "cuda".
        progress: whether transformers shows its bars.

    Raises:
        InterpError: nothing is there, or it cannot be read.
    """
    with _bars(progress):
        model = _loaded(name, getattr(torch, dtype), device)
    if isinstance(model, HookedSymmetryBrokenTransformer):
        return model, file_sha256(find_checkpoint(name) / "model.safetensors")
    return model, tensors_sha256(model.original_model.state_dict())


def tokenizer_of(name: str | Path) -> Any:
    """Return the tokenizer of a checkpoint of any kind, without its weights.

    Raises:
        InterpError: there is none.
    """
    folder = Path(name).expanduser()
    if not _is_hugging_face(folder) and (not is_hub_id(name) or _is_ours(name)):
        return load_tokenizer(find_checkpoint(name))
    with _said_of(name):
        return AutoTokenizer.from_pretrained(str(folder if folder.exists() else name), trust_remote_code=False)


def _loaded(name: str | Path, dtype: torch.dtype = torch.float32, device: str = "auto") -> Any:
    folder = Path(name).expanduser()
    if _is_hugging_face(folder) or (is_hub_id(name) and not _is_ours(name)):
        return _from_hugging_face(str(folder if folder.exists() else name), dtype, device)
    return load_model(name, device).to(dtype)


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Hide the bars of transformers and of the hub, and bring them back if they were shown."""
    hidden = not shown and logging.is_progress_bar_enabled()
    if hidden:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hidden:
            logging.enable_progress_bar()


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


def _from_hugging_face(name: str, dtype: torch.dtype, device: str) -> TransformerBridge:
    """Load weights that are safetensors, and no code."""
    with _said_of(name):
        inner = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    nn.Module.to(inner, choose_device(device))
    return bridge_of(inner, tokenizer)


@contextmanager
def _said_of(name: str | Path) -> Iterator[None]:
    """Say in a sentence what transformers or the hub raise."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InterpError(
            f"{name} is no checkpoint of this package, and cannot be loaded as Hugging Face's ({type(error).__name__}: "
            f"{first_line(error)}); check the name, the folder and the network."
        ) from error

"""Make checkpoints from models of other formats.

python -m interp.convert runs/ecd-bQbV-seed42/model_best.pt checkpoints/ecd     the authors' release
python -m interp.convert openai-community/gpt2 checkpoints/gpt2                 Hugging Face's GPT-2 family
python -m interp.convert Qwen/Qwen2-0.5B checkpoints/qwen2                      its Llama, Qwen2 and Qwen3
python -m interp.convert out/ckpt.pt checkpoints/mine --tokenizer gpt2          nanoGPT, TransformerLens
python -m interp.amplify checkpoints/gpt2 --direction effective
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from interp.errors import InterpError
from interp.files import check_writable, contents, owning, writing
from interp.options import BORDER, argument, command_from, option, say

if TYPE_CHECKING:
    from interp.model.config import BiasConfig, Profile
    from interp.model.transformer import HookedSymmetryBrokenTransformer


@dataclass
class ConvertConfig:
    """What to convert, and where the checkpoint goes."""

    source: str = argument("A .pt or .safetensors file, a model folder, or a hub id.")
    destination: Path = argument("Folder for the checkpoint.")
    tokenizer: str | None = option(
        None, "A tokenizer.json, a folder with one or with vocab.json and merges.txt, or a hub id (default: the one beside "
        "the weights, or gpt2 where the vocabulary is GPT-2's)."
    )  # fmt: skip
    border: str | None = option(None, BORDER)
    activation: Literal["gelu", "gelu_exact"] | None = option(
        None, "Which GELU, GPT-2's tanh form or the exact one, where the file does not say (TransformerLens, nanoGPT)."
    )
    overwrite: bool = option(False, "Take the place of a checkpoint that is there.")


def run(config: ConvertConfig) -> None:
    """Convert, print a summary and notes, and then the folder."""
    lines = convert(
        config.source, config.destination, config.tokenizer, config.activation, config.overwrite, config.border
    )
    for line in lines:
        say(line)
    typer.echo(config.destination)


def convert(
    source: str | Path,
    destination: str | Path,
    tokenizer: str | Path | None = None,
    activation: Literal["gelu", "gelu_exact"] | None = None,
    overwrite: bool = False,
    border: str | None = None,
) -> list[str]:
    """Write a foreign model as a checkpoint, verify it, let it take its place, and return what to tell the reader, by line.

    Arguments are the options of the command.

    Raises:
        InterpError: the model cannot be read or converted, or the place is taken.
    """
    # late, so that --help does not import torch
    from interp.model.checkpoint import FILES, refuse_others, save_checkpoint
    from interp.model.foreign.fit import tokenizer_for
    from interp.model.foreign.formats import read_foreign

    folder = Path(destination).expanduser()
    _check_place(folder, overwrite)
    refuse_others(folder)
    with owning(folder):
        foreign = read_foreign(source, activation)
        model = foreign.model
        model.cfg.model_name = folder.resolve().name
        model.tokenizer, more = tokenizer_for(model.cfg.d_vocab, tokenizer, foreign.folder, border)
        lines = _summary(model, foreign.format)
        notes = [f"note: {note}" for note in (*foreign.notes, *more)]
        card = _card(model, source, foreign.format, [*lines, *notes])
        with writing(folder) as beside:  # it takes its place when it has been verified
            save_checkpoint(model, beside, _origin(source, foreign.format), card)
            _verify(beside, model)
            written = contents(beside)
        for name in {*FILES, "training.jsonl"} - set(written):  # what only the older checkpoint had
            (folder / name).unlink(missing_ok=True)
    return [*lines, *notes]


def _check_place(folder: Path, overwrite: bool) -> None:
    if (folder.is_file() or contents(folder)) and not overwrite:
        raise InterpError(f"{folder} exists; choose another place, or say --overwrite if it is an old checkpoint.")
    check_writable(folder, folder=True)


def _origin(source: str | Path, format_: str) -> dict[str, str]:
    from interp.provenance import file_sha256, now

    file = Path(source)
    checksum = {"source_sha256": file_sha256(file)} if file.is_file() else {}
    return {"converted_from": str(source), "format": format_, **checksum, "date": now()}


def _verify(folder: Path, model: HookedSymmetryBrokenTransformer) -> None:
    from interp.model.checkpoint import load_model

    loaded, expected = load_model(folder, "cpu"), model.state_dict()
    same = loaded.cfg == model.cfg and all(value.equal(expected[name]) for name, value in loaded.state_dict().items())
    if not same:
        raise InterpError(f"{folder} does not read back as it was written; the disk may be faulty: convert again.")


def _summary(model: HookedSymmetryBrokenTransformer, format_: str) -> list[str]:
    from interp.vocabulary import vocabulary_size

    cfg = model.cfg
    parameters = sum(parameter.numel() for parameter in model.parameters())
    biases = "".join(name for name, bias in (("bq", cfg.q), ("bv", cfg.v)) if bias.mode != "none") or "symmetric"
    known = "none" if model.tokenizer is None else f"{vocabulary_size(model.tokenizer):,} tokens"
    return [
        f"{format_}, {biases}: {cfg.n_layers} layers, {cfg.n_heads} heads, d_model {cfg.d_model}, context {cfg.n_ctx}, "
        f"vocabulary {cfg.d_vocab:,}, {cfg.description}; {parameters:,} parameters",
        f"b_Q: {_bias(cfg.q)}; b_V: {_bias(cfg.v)}; tokenizer: {known}",
    ]


def _bias(bias: BiasConfig) -> str:
    return "none" if bias.mode == "none" else f"mean {_shown(bias.mean)}, std {_shown(bias.std)}"


def _shown(profile: Profile) -> str:
    numbers = profile if isinstance(profile, (list, tuple)) else [profile]
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _card(model: HookedSymmetryBrokenTransformer, source: str | Path, format_: str, lines: list[str]) -> str:
    listed = "\n".join(f"- {line}" for line in lines)
    return f"# {model.cfg.model_name}\n\nConverted from `{Path(source).name}` ({format_}).\n\n{listed}\n"


HELP = """Make a checkpoint from a model of the authors, Hugging Face (GPT-2, Llama, Qwen), nanoGPT or TransformerLens.

The format is recognised by the contents. Nothing of a file is ever run: one that names anything beyond tensors, plain
values and the authors' config class is refused. The checkpoint is loaded again to verify it.
"""
command = command_from(ConvertConfig, run, HELP)
app = typer.Typer(add_completion=False)
app.command()(command)

if __name__ == "__main__":
    app()

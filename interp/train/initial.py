"""What a run begins with other than random weights: a checkpoint of ours, or any model that `interp.convert` reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.errors import InterpError, few
from interp.files import is_hub_id, read_json
from interp.model.checkpoint import BUNDLED, download, load_model, read_training, tensors_sha256
from interp.model.config import ModelConfig, preset
from interp.model.foreign.fit import tokenizer_for
from interp.model.foreign.formats import read_foreign
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train import checkpoints
from interp.train.config import TrainConfig
from interp.vocabulary import load_tokenizer, tokenizer_files, tokenizer_sha256, vocabulary_size

ORIGIN = "initialized_from"  # where config.json of a run says it, under "training"
OURS = "checkpoint"  # its format, where the others have a name
# Fields of a model's config that training or the tokenizer gives.
OWN = ("q", "v", "dropout", "init_range", "seed", "model_name", "d_vocab", "load_balancing")
VALUES = {"bias_q.value": "q", "bias_v.value": "v"}  # what biases that are fixed or learned have in a model's state


@dataclass(frozen=True)
class Initial:
    """A model to go on with: its config, its weights in float32 by name, its tokenizer, and where it came from."""

    name: str
    format: str
    cfg: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: PreTrainedTokenizerFast | None
    sha256: str  # of the weights in float32, however they were stored

    @property
    def origin(self) -> dict[str, str]:
        """What config.json and the model card tell of it."""
        return {"name": self.name, "format": self.format, "weights_sha256": self.sha256}

    def vocabulary(self, tokenizer: PreTrainedTokenizerFast | None) -> int:
        """Return the model's vocabulary, in which a tokenizer has to find room.

        Raises:
            InterpError: it has more tokens.
        """
        if tokenizer is not None and (size := vocabulary_size(tokenizer)) > self.cfg.d_vocab:
            raise InterpError(
                f"The tokenizer of the corpus has {size:,} tokens, --init {self.name} only {self.cfg.d_vocab:,}; they do "
                "not belong together."
            )
        return self.cfg.d_vocab

    def put_into(self, model: HookedSymmetryBrokenTransformer) -> None:
        """Give its weights to a model of the same sizes.

        Fixed and learned values of biases go on where the biases are what they were; others keep what they were drawn.
        """
        kept = [name for name, which in VALUES.items() if getattr(model.cfg, which) == getattr(self.cfg, which)]
        weights = {name: value for name, value in self.weights.items() if name not in VALUES or name in kept}
        model.load_state_dict({**model.state_dict(), **weights})


def read_initial(config: TrainConfig) -> Initial:
    """Read the model of --init, of ours or of another format.

    Raises:
        InterpError: there is none, it is damaged or cannot be converted, or --tokenizer names another than its own.
    """
    name = str(config.init)
    if _is_ours(name):
        model, format_, folder = load_model(name, "cpu"), OURS, None
        own = model.tokenizer
    else:
        foreign = read_foreign(name)
        model, format_, folder = foreign.model, foreign.format, foreign.folder
        beside = folder is not None and tokenizer_files(folder)
        own = (
            None
            if config.tokenizer and not beside
            else tokenizer_for(model.cfg.d_vocab, None, folder, config.border)[0]
        )
    weights = {key: value.detach() for key, value in model.state_dict().items()}
    initial = Initial(name, format_, model.cfg, weights, own, tensors_sha256(weights))
    return initial if config.tokenizer is None else replace(initial, tokenizer=_agreed(config, initial))


def initial_of(config: TrainConfig) -> tuple[Initial | None, str]:
    """Return the model that a run begins with, if it is to, and what there is to say.

    A run that goes on has its weights in its states: where the checkpoint it began with is gone, sizes and tokenizer are
    read from the newest of them.

    Raises:
        InterpError: as `read_initial`.
    """
    if config.init is None:
        return None, ""
    try:
        return read_initial(config), ""
    except InterpError as error:
        states = checkpoints.saved_states(config.output) if config.resume else []
        origin = read_training(states[-1]).get(ORIGIN, {}) if states else {}
        if origin.get("name") != config.init:
            raise
        model = load_model(states[-1], "cpu")
        weights = {key: value.detach() for key, value in model.state_dict().items()}
        found = Initial(config.init, origin["format"], model.cfg, weights, model.tokenizer, origin["weights_sha256"])
        return (
            found,
            f"--init {config.init} cannot be read any more ({str(error).rstrip('.')}); the run does not need it",
        )


def continued(config: TrainConfig, initial: Initial) -> ModelConfig:
    """Return the config of the model to go on with, if no setting of its sizes or block contradicts it.

    With RoPE, which has no weights, the context may be shorter than the model's.

    Raises:
        InterpError: names the setting, its value and the model's.
    """
    cfg, shorter = initial.cfg, initial.cfg.positional == "rope"
    biases = cfg.learned_biases != "none"
    own: dict[str, Any] = {"kv_heads": cfg.kv_heads, "learned_biases": biases, "context": cfg.n_ctx}
    own |= {"experts": cfg.num_experts, "experts_per_token": cfg.experts_per_token if cfg.num_experts else None}
    for name in ("norm", "activation", "positional", "d_head", "qk_norm", "tied", *own):
        asked, has = getattr(config, name), own[name] if name in own else getattr(cfg, name)
        if asked is not None and asked != has and not (name == "context" and shorter and asked < has):
            raise InterpError(
                f"--{name.replace('_', '-')} is {asked}, and --init {initial.name} has {has}; leave it out, it is the "
                "checkpoint's."
            )
    if config.preset is not None:
        named = preset(config.preset)
        for name in (f.name for f in fields(cfg) if f.name not in OWN):
            if (asked := getattr(named, name)) != (has := getattr(cfg, name)):
                raise InterpError(
                    f"--preset {config.preset} has {name} {asked}, and --init {initial.name} has {has}; leave it out, sizes "
                    "are the checkpoint's."
                )
    weight = cfg.load_balancing if config.load_balancing is None else config.load_balancing
    return replace(cfg, n_ctx=config.context or cfg.n_ctx, load_balancing=weight)


def freeze(model: HookedSymmetryBrokenTransformer, config: TrainConfig) -> None:
    """Let the optimizer leave alone what `freeze_embeddings` and `layers` say.

    Raises:
        InterpError: a name that no part with weights has, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    trained = set(names)
    if config.layers is not None:
        parts = [part.strip() for part in config.layers.split(",")]
        trained = set()
        for part in parts:
            own = "unembedding" if part == "unembed" else part
            found = {name for name in names if own and name.startswith(own + ".")}
            if not found:
                known = dict.fromkeys(
                    ".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in names
                )
                listed = few([name.replace("unembedding", "unembed") for name in known])
                raise InterpError(f"--layers names {part!r}, which has no weights in this model; it has {listed}.")
            trained |= found
    if config.freeze_embeddings:
        trained -= {name for name in names if name.split(".")[0] in ("embed", "pos_embed")}
    if not trained:
        raise InterpError("--layers and --freeze-embeddings together leave nothing to train; leave one of them out.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def _is_ours(name: str) -> bool:
    """Whether a folder, a bundled name or a hub id is a checkpoint of this package; damaged ones are, too."""
    for folder in (Path(name).expanduser(), BUNDLED / name):
        if (folder / "config.json").is_file():
            return "model_type" not in read_json(folder / "config.json")
    if Path(name).expanduser().exists():
        return False
    if is_hub_id(name):
        return isinstance(read_json(download(name, ["config.json"]) / "config.json").get("model"), dict)
    return not is_hub_id(name, bare=True)  # for the error that lists what there is


def _agreed(config: TrainConfig, initial: Initial) -> PreTrainedTokenizerFast:
    """Return the tokenizer that was asked for, if it is the model's or the model comes without one."""
    asked = load_tokenizer(str(config.tokenizer), config.border)
    known = [tokenizer_sha256(found)[:16] for found in (asked, initial.tokenizer) if found is not None]
    if len(set(known)) == 2:
        raise InterpError(
            f"--tokenizer {config.tokenizer} (sha256 {known[0]}) is not the tokenizer of --init {initial.name} (sha256 "
            f"{known[1]}); leave it out."
        )
    initial.vocabulary(asked)
    return asked

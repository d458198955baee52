"""From settings to what a run is made of: the model's configuration, tokens and tokenizer, the optimizer."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from transformers import PreTrainedTokenizerFast

from interp.data.contexts import token_stream
from interp.data.corpora.corpus import open_corpus
from interp.data.examples import TokenizedExamples, read_examples, tokenize_examples
from interp.data.shards.open import TokenShards, digest, is_shards, open_shards, tokenizer_of
from interp.data.tokenizer import train_tokenizer
from interp.errors import InterpError
from interp.model.config import VARIANTS, BiasConfig, ModelConfig, Profile, preset
from interp.train.config import FREE, TrainConfig
from interp.train.initial import Initial, continued
from interp.train.optim.registry import ELSEWHERE, OPTIMIZERS, PUBLISHED, build_optimizer, parse_arguments
from interp.vocabulary import TOKENIZER, load_tokenizer, tokenizer_sha256, vocabulary_size

SMALL_PRESETS = ("mini", "tiny", "small", "llama-mini")
SMALL = 50_000_000  # parameters of a model to go on with that is trained as the small presets are
LARGEST = 1e6  # mean or deviation of a bias: far beyond what scores survive in float32


@dataclass(frozen=True)
class Tokens:
    """What a run trains on and what it is measured on."""

    tokenizer: PreTrainedTokenizerFast | None  # None for shards that come without one
    training: TokenShards | TokenizedExamples
    held_out: Integer[np.ndarray, " tokens"] | TokenizedExamples
    d_vocab: int  # the model's


def resolved(config: TrainConfig, initial: Initial | None = None) -> TrainConfig:
    """Return the settings with the optimizer's own, and those of the preset's block, where none were given.

    Raises:
        InterpError: there is no such preset.
    """
    spec = OPTIMIZERS[config.optimizer]
    small = initial.cfg.n_parameters < SMALL if initial else config.preset in SMALL_PRESETS
    own = {"lr": spec.small_lr if small else spec.defaults["lr"], "weight_decay": spec.defaults["weight_decay"]}
    usual = {**({} if initial else config.block()), **own, "clip": spec.clip}
    if config.preset_settings:
        published = PUBLISHED[config.preset_settings][config.optimizer]
        usual |= {name: published[name] for name in own} | {"clip": 0.0}
        given = parse_arguments(config.optimizer_args)
        more = [f"{name}={value}" for name, value in published.items() if name not in {*given, *ELSEWHERE}]
        config = replace(config, optimizer_args=",".join([*more, *filter(None, [config.optimizer_args])]))
    return replace(config, **{name: value for name, value in usual.items() if getattr(config, name) is None})


def model_config(config: TrainConfig, initial: Initial | None = None) -> ModelConfig:
    """Return the model's configuration, with the preset's vocabulary until the tokenizer is known.

    Raises:
        InterpError: a bias that is not a number, START:END or d_head numbers, or given where the variant has none; or a
            setting that contradicts the model to go on with.
    """
    name = Path(config.output).name
    if initial is not None:
        cfg = continued(config, initial)
        cfg = replace(cfg, dropout=config.dropout, seed=config.seed, model_name=name)
        if config.variant is None:
            return cfg
        q, v = VARIANTS[config.variant]
        return replace(cfg, q=_bias(q, config, "q"), v=_bias(v, config, "v"))
    chosen: dict[str, Any] = {
        "norm": config.norm, "activation": config.activation, "positional": config.positional, "d_head": config.d_head,
        "n_key_value_heads": config.kv_heads, "qk_norm": config.qk_norm, "tied": config.tied,
        "num_experts": config.experts, "experts_per_token": config.experts_per_token,
        "load_balancing": config.load_balancing,
        "learned_biases": None if config.learned_biases is None else "all" if config.learned_biases else "none",
    }  # fmt: skip
    chosen = {name: value for name, value in chosen.items() if value is not None}
    assert config.preset is not None and config.variant is not None
    cfg = preset(config.preset, config.variant, **chosen, dropout=config.dropout, seed=config.seed, model_name=name)
    biases = {"q": _bias(cfg.q, config, "q"), "v": _bias(cfg.v, config, "v")}
    return replace(cfg, **biases, n_ctx=config.context or cfg.n_ctx)


def open_tokens(
    config: TrainConfig, cfg: ModelConfig, state: Path | None = None, initial: Initial | None = None
) -> Tokens:
    """Open the corpus, shards or examples of a run, and load its tokenizer or train one, of the preset's vocabulary.

    With the folder of a `state` to go on from, the tokenizer that was trained is the one that lies there; with an `initial`
    model it is the model's.

    Raises:
        InterpError: no such corpus, shards or tokenizer, nothing in a split, or another tokenizer than the shards' own.
    """
    usual = config.vocabulary or cfg.d_vocab
    if initial is not None:
        tokenizer, named = initial.tokenizer, f"The tokenizer of --init {config.init}"
    else:
        tokenizer = load_tokenizer(config.tokenizer, config.border) if config.tokenizer else None
        named = f"--tokenizer {config.tokenizer}"
    if initial is not None and tokenizer is None and not is_shards(config.corpus):
        raise InterpError(
            f"--init {config.init} comes without a tokenizer, and {config.corpus} is text; give it with --tokenizer."
        )
    if config.examples:
        return _open_examples(config, cfg, tokenizer or _stored_tokenizer(state), initial)
    if is_shards(config.corpus):
        own = tokenizer_of(config.corpus)
        known = [tokenizer_sha256(found)[:16] for found in (tokenizer, own) if found is not None]
        if len(set(known)) == 2:
            remedy = "prepare them with it" if initial else "leave it out"
            raise InterpError(
                f"{named} (sha256 {known[0]}) is not the tokenizer of the shards in {config.corpus} (sha256 {known[1]}); "
                f"{remedy}."
            )
        tokenizer = tokenizer or own
        d_vocab = initial.vocabulary(tokenizer) if initial else _vocabulary(tokenizer, usual)
        training, held_out = (open_shards(config.corpus, split, d_vocab) for split in ("train", "validation"))
    else:
        halves = [open_corpus(config.corpus, split, config.text_field) for split in ("train", "validation")]
        tokenizer = (
            tokenizer or _stored_tokenizer(state) or train_tokenizer((document.text for document in halves[0]), usual)
        )
        d_vocab = initial.vocabulary(tokenizer) if initial else _vocabulary(tokenizer, usual)
        training, held_out = (TokenShards.of(token_stream(tokenizer, corpus)) for corpus in halves)
    length = min(len(held_out), config.validation_tokens)
    if length < 2:
        raise InterpError(f"The held-out part of {config.corpus} has {length} tokens; at least 2 are needed.")
    return Tokens(tokenizer, training, held_out.windows(np.zeros(1, dtype=np.int64), length)[0], d_vocab)


def _open_examples(
    config: TrainConfig, cfg: ModelConfig, tokenizer: PreTrainedTokenizerFast | None, initial: Initial | None
) -> Tokens:
    halves = [read_examples(config.corpus, split) for split in ("train", "validation")]
    usual = config.vocabulary or cfg.d_vocab
    tokenizer = tokenizer or train_tokenizer((example.text for example in halves[0]), usual)
    training, held_out = (tokenize_examples(tokenizer, half, cfg.n_ctx) for half in halves)
    d_vocab = initial.vocabulary(tokenizer) if initial else _vocabulary(tokenizer, usual)
    return Tokens(tokenizer, training, held_out.first(config.validation_tokens), d_vocab)


def _stored_tokenizer(state: Path | None) -> PreTrainedTokenizerFast | None:
    """The tokenizer that lies beside a state, if there are both."""
    return load_tokenizer(state / TOKENIZER) if state and (state / TOKENIZER).is_file() else None


def fingerprint(config: TrainConfig, cfg: ModelConfig, tokens: Tokens, processes: int) -> dict[str, Any]:
    """Return, as plain values, what a run's next step depends on beside its state: a run goes on with the same only."""
    found: dict[str, Any] = {
        "training tokens": _digest(tokens.training),
        "held-out tokens": _digest(tokens.held_out),
        "tokenizer": "none" if tokens.tokenizer is None else tokenizer_sha256(tokens.tokenizer),
        "settings": {name: value for name, value in config.to_dict().items() if name not in FREE},
    }
    if config.bias_draws == "micro-batch":
        found["micro_batch_size"] = config.micro_batch_size or config.batch_size // processes
    layout = {f"model's {name}": value for name, value in cfg.to_dict().items() if name != "model_name"}
    return json.loads(json.dumps({**found, **layout}))


def _digest(found: TokenShards | TokenizedExamples | Integer[np.ndarray, " tokens"]) -> str:
    if isinstance(found, TokenizedExamples):
        return found.digest()
    return digest(found if isinstance(found, TokenShards) else TokenShards.of(found))


def build_optimizer_of(config: TrainConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a run whose settings are resolved."""
    assert config.lr is not None
    arguments = parse_arguments(config.optimizer_args)
    if config.compile and config.optimizer == "ecd":
        arguments = {"compile": True, **arguments}
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return build_optimizer(config.optimizer, trained, config.lr, config.weight_decay, arguments)


def _bias(usual: BiasConfig, config: TrainConfig, name: str) -> BiasConfig:
    mean, std = getattr(config, f"mean_{name}"), getattr(config, f"std_{name}")
    if usual.mode == "none":
        if mean is not None or std is not None:
            raise InterpError(
                f"--mean-{name} or --std-{name} was given, but the variant {config.variant} has no such bias."
            )
        if name == "q" and (config.directions > 1 or config.direction_means or config.component_per == "head"):
            raise InterpError(
                f"Several directions of b_Q were asked for, but the variant {config.variant} has no b_Q; take bq or bqbv."
            )
        return usual
    values = {
        "mean": usual.mean if mean is None else _profile(f"--mean-{name}", mean),
        "std": usual.std if std is None else _profile(f"--std-{name}", std),
        "mode": config.bias_mode or "batch", "shared_across_heads": not config.bias_per_head,
    }  # fmt: skip
    return BiasConfig(**{**values, **(_directions(config) if name == "q" else {})})


def _directions(config: TrainConfig) -> dict[str, Any]:
    """What makes b_Q's distribution a mixture, as fields of `BiasConfig`; means take the place of the usual mean."""
    if config.direction_means is None:
        return {"directions": config.directions, "component_per": config.component_per}
    means = [_profile("--direction-means", mean) for mean in config.direction_means.split("/")]
    given = {} if config.mean_q is not None else {"mean": 0.0}  # BiasConfig refuses both
    return {"directions": config.directions, "means": means, "component_per": config.component_per, **given}


def _profile(flag: str, text: str) -> Profile:
    """Read a number, the START:END of a linspace, or a list of numbers."""
    try:
        ends = text.count(":") == 1
        numbers = [float(part) for part in text.split(":" if ends else ",")]
    except ValueError:
        raise InterpError(
            f"{flag} is {text!r}; give a number, START:END, or numbers with commas between them."
        ) from None
    if not all(abs(number) <= LARGEST for number in numbers):  # of NaN, too
        raise InterpError(f"{flag} is {text!r}; numbers of at most {LARGEST:g} are needed.")
    return (numbers[0], numbers[1]) if ends else numbers[0] if len(numbers) == 1 else numbers


def _vocabulary(tokenizer: PreTrainedTokenizerFast | None, usual: int) -> int:
    """The preset's size where the tokenizer all but fills it, as GPT-2's 50,257 tokens do 50,304; else the tokenizer's."""
    if tokenizer is None or 0 <= usual - vocabulary_size(tokenizer) < 64:
        return usual
    return vocabulary_size(tokenizer)

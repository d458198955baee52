"""Models in GPT-2's layout: Hugging Face's and nanoGPT's, and the names and shapes that the authors' release shares."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config

from interp.errors import InterpError
from interp.model.config import Activation, ModelConfig
from interp.model.export.huggingface import ACTIVATIONS as EXPORTED
from interp.model.export.huggingface import parameter_names
from interp.model.foreign.fit import agree, fitted, whole_number
from interp.model.foreign.source import Source
from interp.model.transformer import HookedSymmetryBrokenTransformer, parameter_shapes

SYNONYMS: dict[str, Activation] = {"gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "gelu_python": "gelu_exact"}
ACTIVATIONS: dict[str, Any] = {theirs: ours for ours, theirs in EXPORTED.items()} | SYNONYMS
FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
MASK = r"h\.\d+\.attn\.bias"  # nanoGPT's
NOTE = "The biases of the projections are learned; what they amplify: python -m interp.amplify --direction effective."


def from_hugging_face(source: Source) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a folder or hub id, and notes for the reader.

    Raises:
        InterpError: it is not of the GPT-2 family, has an option these models do not have, or does not fit its config.
    """
    where, config = source.where, _config(source)
    root = "transformer." if "transformer.wte.weight" in source.tensors else ""
    tensors = tied(where, source.tensors, root)
    agree(where, vars(config), sizes(where, tensors, "n_positions", root))
    cfg = ModelConfig(
        n_layers=config.n_layer, d_model=config.n_embd, n_heads=config.n_head, n_ctx=config.n_positions,
        d_vocab=config.vocab_size, d_mlp=config.n_inner or 0, eps=config.layer_norm_epsilon,
        activation=ACTIVATIONS[config.activation_function],
    )  # fmt: skip
    masks = rf"{re.escape(root)}h\.\d+\.attn\.(bias|masked_bias)"
    return from_gpt2_layout(cfg, where, tensors, parameter_names(cfg, root), masks, conv1d=True), [NOTE]


def from_nanogpt(source: Source, activation: Activation | None) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a checkpoint file with "model_args" beside the weights, and notes for the reader.

    `activation` is which GELU; by default the exact one, which nanoGPT has used since June 2023.

    Raises:
        InterpError: its sizes, names or shapes do not fit together.
    """
    where, root = source.where, "transformer." if "transformer.wte.weight" in source.tensors else ""
    tensors, arguments = tied(where, source.tensors, root), sizes_beside(source)
    karpathy = "model_args" not in source.beside  # build-nanogpt, which has GPT-2's own GELU
    found = sizes(where, tensors, "block_size", root)
    agree(where, arguments, found)
    cfg = ModelConfig(
        n_layers=found["n_layer"], d_model=found["n_embd"], d_vocab=found["vocab_size"],
        n_heads=whole_number(where, arguments, "n_head"), n_ctx=whole_number(where, arguments, "block_size"),
        activation=activation or ("gelu" if karpathy else "gelu_exact"),
    )  # fmt: skip
    names, notes = parameter_names(cfg, root), []
    if arguments.get("bias") is False:
        shapes, biases = parameter_shapes(cfg), {our: name for our, name in names.items() if name.endswith(".bias")}
        tensors = {name: torch.zeros(shapes[our]) for our, name in biases.items()} | tensors
    if activation is None:
        notes.append(
            "Its GELU is taken to be GPT-2's, as build-nanogpt's is; for the exact one say --activation gelu_exact."
            if karpathy
            else "nanoGPT's GELU is taken to be the exact one; for files from before June 2023 say --activation gelu."
        )
    return from_gpt2_layout(cfg, where, tensors, names, rf"{re.escape(root)}{MASK}"), notes


def sizes_beside(source: Source) -> dict[str, Any]:
    """Return the fields of a config that stands beside the weights and names the heads; none if there is no such config.

    nanoGPT has it as model_args, build-nanogpt as config, Lightning in hyper_parameters, there perhaps one level deeper.
    """
    if "model_args" in source.beside:
        arguments = source.beside["model_args"]
        return arguments if isinstance(arguments, dict) else {}
    places = [source.beside.get(name) for name in ("config", "hyper_parameters")]
    places = [place for place in places if isinstance(place, dict)]
    deeper = [inner for place in places for inner in place.values() if isinstance(inner, dict)]
    return next((place for place in (*places, *deeper) if {"n_head", "block_size", "vocab_size"} <= place.keys()), {})


def sizes(where: str, tensors: Mapping[str, Tensor], context: str, root: str = "transformer.") -> dict[str, int]:
    """Return the sizes that the tensors of the file `where` have, by the names of GPT-2's config.

    `context` is the config's name for the number of positions, left out where there are no position embeddings; `root` is
    what all names of tensors begin with.

    Raises:
        InterpError: there is no token embedding.
    """
    embedding = tensors.get(f"{root}wte.weight")
    if embedding is None or embedding.ndim != 2:
        raise InterpError(f"{where} has no token embedding {root}wte.weight of shape [vocabulary, d_model].")
    layers = {m[1] for name in tensors if (m := re.match(rf"{re.escape(root)}h\.(\d+)\.", name))}
    found = {"n_layer": len(layers), "n_embd": embedding.shape[1], "vocab_size": embedding.shape[0]}
    positions = tensors.get(f"{root}wpe.weight")
    return found if positions is None else {**found, context: positions.shape[0]}


def tied(where: str, tensors: Mapping[str, Tensor], root: str = "transformer.") -> dict[str, Tensor]:
    """Return the tensors without the unembedding, which has to be the token embedding.

    Raises:
        InterpError: it is another matrix.
    """
    name, rest = f"{root}wte.weight", dict(tensors)
    unembedding = rest.pop("lm_head.weight", None)
    if unembedding is None or rest.setdefault(name, unembedding).equal(unembedding):
        return rest
    raise InterpError(
        f"{where} has an unembedding lm_head.weight that is not its token embedding; these models tie the two, and it "
        "cannot be converted."
    )


def from_gpt2_layout(
    cfg: ModelConfig,
    where: str,
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    ignored: str,
    conv1d: bool = False,
) -> HookedSymmetryBrokenTransformer:
    """Return a model with the tensors of the file `where`, named in GPT-2's way; they are compared before it exists.

    Args:
        names: as `parameter_names` returns them.
        ignored: a regular expression for names that may be there too.
        conv1d: the linear maps are stored as [in, out], as OpenAI's and Hugging Face's are.

    Raises:
        InterpError: what `fitted` finds.
    """
    shapes = parameter_shapes(cfg)
    turned = {our for our in names if conv1d and our.startswith("blocks.") and len(shapes[our]) == 2}
    wanted = {their: shapes[our][::-1] if our in turned else shapes[our] for our, their in names.items()}
    found = fitted(where, tensors, wanted, ignored)
    model = HookedSymmetryBrokenTransformer(cfg)
    model.load_state_dict({our: found[their].T if our in turned else found[their] for our, their in names.items()})
    return model


def _config(source: Source) -> Any:
    kind = source.beside.get("model_type")
    if kind != "gpt2":
        raise InterpError(
            f"{source.where} is a model of type {kind!r}; of Hugging Face's models gpt2, llama, qwen2 and qwen3 can be "
            "converted."
        )
    try:
        config = GPT2Config.from_dict(source.beside)
    except Exception as error:  # its checks raise what they like
        raise InterpError(f"{source.where}/config.json is no GPT-2 config: {' '.join(str(error).split())}.") from error
    foreign = [f"{name} {getattr(config, name)}" for name, value in FIXED.items() if getattr(config, name) != value]
    if config.activation_function not in ACTIVATIONS:
        foreign.append(f"activation_function {config.activation_function!r}")
    if foreign:
        raise InterpError(
            f"{source.where} has {', '.join(foreign)}, which these models do not have; it cannot be converted."
        )
    return config

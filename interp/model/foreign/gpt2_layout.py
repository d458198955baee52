"""GPT-2's parameter names and shapes, which the authors' release, Hugging Face and nanoGPT share but for details."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product

from torch import Tensor

from interp.errors import InterpError
from interp.model.config import ModelConfig
from interp.model.foreign.fit import fitted
from interp.model.transformer import HookedSymmetryBrokenTransformer


def parameter_names(
    cfg: ModelConfig, root: str = "transformer.", attention: str = "attn", norm: str = "ln_"
) -> dict[str, str]:
    """Return GPT-2's name for each parameter of ours.

    Args:
        cfg: of the model.
        root: what all names begin with.
        attention, norm: what attention and the norms of a block are called (`norm` without its number).
    """
    names = {"embed.weight": f"{root}wte.weight"}
    if cfg.positional == "learned":
        names["pos_embed.weight"] = f"{root}wpe.weight"
    names |= _affine("ln_final", f"{root}ln_f")
    linear = {
        "attn.qkv": f"{attention}.c_attn", "attn.out": f"{attention}.c_proj",
        "mlp.fc_in": "mlp.c_fc", "mlp.fc_out": "mlp.c_proj",
    }  # fmt: skip
    for layer in range(cfg.n_layers):
        ours, theirs = f"blocks.{layer}.", f"{root}h.{layer}."
        names |= _affine(f"{ours}ln1", f"{theirs}{norm}1") | _affine(f"{ours}ln2", f"{theirs}{norm}2")
        pairs = product(linear.items(), ("weight", "bias"))
        names |= {f"{ours}{our}.{kind}": f"{theirs}{their}.{kind}" for (our, their), kind in pairs}
        if cfg.activation == "prelu":
            names[f"{ours}mlp.slope"] = f"{theirs}mlp.act.weight"
    return names


def _affine(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.w": f"{theirs}.weight", f"{ours}.b": f"{theirs}.bias"}


def sizes(where: str, tensors: Mapping[str, Tensor], context: str, root: str = "transformer.") -> dict[str, int]:
    """Return the sizes that the tensors have, by the names of GPT-2's config.

    Args:
        where: the file, for messages.
        tensors: named in GPT-2's way.
        context: the config's name for the number of positions; left out where there are no position embeddings.
        root: what all names begin with.

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


def load_gpt2_layout(
    model: HookedSymmetryBrokenTransformer,
    where: str,
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    ignored: str,
    conv1d: bool = False,
) -> None:
    """Copy tensors named in GPT-2's way into a model.

    Args:
        model: what they go to.
        where: the file, for messages.
        tensors: what it holds.
        names: as `parameter_names` returns them.
        ignored: a regular expression for names that may be there too.
        conv1d: the linear maps are stored as [in, out], as OpenAI's and Hugging Face's are.

    Raises:
        InterpError: what `fitted` finds.
    """
    shapes = {our: tuple(value.shape) for our, value in model.state_dict().items()}
    turned = {our for our in names if conv1d and our.startswith("blocks.") and len(shapes[our]) == 2}
    wanted = {their: shapes[our][::-1] if our in turned else shapes[our] for our, their in names.items()}
    found = fitted(where, tensors, wanted, ignored)
    model.load_state_dict({our: found[their].T if our in turned else found[their] for our, their in names.items()})

"""State dicts of TransformerLens' HookedTransformer: weights by head, LayerNorm not folded into them."""

import re

import torch

from interp.errors import InterpError
from interp.model.config import Activation, ModelConfig
from interp.model.foreign.fit import fitted
from interp.model.foreign.source import Source
from interp.model.transformer import HookedSymmetryBrokenTransformer

SIZED = {"embed.W_E": 2, "pos_embed.W_pos": 2, "blocks.0.mlp.W_in": 2, "blocks.0.attn.W_Q": 3}  # number of dimensions
BUFFERS = r"blocks\.\d+\.attn\.(mask|IGNORE)"
UNPROCESSED = "save the state dict of HookedTransformer.from_pretrained_no_processing"


def from_transformer_lens(
    source: Source, activation: Activation | None
) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a state dict with TransformerLens' names, and notes for the reader.

    `activation` is which GELU; by default GPT-2's.

    Raises:
        InterpError: LayerNorm is folded, the unembedding is not the embedding, or names or shapes do not fit.
    """
    where = source.where
    model = HookedSymmetryBrokenTransformer(_config(source, activation or "gelu"))
    weights = model.tl_parameters()  # views: what is copied into them is in the model
    found = fitted(where, source.tensors, {name: tuple(view.shape) for name, view in weights.items()}, BUFFERS)
    if not found["unembed.W_U"].equal(found["embed.W_E"].T) or bool(found["unembed.b_U"].any()):
        raise InterpError(
            f"The unembedding of {where} is not its token embedding, by training or because TransformerLens centred it; "
            f"these models tie the two: {UNPROCESSED}."
        )
    with torch.no_grad():
        for name in weights.keys() - {"unembed.W_U", "unembed.b_U"}:
            weights[name].copy_(found[name])
    assumed = ["LayerNorm's eps, 1e-5", *([] if activation else ["GPT-2's GELU (another: --activation gelu_exact)"])]
    return model, [f"The file does not say, and it is assumed: {' and '.join(assumed)}."]


def _config(source: Source, activation: Activation) -> ModelConfig:
    tensors, where = source.tensors, source.where
    if not any(name.endswith(".ln1.w") for name in tensors):
        raise InterpError(
            f"LayerNorm is folded into the weights of {where}, and could not be told from them: {UNPROCESSED}."
        )
    shapes = {name: tuple(tensors[name].shape) for name in SIZED if name in tensors}
    missing = [name for name, size in SIZED.items() if len(shapes.get(name, ())) != size]
    if missing:
        raise InterpError(
            f"{where} lacks {', '.join(missing)}, or has it in another shape; learned positions and an MLP are needed."
        )
    (d_vocab, d_model), (n_ctx, _), (_, d_mlp), (n_heads, _, _) = shapes.values()
    layers = {match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
    return ModelConfig(
        n_layers=len(layers), d_model=d_model, n_heads=n_heads, n_ctx=n_ctx, d_vocab=d_vocab, d_mlp=d_mlp,
        activation=activation,
    )  # fmt: skip

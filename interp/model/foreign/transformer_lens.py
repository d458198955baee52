"""State dicts of TransformerLens' HookedTransformer: weights by head, LayerNorm not folded into them."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from interp.errors import InterpError
from interp.model.config import Activation, ModelConfig
from interp.model.foreign.fit import Shape, fitted
from interp.model.foreign.source import Source
from interp.model.transformer import HookedSymmetryBrokenTransformer

SIZED = {"embed.W_E": 2, "pos_embed.W_pos": 2, "blocks.0.mlp.W_in": 2, "blocks.0.attn.W_Q": 3}  # number of dimensions
BUFFERS = r"blocks\.\d+\.attn\.(mask|IGNORE)"
UNPROCESSED = "save the state dict of HookedTransformer.from_pretrained_no_processing"


def from_transformer_lens(
    source: Source, activation: Activation | None
) -> tuple[HookedSymmetryBrokenTransformer, list[str]]:
    """Return the model of a state dict, and notes for the reader.

    Args:
        source: with TransformerLens' names.
        activation: which GELU; by default GPT-2's.

    Raises:
        InterpError: LayerNorm is folded, the unembedding is not the embedding, or names or shapes do not fit.
    """
    where = source.where
    model = HookedSymmetryBrokenTransformer(_config(source, activation or "gelu"))
    found = fitted(where, source.tensors, _shapes(model.cfg), BUFFERS)
    if not found["unembed.W_U"].equal(found["embed.W_E"].T) or bool(found["unembed.b_U"].any()):
        raise InterpError(
            f"The unembedding of {where} is not its token embedding, by training or because TransformerLens centred it; "
            f"these models tie the two: {UNPROCESSED}."
        )
    model.load_state_dict(_weights(found, model.cfg.n_layers))
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


def _shapes(cfg: ModelConfig) -> dict[str, Shape]:
    m, heads, d_head = cfg.d_model, cfg.n_heads, cfg.d_head
    block: dict[str, Shape] = {f"ln{i}.{part}": (m,) for i in (1, 2) for part in "wb"}
    block |= {f"attn.W_{part}": (heads, m, d_head) for part in "QKV"} | {"attn.W_O": (heads, d_head, m)}
    block |= {f"attn.b_{part}": (heads, d_head) for part in "QKV"} | {"attn.b_O": (m,)}
    block |= {"mlp.W_in": (m, cfg.d_mlp), "mlp.b_in": (cfg.d_mlp,), "mlp.W_out": (cfg.d_mlp, m), "mlp.b_out": (m,)}
    shapes = {f"blocks.{layer}.{name}": shape for layer in range(cfg.n_layers) for name, shape in block.items()}
    shapes |= {"embed.W_E": (cfg.d_vocab, m), "pos_embed.W_pos": (cfg.n_ctx, m), "ln_final.w": (m,), "ln_final.b": (m,)}
    return shapes | {"unembed.W_U": (m, cfg.d_vocab), "unembed.b_U": (cfg.d_vocab,)}


def _weights(found: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    weights = {"embed.weight": found["embed.W_E"], "pos_embed.weight": found["pos_embed.W_pos"]}
    for layer in range(n_layers):
        weights |= {f"blocks.{layer}.{name}": value for name, value in _block(found, f"blocks.{layer}.").items()}
    return weights | {name: found[name] for name in ("ln_final.w", "ln_final.b")}


def _block(found: dict[str, Tensor], block: str) -> dict[str, Tensor]:
    qkv = [found[f"{block}attn.W_{part}"].transpose(1, 2).flatten(0, 1) for part in "QKV"]  # each [d_model, d_model]
    return {
        **{name: found[block + name] for name in ("ln1.w", "ln1.b", "ln2.w", "ln2.b")},
        "attn.qkv.weight": torch.cat(qkv),
        "attn.qkv.bias": torch.cat([found[f"{block}attn.b_{part}"].flatten() for part in "QKV"]),
        "attn.out.weight": found[f"{block}attn.W_O"].flatten(0, 1).T,
        "attn.out.bias": found[f"{block}attn.b_O"],
        "mlp.fc_in.weight": found[f"{block}mlp.W_in"].T,
        "mlp.fc_in.bias": found[f"{block}mlp.b_in"],
        "mlp.fc_out.weight": found[f"{block}mlp.W_out"].T,
        "mlp.fc_out.bias": found[f"{block}mlp.b_out"],
    }

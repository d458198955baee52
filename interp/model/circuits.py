"""What the weights alone say: per head and stacked over layers, TransformerLens' circuits, and those of the biases."""

from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import FactoredMatrix
from transformer_lens.utilities.matrix import composition_scores

from interp.errors import InterpError
from interp.model.bias import BiasControl
from interp.model.components import Embed, PosEmbed, Unembed
from interp.model.config import ModelConfig, check_choice
from interp.model.norm import Norm
from interp.model.tokens import TokenMethods
from interp.spelling import token_strings


class Circuits(BiasControl, TokenMethods):
    """The weights of a model, per head and stacked over layers, its circuits `QK`, `OV`, and those of its biases.

    `b_Q`, `b_K`, `b_V` are the *learned* biases of the projections (beta_Q ...); the unlearned ones are `bias_q`, `bias_v`.
    A bias that the model does not learn is zeros. With grouped heads W_K, W_V, b_K, b_V are repeated for the heads that read
    them, as in TransformerLens: copies, whose editing changes nothing; views are `blocks[l].attn._W_K` and so on.
    """

    cfg: ModelConfig
    ln_final: Norm
    get_parameter: Callable[[str], nn.Parameter]
    get_submodule: Callable[[str], nn.Module]
    blocks: nn.ModuleList
    embed: Embed
    pos_embed: PosEmbed  # only with learned positions
    unembedding: nn.Linear  # only where it is not the token embedding

    W_Q = property(lambda self: self._heads(0)[0], doc="Query projections, [layer, head_index, d_model, d_head].")
    W_K = property(lambda self: self._heads(1)[0], doc="Key projections, [layer, head_index, d_model, d_head].")
    W_V = property(lambda self: self._heads(2)[0], doc="Value projections, [layer, head_index, d_model, d_head].")
    b_Q = property(lambda self: self._heads(0)[1], doc="Learned query biases beta_Q, [layer, head_index, d_head].")
    b_K = property(lambda self: self._heads(1)[1], doc="Learned key biases, alike; they cancel in the softmax.")
    b_V = property(lambda self: self._heads(2)[1], doc="Learned value biases beta_V, [layer, head_index, d_head].")
    b_O = property(lambda self: self._biases("attn.out"), doc="Output biases of attention, [layer, d_model].")
    W_in = property(
        lambda self: self._stack("mlp.fc_in.weight").mT,
        doc="First maps of the MLPs, [layer, d_model, d_mlp]; here and below experts have an axis behind layer.",
    )
    W_out = property(lambda self: self._stack("mlp.fc_out.weight").mT, doc="Second maps, [layer, d_mlp, d_model].")
    W_gate = property(
        lambda self: self._stack("mlp.fc_gate.weight").mT if self.cfg.gated_mlp else None,
        doc="Gates of the MLPs, [layer, d_model, d_mlp]; None where they have none.",
    )
    b_in = property(lambda self: self._biases("mlp.fc_in"), doc="Biases of the first maps, [layer, d_mlp].")
    b_out = property(lambda self: self._biases("mlp.fc_out"), doc="Biases of the second maps, [layer, d_model].")
    W_E = property(lambda self: self.embed.weight, doc="Token embeddings, [d_vocab, d_model].")
    W_U = property(
        lambda self: self.unembed.W_U, doc="Unembedding, [d_model, d_vocab]: the token embeddings, where they are tied."
    )
    b_U = property(lambda self: self.unembed.b_U, doc="Unembedding bias, [d_vocab]; there is none: zeros.")

    @property
    def W_O(self) -> Float[Tensor, "layer head_index d_head d_model"]:
        """Output projections."""
        cfg = self.cfg
        return self._stack("attn.out.weight").unflatten(-1, (cfg.n_heads, cfg.d_head)).permute(0, 2, 3, 1)

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        """Learned position embeddings; zeros with RoPE."""
        if self.cfg.positional == "learned":
            return self.pos_embed.weight
        return self.W_E.new_zeros(self.cfg.n_ctx, self.cfg.d_model)

    def _stack(self, path: str) -> Tensor:
        """Return a parameter of every block as one tensor [layer, ...] that shares their memory.

        The first call lays them out side by side; training, checkpoints and optimizers keep seeing the same parameters.
        The result takes no part in autograd.
        """
        parameters = [block.get_parameter(path) for block in self.blocks]
        first, size = parameters[0].data, parameters[0].numel()
        storage = first.untyped_storage().data_ptr()
        side_by_side = all(
            p.untyped_storage().data_ptr() == storage and p.storage_offset() == first.storage_offset() + index * size
            for index, p in enumerate(parameters)
        )
        if not side_by_side:
            together = torch.stack([p.data for p in parameters])
            for parameter, row in zip(parameters, together, strict=True):
                parameter.data = row
            return together
        return first.as_strided((len(parameters), *first.shape), (size, *first.stride()))

    def _biases(self, path: str) -> Tensor:
        """Return the learned biases of a linear map of every block, zeros where it has none."""
        linear: Any = self.blocks[0].get_submodule(path)
        if linear.bias is None:
            return self.W_E.new_zeros(self.cfg.n_layers, *linear.weight.shape[:-1])
        return self._stack(f"{path}.bias")

    def _heads(self, part: int) -> tuple[Tensor, Tensor]:
        """Return the projections of queries (0), keys (1) or values (2) and their learned biases, of every head."""
        cfg, sizes = self.cfg, (self.cfg.n_heads, self.cfg.kv_heads, self.cfg.kv_heads)
        stacked = self._stack("attn.qkv.weight"), self._biases("attn.qkv")
        weight, bias = (each.unflatten(1, (-1, cfg.d_head)).split(sizes, 1)[part] for each in stacked)
        if (group := cfg.n_heads // sizes[part]) > 1:
            weight, bias = weight.repeat_interleave(group, 1), bias.repeat_interleave(group, 1)
        return weight.mT, bias

    @property
    def key_maps(self) -> Float[Tensor, "layer head_index d_model d_head"]:
        """W_K, and where keys are normalized the linear map that their norm is at the scale 1: keys but for their length."""
        if not self.cfg.qk_norm:
            return self.W_K
        norms = [block.get_submodule("attn.k_norm") for block in self.blocks]
        maps = [n.linearize(1.0)(W_K) for n, W_K in zip(norms, self.W_K, strict=True) if isinstance(n, Norm)]
        return torch.stack(maps)

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_K^T of every head, [layer, head_index, d_model, d_model], without any bias or norm of queries and keys."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O of every head, [layer, head_index, d_model, d_model]."""
        return FactoredMatrix(self.W_V, self.W_O)

    @property
    def W_E_pos(self) -> Float[Tensor, "d_vocab_and_n_ctx d_model"]:
        """Token and position embeddings, one below the other."""
        return torch.cat([self.W_E, self.W_pos])

    def all_composition_scores(
        self, mode: Literal["Q", "K", "V"]
    ) -> Float[Tensor, "writer_layer writer_head reader_layer reader_head"]:
        """Return how much of what a head writes a later head's queries, keys or values read; 0 for heads not later.

        ||W_OV W|| / (||W_OV|| ||W||) with Frobenius norms, as TransformerLens.
        Source: Elhage et al., A Mathematical Framework for Transformer Circuits, 2021.

        Raises:
            InterpError: another mode.
        """
        check_choice("mode", mode, ("Q", "K", "V"))
        readers = {"Q": self.QK, "K": self.QK.T, "V": self.OV}
        scores = composition_scores(self.OV, readers[mode], broadcast_dims=True)
        layer = torch.arange(self.cfg.n_layers, device=scores.device)
        return scores * (layer[:, None, None, None] < layer[None, None, :, None])

    @property
    def bias_QK(self) -> Float[Tensor, "layer head_index d_model"]:
        """The bias's own QK circuit b_Q W_K^T: the direction each head amplifies in the normalized residual stream.

        Its product with the output of `ln1`, over sqrt(d_head), is the bias score in nats, but for the learned key
        bias, which is the same for all keys. With RoPE keys are rotated before they meet b_Q: it is exact at position 0.
        Where keys are normalized, it is the score but for the factor 1 / scale of each key.
        """
        return torch.einsum("lhd,lhmd->lhm", self.biases_in_force()[0], self.key_maps)

    @property
    def bias_OV(self) -> Float[Tensor, "layer head_index d_model"]:
        """What the value bias adds to the residual stream at every position, b_V W_O: pattern rows sum to 1."""
        return torch.einsum("lhd,lhdm->lhm", self.biases_in_force()[1], self.W_O)

    def bias_QK_embed(self) -> Float[Tensor, "layer head_index d_vocab"]:
        """Return `bias_QK` read on the embedding matrix: the bias score in nats of each token's own embedding.

        Each token's embedding goes alone through the layer's `ln1`, as if nothing had been added to it.
        """
        norms = [block.get_submodule("ln1") for block in self.blocks]
        embedded = torch.stack([norm.normalize(self.W_E) for norm in norms if isinstance(norm, Norm)])
        return torch.einsum("lhm,lvm->lhv", self.bias_QK, embedded) / self.cfg.attn_scale

    def bias_top_tokens(self, layer: int, head: int, k: int = 10) -> pd.DataFrame:
        """Return the k tokens a head's bias raises most and the k it lowers most, by `bias_QK_embed`.

        Columns: token, token_index, score (in nats, less the mean over the vocabulary), highest first.

        Raises:
            InterpError: no tokenizer, or there is no such head.
        """
        self._heads_at([layer], [head])
        scores = self.bias_QK_embed()[layer, head].detach().float()
        scores, order = (scores - scores.mean()).sort(descending=True)
        k = min(k, len(order) // 2)
        chosen, values = (torch.cat([both[:k], both[len(order) - k :]]) for both in (order, scores))
        tokens = token_strings(self.need_tokenizer(), chosen.tolist())
        return pd.DataFrame({"token": tokens, "token_index": chosen.tolist(), "score": values.tolist()})

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d_model"]:
        """Return the sum of the learned output biases b_O and b_out written before a layer.

        Args:
            layer: before this one; n_layers stands for all.
            mlp_input: with b_O of this layer too.
            include_mlp_biases: with b_out.

        Raises:
            InterpError: there is no such layer, or b_out differs from token to token, for there are experts.
        """
        if not 0 <= layer <= self.cfg.n_layers - mlp_input:
            raise InterpError(f"There is no layer {layer} to stop before; this model has {self.cfg.n_layers} layers.")
        if include_mlp_biases and self.cfg.num_experts:
            raise InterpError(
                "Which experts write their b_out differs from token to token; pass include_mlp_biases=False."
            )
        total = self.b_O[: layer + mlp_input].sum(0)
        return total + self.b_out[:layer].sum(0) if include_mlp_biases else total

    @property
    def all_head_labels(self) -> list[str]:
        """Names of all heads, "L0H0", "L0H1", ..."""
        return [f"L{layer}H{head}" for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]

    def tokens_to_residual_directions(
        self, tokens: str | int | Int[Tensor, "..."]
    ) -> Float[Tensor, " d_model"] | Float[Tensor, "*tokens d_model"]:
        """Return the directions whose product with the normalized residual stream are these tokens' logits.

        A string or a single index gives [d_model], tokens of any shape one direction each.
        """
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        if isinstance(tokens, int) or tokens.numel() == 1:
            return self.W_U[:, int(tokens)]
        return self.W_U.T[tokens]

    @property
    def unembed(self) -> Unembed:
        """What makes logits of what has gone through the final norm, with `W_U` and `b_U`."""
        return Unembed(self.embed if self.cfg.tied else self.unembedding)

    def tl_parameters(self) -> dict[str, Tensor]:
        """Return the weights by TransformerLens' names ("blocks.0.attn.W_Q"), in its shapes, as views.

        Those of grouped keys and values are _W_K, _W_V, _b_K, _b_V, with kv_head. Biases that are not there are left out.
        """
        named = {"embed.W_E": self.W_E, "unembed.W_U": self.W_U, "unembed.b_U": self.b_U}
        named |= _norm("ln_final", self.ln_final)
        if self.cfg.positional == "learned":
            named["pos_embed.W_pos"] = self.W_pos
        for index, block in enumerate(self.blocks):
            norms = ["ln1", "ln2", *["attn.q_norm", "attn.k_norm"] * self.cfg.qk_norm]
            for name in norms:
                named |= _norm(f"blocks.{index}.{name}", block.get_submodule(name))
            named |= {f"blocks.{index}.{name}": _attribute(block, name) for name in _weight_names(self.cfg)}
        return named


def _weight_names(cfg: ModelConfig) -> list[str]:
    grouped = "_" if cfg.n_key_value_heads else ""
    maps = ["attn.{}_Q", f"attn.{grouped}{{}}_K", f"attn.{grouped}{{}}_V", "attn.{}_O"]
    maps += ["mlp.{}_gate"] * cfg.gated_mlp + ["mlp.{}_in", "mlp.{}_out"]
    learned = {"all": maps, "qkv": maps[:3], "none": []}[cfg.learned_biases]
    router = ["mlp.W_router"] * bool(cfg.num_experts)
    return [name.format("W") for name in maps] + [name.format("b") for name in learned] + router


def _attribute(block: nn.Module, path: str) -> Tensor:
    part, name = path.split(".")
    return getattr(block.get_submodule(part), name)


def _norm(name: str, norm: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{parameter}": value for parameter, value in norm.named_parameters(recurse=False)}

"""TransformerLens' weight accessors, as views: editing one in place edits the model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.model.config import ModelConfig


def shared_stack(parameters: list[nn.Parameter]) -> Tensor:
    """Return equally shaped parameters as one tensor [layer, ...] that shares their memory.

    The first call lays them out side by side; training, checkpoints and optimizers keep seeing the same parameters.
    The result takes no part in autograd.
    """
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


class WeightAccessors:
    """The accessors of a model with `blocks`, `embed`, `cfg`; per head and stacked over layers.

    `b_Q`, `b_K`, `b_V` are the *learned* biases of the projections (beta_Q ...); the unlearned ones are `bias_q`, `bias_v`.
    """

    cfg: ModelConfig
    blocks: nn.ModuleList
    embed: nn.Embedding
    pos_embed: nn.Embedding  # only with learned positions

    def _stack(self, path: str) -> Tensor:
        return shared_stack([block.get_parameter(path) for block in self.blocks])

    def _stack_heads(self, part: int) -> tuple[Tensor, " Tensor"]:
        cfg = self.cfg
        weight = self._stack("attn.qkv.weight").view(cfg.n_layers, 3, cfg.n_heads, cfg.d_head, cfg.d_model)[:, part]
        return weight.transpose(-1, -2), self._stack("attn.qkv.bias").view(cfg.n_layers, 3, cfg.n_heads, cfg.d_head)[
            :, part
        ]

    @property
    def W_Q(self) -> Float[Tensor, "layer head_index d_model d_head"]:
        """Query projections."""
        return self._stack_heads(0)[0]

    @property
    def W_K(self) -> Float[Tensor, "layer head_index d_model d_head"]:
        """Key projections."""
        return self._stack_heads(1)[0]

    @property
    def W_V(self) -> Float[Tensor, "layer head_index d_model d_head"]:
        """Value projections."""
        return self._stack_heads(2)[0]

    @property
    def W_O(self) -> Float[Tensor, "layer head_index d_head d_model"]:
        """Output projections."""
        cfg = self.cfg
        weight = self._stack("attn.out.weight").view(cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_head)
        return weight.permute(0, 2, 3, 1)

    @property
    def b_Q(self) -> Float[Tensor, "layer head_index d_head"]:
        """Learned query biases beta_Q."""
        return self._stack_heads(0)[1]

    @property
    def b_K(self) -> Float[Tensor, "layer head_index d_head"]:
        """Learned key biases; they cancel in the softmax."""
        return self._stack_heads(1)[1]

    @property
    def b_V(self) -> Float[Tensor, "layer head_index d_head"]:
        """Learned value biases beta_V."""
        return self._stack_heads(2)[1]

    @property
    def b_O(self) -> Float[Tensor, "layer d_model"]:
        """Output biases of attention."""
        return self._stack("attn.out.bias")

    @property
    def W_in(self) -> Float[Tensor, "layer d_model d_mlp"]:
        """First maps of the MLPs."""
        return self._stack("mlp.fc_in.weight").transpose(-1, -2)

    @property
    def W_out(self) -> Float[Tensor, "layer d_mlp d_model"]:
        """Second maps of the MLPs."""
        return self._stack("mlp.fc_out.weight").transpose(-1, -2)

    @property
    def b_in(self) -> Float[Tensor, "layer d_mlp"]:
        """Biases of the first maps."""
        return self._stack("mlp.fc_in.bias")

    @property
    def b_out(self) -> Float[Tensor, "layer d_model"]:
        """Biases of the second maps."""
        return self._stack("mlp.fc_out.bias")

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        """Token embeddings."""
        return self.embed.weight

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        """Unembedding, tied to the token embeddings."""
        return self.W_E.T

    @property
    def b_U(self) -> Float[Tensor, " d_vocab"]:
        """Unembedding bias; this architecture has none."""
        return self.W_E.new_zeros(self.W_E.shape[0])

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        """Learned position embeddings; zeros with RoPE."""
        if self.cfg.positional == "learned":
            return self.pos_embed.weight
        return self.W_E.new_zeros(self.cfg.n_ctx, self.cfg.d_model)

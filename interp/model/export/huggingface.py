"""A model as Hugging Face's GPT-2, its mean biases folded into the learned ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from interp.errors import InterpError
from interp.model.circuits import Circuits
from interp.model.components import TransformerBlock, prelu
from interp.model.tokens import special_index

ACTIVATIONS = {"gelu": "gelu_new", "gelu_exact": "gelu"}  # Hugging Face's names; a PReLU has none


class PReLU(nn.Module):
    """The activation GPT-2 does not know: a slope for each feature."""

    def __init__(self, d_mlp: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_mlp))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply what is negative by its feature's slope; [batch, pos, d_mlp]."""
        return prelu(x, self.weight)


def to_huggingface(model: Circuits) -> GPT2LMHeadModel:
    """Return a GPT2LMHeadModel with the same logits; its weights are copies.

    b_Q and b_V as they are in force in evaluation mode become part of the learned biases, for GPT-2 has no others.

    Raises:
        InterpError: the model has a PReLU or RoPE, which GPT-2 does not know.
    """
    choices = (("PReLU", model.cfg.activation == "prelu"), ("RoPE", model.cfg.positional == "rope"))
    foreign = [name for name, found in choices if found]
    if foreign:
        raise InterpError(
            f"This model has {' and '.join(foreign)}, and Hugging Face's GPT-2 knows only GELU with learned positions; "
            "use model.to_bridge()."
        )
    return gpt2(model)


def gpt2(model: Circuits) -> GPT2LMHeadModel:
    """Return the GPT-2 that `to_huggingface` and `to_bridge` share.

    A PReLU stands in its place in the MLPs. With RoPE this is the model without rotation and without b_Q, which is
    added after it: its attention is not yet complete.
    """
    with torch.random.fork_rng(devices=[]):  # it draws weights that are then replaced
        new = GPT2LMHeadModel(_config(model))
    if model.cfg.activation == "prelu":
        for layer in new.transformer.h:
            layer.get_submodule("mlp").register_module("act", PReLU(model.cfg.d_mlp))
    nn.Module.to(new, model.cfg.device, model.cfg.dtype)
    new.load_state_dict(_weights(model))
    return new.train(model.training)


def _config(model: Circuits) -> GPT2Config:
    cfg, tokenizer = model.cfg, model.tokenizer
    end = None if tokenizer is None else special_index(tokenizer.eos_token_id)
    return GPT2Config(
        vocab_size=cfg.d_vocab, n_positions=cfg.n_ctx, n_embd=cfg.d_model, n_layer=cfg.n_layers, n_head=cfg.n_heads,
        n_inner=cfg.d_mlp, activation_function=ACTIVATIONS.get(cfg.activation, "gelu_new"), layer_norm_epsilon=cfg.eps,
        resid_pdrop=cfg.dropout, embd_pdrop=cfg.dropout, attn_pdrop=0.0, initializer_range=cfg.init_range,
        bos_token_id=end, eos_token_id=end,
    )  # fmt: skip


@torch.no_grad()
def _weights(model: Circuits) -> dict[str, Tensor]:
    """Return the weights by GPT-2's names."""
    embedding = model.embed.weight
    weights = {"wte.weight": embedding, "wpe.weight": model.W_pos}
    weights |= {"ln_f.weight": model.ln_final.w, "ln_f.bias": model.ln_final.b}
    bias_q, bias_v = model.mean_biases()
    if model.cfg.positional == "rope":
        bias_q = torch.zeros_like(bias_q)
    for index, block in enumerate(model.blocks):
        assert isinstance(block, TransformerBlock)
        layer = _block_weights(block, bias_q[index], bias_v[index])
        weights |= {f"h.{index}.{name}": value for name, value in layer.items()}
    return {f"transformer.{name}": value.detach().clone() for name, value in weights.items()} | {
        "lm_head.weight": embedding.detach().clone()
    }


def _block_weights(block: TransformerBlock, bias_q: Tensor, bias_v: Tensor) -> dict[str, Tensor]:
    attn, mlp = block.attn, block.mlp
    slope = {} if mlp.slope is None else {"mlp.act.weight": mlp.slope}
    folded = torch.cat([bias_q.flatten(), torch.zeros_like(bias_q).flatten(), bias_v.flatten()])
    weights = {f"ln_{i}.{name}": value for i, norm in ((1, block.ln1), (2, block.ln2)) for name, value in _affine(norm)}
    for name, linear in (("attn.c_proj", attn.out), ("mlp.c_fc", mlp.fc_in), ("mlp.c_proj", mlp.fc_out)):
        weights |= {f"{name}.weight": linear.weight.T, f"{name}.bias": linear.bias}
    return weights | slope | {"attn.c_attn.weight": attn.qkv.weight.T, "attn.c_attn.bias": attn.qkv.bias + folded}


def _affine(norm: nn.Module) -> list[tuple[str, Tensor]]:
    return [("weight", norm.get_parameter("w")), ("bias", norm.get_parameter("b"))]

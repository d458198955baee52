"""A model as Hugging Face's: GPT-2 here, Llama's kind in `llama`; its mean biases are folded into the learned ones."""

from itertools import product

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from interp.errors import InterpError
from interp.model.attention import bias_of
from interp.model.circuits import Circuits
from interp.model.components import prelu
from interp.model.config import ModelConfig
from interp.model.export.llama import beyond_llama, llama
from interp.vocabulary import border_id

ACTIVATIONS = {"gelu": "gelu_new", "gelu_exact": "gelu"}  # Hugging Face's names; a PReLU has none


class PReLU(nn.Module):
    """The activation GPT-2 does not know: a slope for each feature."""

    def __init__(self, d_mlp: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_mlp))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply what is negative by its feature's slope; [batch, pos, d_mlp]."""
        return prelu(x, self.weight)


def to_huggingface(model: Circuits) -> PreTrainedModel:
    """Return Hugging Face's model with the same logits; its weights are copies.

    It is a GPT2LMHeadModel for GPT-2's block, and for Llama's a LlamaForCausalLM, a Qwen2ForCausalLM where only queries,
    keys and values have biases, or a Qwen3ForCausalLM where queries and keys are normalized. b_Q and b_V as they are in
    force in evaluation mode become part of the learned biases, for these models have no others.

    Raises:
        InterpError: the model has what no one of them has; with Llama's block a b_Q is among it.
    """
    cfg = model.cfg
    if cfg.norm == "layer":
        choices = (("PReLU", cfg.activation == "prelu"), ("RoPE", cfg.positional == "rope"))
        foreign = [*beyond_gpt2(cfg), *(name for name, found in choices if found)]
        if foreign:
            raise InterpError(
                f"This model has {' and '.join(foreign)}, and Hugging Face's GPT-2 knows only GELU with learned positions; "
                "use model.to_bridge()."
            )
        return gpt2(model)
    if foreign := beyond_llama(cfg):
        raise InterpError(
            f"This model has RMSNorm, as Llama, and {' and '.join(foreign)}, which no Llama or Qwen of Hugging Face's has; "
            "it cannot be exported."
        )
    if bool(model.mean_biases()[0].any()):
        raise InterpError(
            "This model has a b_Q, which is added after RoPE's rotation; before it, where Llama's bias is, it would turn "
            "with the position. Use model.to_bridge(), or take it away: with model.bias(scale=0): ..."
        )
    return llama(model)


def beyond_gpt2(cfg: ModelConfig) -> list[str]:
    """Return what a config has that neither GPT-2 has nor anything that can stand in its place."""
    choices = (
        ("RMSNorm", cfg.norm == "rms"),
        ("gated MLPs", cfg.gated_mlp),
        ("experts", bool(cfg.num_experts)),
        ("grouped heads", cfg.kv_heads != cfg.n_heads),
        ("a norm of queries and keys", cfg.qk_norm),
        ("heads of another size than d_model / n_heads", cfg.n_heads * cfg.d_head != cfg.d_model),
    )
    return [name for name, found in choices if found]


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
    end = None if tokenizer is None else border_id(tokenizer)
    return GPT2Config(
        vocab_size=cfg.d_vocab, n_positions=cfg.n_ctx, n_embd=cfg.d_model, n_layer=cfg.n_layers, n_head=cfg.n_heads,
        n_inner=cfg.d_mlp, activation_function=ACTIVATIONS.get(cfg.activation, "gelu_new"), layer_norm_epsilon=cfg.eps,
        resid_pdrop=cfg.dropout, embd_pdrop=cfg.dropout, attn_pdrop=0.0, initializer_range=cfg.init_range,
        bos_token_id=end, eos_token_id=end, tie_word_embeddings=cfg.tied,
    )  # fmt: skip


@torch.no_grad()
def _weights(model: Circuits) -> dict[str, Tensor]:
    weights = {"transformer.wpe.weight": model.W_pos}
    for our, their in parameter_names(model.cfg).items():
        path, kind = our.rsplit(".", 1)
        layer = model.get_submodule(path)
        value = bias_of(layer) if kind == "bias" and isinstance(layer, nn.Linear) else model.get_parameter(our)
        weights[their] = value.T if our.startswith("blocks.") and value.ndim == 2 else value
    bias_q, bias_v = model.mean_biases()
    for layer, (query, value) in enumerate(zip(bias_q.flatten(1), bias_v.flatten(1), strict=True)):
        query = torch.zeros_like(query) if model.cfg.positional == "rope" else query
        name = f"transformer.h.{layer}.attn.c_attn.bias"
        weights[name] = weights[name] + torch.cat([query, torch.zeros_like(query), value])
    return {name: value.detach().clone() for name, value in (weights | {"lm_head.weight": model.W_U.T}).items()}


def parameter_names(
    cfg: ModelConfig, root: str = "transformer.", attention: str = "attn", norm: str = "ln_"
) -> dict[str, str]:
    """Return GPT-2's name for each parameter of ours.

    All names begin with `root`; `attention` and `norm` are what these are called in a block (`norm` without its number).
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

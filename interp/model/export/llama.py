"""A model with Llama's block as Hugging Face's Llama, Qwen2 or Qwen3: names of the weights, and what these have no word for.

Qwen2 is Llama with biases on queries, keys and values, Qwen3 with a norm over each head's queries and keys.
"""

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config
from transformers import Qwen3ForCausalLM as Qwen3

from interp.errors import InterpError
from interp.model.circuits import Circuits
from interp.model.config import ModelConfig
from interp.vocabulary import border_id

KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3),
}
Place = tuple[str, slice]  # a parameter of ours, and the rows of it


def beyond_llama(cfg: ModelConfig) -> list[str]:
    """Return what a config has that no block of the family has."""
    choices = (
        ("LayerNorm", cfg.norm == "layer"),
        (f"MLPs with {cfg.act_fn}", not cfg.gated_mlp),
        ("experts", bool(cfg.num_experts)),
        ("learned positions", cfg.positional == "learned"),
        ("RoPE on a part of each head", cfg.positional == "rope" and cfg.rotary_dim != cfg.d_head),
        ("biases in the MLPs beside a norm of queries and keys", cfg.qk_norm and cfg.learned_biases == "all"),
        ("heads that do not divide d_model", _kind(cfg) == "llama" and cfg.d_model % cfg.n_heads != 0),
    )
    return [name for name, found in choices if found]


def llama(model: Circuits) -> PreTrainedModel:
    """Return the model of Hugging Face's that has this one's block; its weights are copies.

    b_V as it is in force in evaluation mode becomes part of the learned bias of the values. b_Q is left out: with RoPE it is
    added after the rotation, where these models have nothing to add. Dropout is left out.

    Raises:
        InterpError: heads that read the same values have different b_V.
    """
    cfg, (_, bias_v) = model.cfg, model.mean_biases()
    of_groups = bias_v.unflatten(1, (cfg.kv_heads, -1))
    if not torch.equal(of_groups, of_groups[:, :, :1].expand_as(of_groups)):
        raise InterpError(
            "Heads that read the same values have different b_V, and Hugging Face's models have one bias for all that read "
            "them; change b_V for whole groups of heads."
        )
    broken = bool(bias_v.any())
    with torch.random.fork_rng(devices=[]):  # it draws weights that are then replaced
        new = KINDS[_kind(cfg)][1](_config(model, broken))
    nn.Module.to(new, cfg.device, cfg.dtype)
    weights, names = new.state_dict(), {"lm_head.weight": ("embed.weight", slice(None)), **parameter_names(cfg)}
    for name, value in weights.items():  # what is not ours are biases that were added to hold b_V
        value.copy_(_rows(model, names[name]) if name in names else torch.zeros_like(value))
    if broken:
        for layer, value in enumerate(of_groups[:, :, 0].flatten(1)):
            weights[f"model.layers.{layer}.self_attn.v_proj.bias"].add_(value.detach())
    return new.train(model.training)


def _kind(cfg: ModelConfig) -> str:
    return "qwen3" if cfg.qk_norm else "qwen2" if cfg.learned_biases == "qkv" else "llama"


def _rows(model: Circuits, place: Place) -> Tensor:
    return model.get_parameter(place[0]).detach()[place[1]]


def _config(model: Circuits, broken: bool) -> LlamaConfig | Qwen2Config | Qwen3Config:
    cfg, tokenizer = model.cfg, model.tokenizer
    end = None if tokenizer is None else border_id(tokenizer)
    kind = _kind(cfg)
    biases = {} if kind == "qwen2" else {"attention_bias": broken or cfg.learned_biases != "none"}
    biases |= {"mlp_bias": cfg.learned_biases == "all"} if kind == "llama" else {}
    return KINDS[kind][0](
        vocab_size=cfg.d_vocab, hidden_size=cfg.d_model, intermediate_size=cfg.d_mlp, num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads, num_key_value_heads=cfg.kv_heads, head_dim=cfg.d_head, hidden_act="silu",
        max_position_embeddings=cfg.n_ctx, initializer_range=cfg.init_range, rms_norm_eps=cfg.eps,
        tie_word_embeddings=cfg.tied, rope_parameters={"rope_type": "default", "rope_theta": cfg.rotary_base},
        bos_token_id=end, eos_token_id=end, pad_token_id=None, **biases,
    )  # fmt: skip


def parameter_names(cfg: ModelConfig, root: str = "model.") -> dict[str, Place]:
    """Return where each of Hugging Face's parameters is in ours; all names but that of the unembedding begin with `root`."""
    everything = slice(None)
    names: dict[str, Place] = {f"{root}embed_tokens.weight": ("embed.weight", everything)}
    names[f"{root}norm.weight"] = ("ln_final.w", everything)
    if not cfg.tied:
        names["lm_head.weight"] = ("unembedding.weight", everything)
    of_norms = {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"}
    if cfg.qk_norm:
        of_norms |= {"attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm"}
    ends = [
        0,
        *(cfg.d_head * heads for heads in (cfg.n_heads, cfg.n_heads + cfg.kv_heads, cfg.n_heads + 2 * cfg.kv_heads)),
    ]
    linear: list[tuple[str, str, slice, bool]] = [
        (f"self_attn.{part}_proj", "attn.qkv", slice(start, end), cfg.learned_biases != "none")
        for part, start, end in zip("qkv", ends, ends[1:], strict=False)
    ]
    others = {"self_attn.o_proj": "attn.out", "mlp.gate_proj": "mlp.fc_gate", "mlp.up_proj": "mlp.fc_in"}
    others["mlp.down_proj"] = "mlp.fc_out"
    linear += [(their, our, everything, cfg.learned_biases == "all") for their, our in others.items()]
    for layer in range(cfg.n_layers):
        theirs, ours = f"{root}layers.{layer}.", f"blocks.{layer}."
        names |= {f"{theirs}{their}.weight": (f"{ours}{our}.w", everything) for our, their in of_norms.items()}
        for their, our, rows, biased in linear:
            for kind in ["weight", *["bias"] * biased]:
                names[f"{theirs}{their}.{kind}"] = (f"{ours}{our}.{kind}", rows)
    return names

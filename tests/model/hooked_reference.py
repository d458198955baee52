"""The forward pass in float64 as the formulas read, showing each activation to `see`, which may change it."""

import math

import torch

from interp.model.norm import RMSNorm
from tests.model.reference import normed, rotate_one


def shown_norm(name, norm, x, eps, see):
    centred = x if isinstance(norm, RMSNorm) else x - x.mean(-1, keepdim=True)
    scale = see(f"{name}.hook_scale", (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt())
    return see(f"{name}.hook_normalized", centred / scale * norm.w + norm.b)


def turned(x, cfg):
    rows = [[rotate_one(head, i, cfg.rotary_dim, cfg.rotary_base) for head in row] for i, row in enumerate(x)]
    return torch.stack([torch.stack(row) for row in rows])


def read_inputs(name, block, x, cfg, see):
    """What queries, keys and values read, [pos, head, d_model] each; heads of keys and values may be fewer."""
    heads = cfg.n_heads, cfg.kv_heads, cfg.kv_heads
    copies = [x[:, None].expand(-1, number, -1) for number in heads]
    if cfg.use_attn_in:
        read = normed(block.ln1, see(f"{name}.attn.hook_attn_in", copies[0]), cfg.eps)
        return [read[:, :: cfg.n_heads // number] for number in heads]
    if not cfg.use_split_qkv_input:
        read = shown_norm(f"{name}.ln1", block.ln1, x, cfg.eps, see)
        return [read[:, None].expand(-1, number, -1) for number in heads]
    names = ["hook_q_input", "hook_k_input", "hook_v_input"]
    shown = [see(f"{name}.attn.{n}", x) for n, x in zip(names, copies, strict=True)]
    return [normed(block.ln1, x, cfg.eps) for x in shown]


def replaced_component(x, bias, see, name):
    length = bias.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, bias / length, 0.0)
    before = torch.einsum("phd,hd->ph", x, unit)
    return x + (see(name, before) - before)[..., None] * unit


def attention(name, attn, inputs, bias_q, bias_v, cfg, see):
    q, k, v = (
        see(
            f"{name}.hook_{p.lower()}",
            torch.einsum("phm,hmd->phd", x, getattr(attn, w)) + getattr(attn, b),
        )
        for p, w, b, x in zip("QKV", ("W_Q", "_W_K", "_W_V"), ("b_Q", "_b_K", "_b_V"), inputs, strict=True)
    )
    if cfg.qk_norm:
        q = shown_norm(f"{name}.q_norm", attn.q_norm, q, cfg.eps, see)
        k = shown_norm(f"{name}.k_norm", attn.k_norm, k, cfg.eps, see)
    if cfg.positional == "rope":
        q, k = see(f"{name}.hook_rot_q", turned(q, cfg)), see(f"{name}.hook_rot_k", turned(k, cfg))
    k, v = ([x[:, h // (cfg.n_heads // cfg.kv_heads)] for h in range(cfg.n_heads)] for x in (k, v))
    k, v = torch.stack(k, 1), torch.stack(v, 1)
    bias_q, bias_v = see(f"{name}.hook_bias_q", bias_q), see(f"{name}.hook_bias_v", bias_v)
    k = replaced_component(k, bias_q, see, f"{name}.hook_k_aligned")
    q = see(f"{name}.hook_q_biased", replaced_component(q, bias_q, see, f"{name}.hook_q_aligned") + bias_q)
    v = see(f"{name}.hook_v_biased", replaced_component(v, bias_v, see, f"{name}.hook_v_aligned") + bias_v)
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(cfg.d_head)
    bias_scores = torch.einsum("hd,khd->hk", bias_q, k) / math.sqrt(cfg.d_head)
    scores = scores + (see(f"{name}.hook_bias_scores", bias_scores) - bias_scores)[:, None]
    future = torch.arange(len(q))[:, None] < torch.arange(len(q))
    scores = see(f"{name}.hook_attn_scores", torch.where(future, -torch.inf, scores))
    pattern = see(f"{name}.hook_pattern", scores.softmax(-1))
    z = see(f"{name}.hook_z", torch.einsum("hqk,khd->qhd", pattern, v))
    result = torch.einsum("phd,hdm->phm", z, attn.W_O)
    return (see(f"{name}.hook_result", result) if cfg.use_attn_result else result).sum(1) + attn.b_O


def mlp(name, part, x, cfg, see):
    if cfg.activation == "swiglu":
        gate = see(f"{name}.hook_pre", x @ part.W_gate + part.b_gate)
        linear = see(f"{name}.hook_pre_linear", x @ part.W_in + part.b_in)
        return see(f"{name}.hook_post", gate / (1 + torch.exp(-gate)) * linear) @ part.W_out + part.b_out
    pre = see(f"{name}.hook_pre", x @ part.W_in + part.b_in)
    if cfg.activation == "prelu":
        post = torch.where(pre > 0, pre, part.slope * pre)
    else:
        post = 0.5 * pre * (1 + torch.tanh(math.sqrt(2 / math.pi) * (pre + 0.044715 * pre**3)))
    return see(f"{name}.hook_post", post) @ part.W_out + part.b_out


def hooked_forward(model, tokens, see):
    """Logits [pos, d_vocab] of one row of tokens and a float64 model."""
    cfg, biases = model.cfg, model.biases_in_force()
    x = see("hook_embed", model.W_E[tokens])
    if cfg.positional == "learned":
        x = x + see("hook_pos_embed", model.W_pos[: len(tokens)])
    for layer, (block, bias_q, bias_v) in enumerate(zip(model.blocks, *biases, strict=True)):
        name = f"blocks.{layer}"
        x = see(f"{name}.hook_resid_pre", x)
        inputs = read_inputs(name, block, x, cfg, see)
        written = attention(f"{name}.attn", block.attn, inputs, bias_q, bias_v, cfg, see)
        x = see(f"{name}.hook_resid_mid", x + see(f"{name}.hook_attn_out", written))
        read = see(f"{name}.hook_mlp_in", x) if cfg.use_hook_mlp_in else x
        written = mlp(f"{name}.mlp", block.mlp, shown_norm(f"{name}.ln2", block.ln2, read, cfg.eps, see), cfg, see)
        x = see(f"{name}.hook_resid_post", x + see(f"{name}.hook_mlp_out", written))
    return shown_norm("ln_final", model.ln_final, x, cfg.eps, see) @ model.W_U

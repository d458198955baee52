"""The model once more, in float64 and as slowly as the formulas read: loops over heads, queries and keys."""

import math

import torch

from interp.model.norm import RMSNorm


def layer_norm(x, w, b, eps):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(-1, keepdim=True) + eps).sqrt() * w + b


def normed(norm, x, eps):
    """What a norm makes of float64 vectors."""
    w = norm.w.double()
    if isinstance(norm, RMSNorm):
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w
    return layer_norm(x, w, norm.b.double(), eps)


def activated(part, x, activation):
    """What an MLP makes of the normalized stream before its second map; weights in float64."""
    pre = x @ part.W_in.double() + part.b_in.double()
    if activation == "swiglu":
        gate = x @ part.W_gate.double() + part.b_gate.double()
        return gate / (1 + torch.exp(-gate)) * pre
    if activation == "prelu":
        return torch.where(pre > 0, pre, part.slope.double() * pre)
    return 0.5 * pre * (1 + torch.tanh(math.sqrt(2 / math.pi) * (pre + 0.044715 * pre**3)))


def rotate_one(vector, position, rotary_dim, base):
    out, half = vector.clone(), rotary_dim // 2
    for i in range(half):
        angle = position * base ** (-i / half)
        a, b = vector[i], vector[half + i]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[half + i] = b * math.cos(angle) + a * math.sin(angle)
    return out


def head_scores(model, layer, head, normalized, bias_q):
    """Scores [query, key] of one head with -inf in the future, its values, and its keys."""
    cfg, attn = model.cfg, model.blocks[layer].attn
    q, k, v = (
        normalized @ getattr(attn, f"W_{p}")[head].double() + getattr(attn, f"b_{p}")[head].double() for p in "QKV"
    )
    if cfg.qk_norm:
        q, k = normed(attn.q_norm, q, cfg.eps), normed(attn.k_norm, k, cfg.eps)
    if cfg.positional == "rope":
        q = torch.stack([rotate_one(row, i, cfg.rotary_dim, cfg.rotary_base) for i, row in enumerate(q)])
        k = torch.stack([rotate_one(row, i, cfg.rotary_dim, cfg.rotary_base) for i, row in enumerate(k)])
    scores = torch.full((len(q), len(q)), -torch.inf, dtype=torch.float64)
    for i in range(len(q)):
        for j in range(i + 1):
            scores[i, j] = (q[i] + bias_q) @ k[j] / math.sqrt(cfg.d_head)
    return scores, v, k


def forward(model, tokens, visit=lambda layer, normalized: None):
    """Logits [pos, d_vocab] of one row of tokens; `visit` sees the normalized input of each attention layer."""
    cfg = model.cfg
    bias_q, bias_v = (b.detach().double() for b in model.biases_in_force())
    x = model.W_E.detach().double()[tokens]
    if cfg.positional == "learned":
        x = x + model.W_pos.detach().double()[: len(tokens)]
    for layer, block in enumerate(model.blocks):
        normalized = normed(block.ln1, x, cfg.eps)
        visit(layer, normalized)
        for head in range(cfg.n_heads):
            scores, v, _ = head_scores(model, layer, head, normalized, bias_q[layer, head])
            x = x + scores.softmax(-1) @ (v + bias_v[layer, head]) @ block.attn.W_O[head].double()
        x = x + block.attn.b_O.double()
        post = activated(block.mlp, normed(block.ln2, x, cfg.eps), cfg.activation)
        x = x + post @ block.mlp.W_out.double() + block.mlp.b_out.double()
    return normed(model.ln_final, x, cfg.eps) @ model.W_U.detach().double()

"""A GPT-2 of plain torch, shaped as nanoGPT's, and a bare loop around it: what training costs without this package."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Causal attention and an MLP, each behind a LayerNorm."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, pos, width = x.shape
        parts = self.qkv(self.norms[0](x)).split(width, dim=2)
        q, k, v = (part.view(batch, pos, self.heads, -1).transpose(1, 2) for part in parts)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(z.transpose(1, 2).reshape(batch, pos, width))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class PlainGPT(nn.Module):
    """Token and position embeddings, blocks, a last LayerNorm, the token embedding again."""

    def __init__(self, cfg):
        super().__init__()
        self.embed, self.pos_embed = nn.Embedding(cfg.d_vocab, cfg.d_model), nn.Embedding(cfg.n_ctx, cfg.d_model)
        self.blocks = nn.Sequential(*[Block(cfg.d_model, cfg.n_heads) for _ in range(cfg.n_layers)])
        self.norm = nn.LayerNorm(cfg.d_model)
        for embedding in (self.embed, self.pos_embed):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens):
        x = self.embed(tokens) + self.pos_embed.weight[: tokens.shape[1]]
        logits = F.linear(self.norm(self.blocks(x))[:, :-1], self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def plain_steps(cfg, stream, batch_size, compile=False):
    """Train without end on random contexts of a stream of tokens; yield the loss of each step."""
    model = PlainGPT(cfg).train()
    forward = torch.compile(model) if compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    random = np.random.default_rng(0)
    while True:
        starts = random.integers(len(stream) - cfg.n_ctx, size=batch_size)
        tokens = torch.from_numpy(np.stack([stream[s : s + cfg.n_ctx] for s in starts]).astype(np.int64))
        optimizer.zero_grad(set_to_none=True)
        loss = forward(tokens)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()

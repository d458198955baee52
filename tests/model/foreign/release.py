"""The released architecture (arXiv 2601.22257) in float64, head by head, and random checkpoints in its layout."""

import math

import torch


class Release:
    """A random checkpoint as the authors' scripts write it, and what it computes at evaluation with the mean biases."""

    def __init__(
        self, seed=0, layers=2, heads=3, width=24, vocabulary=31, context=13, prelu=True, rope=False, kind="bq"
    ):
        self.layers, self.heads, self.width, self.d_head = layers, heads, width, width // heads
        self.prelu, self.rope, self.kind = prelu, rope, kind
        self.generator = torch.Generator().manual_seed(seed)
        self.config = {
            "context_length": context, "vocab_size": vocabulary, "n_layer": layers, "n_head": heads, "n_embd": width,
        }  # fmt: skip
        if rope:
            self.config |= {"rotary_base": 10000, "rope_pct": 0.5}
        self.state = self.weights(vocabulary, context)
        for layer in range(layers):
            self.state |= {f"transformer.h.{layer}.{name}": v for name, v in (self.block() | self.buffers()).items()}

    def normal(self, *shape, scale=0.3):
        return torch.randn(shape, generator=self.generator) * scale

    def weights(self, vocabulary, context):
        embedding = self.normal(vocabulary, self.width, scale=1)
        state = {"transformer.wte.weight": embedding, "lm_head.weight": embedding}
        if not self.rope:
            state["transformer.wpe.weight"] = self.normal(context, self.width)
        return state | self.norm("transformer.ln_f")

    def norm(self, name):
        return {f"{name}.weight": 1 + self.normal(self.width), f"{name}.bias": self.normal(self.width)}

    def linear(self, name, into, out):
        return {f"{name}.weight": self.normal(out, into), f"{name}.bias": self.normal(out)}

    def block(self):
        width = self.width
        block = self.norm("ln1") | self.norm("ln2") | self.linear("sa.c_attn", width, 3 * width)
        block |= self.linear("sa.c_proj", width, width) | self.linear("mlp.c_fc", width, 4 * width)
        slope = {"mlp.act.weight": self.normal(4 * width)} if self.prelu else {}
        return block | self.linear("mlp.c_proj", 4 * width, width) | slope

    def buffers(self):
        """What the attention layer registers: nothing but the mask, b_V alone, or everything."""
        d = self.d_head
        context = self.config["context_length"]
        values = {"mean_V": torch.full((d,), 0.5), "std_V": torch.full((d,), 0.05), "bV": self.draw(0.5)}
        mask = {"causal_mask": torch.ones(context, context).tril()[None, None]}
        if self.kind in ("symmetric", "bv"):
            chosen = values if self.kind == "bv" else {}
        else:
            chosen = {
                "mean_Q": torch.full((d,), 0.5), "std_Q": torch.linspace(0.05, 0.15, d), "bQ": self.draw(0.5),
                "mean_K": torch.full((d,), 0.3), "std_K": torch.linspace(0.12, 0.08, d), "bK": self.draw(0.3),
                **values,
            }  # fmt: skip
            if self.kind == "bq":  # there, but never drawn
                chosen |= {"mean_V": torch.zeros(d), "bV": torch.zeros(self.heads, d)}
        return {f"sa.{name}": value for name, value in (chosen | mask).items()}

    def draw(self, mean):
        return (mean + self.normal(self.d_head, scale=0.1)).expand(self.heads, -1).clone()

    def checkpoint(self, key="model", **more):
        return {key: self.state, "config": self.config, "update": 7, "val_loss": 3.5, **more}

    def bias(self, part):
        used = {"symmetric": "", "bq": "QK", "bv": "V", "bqbv": "QKV"}[self.kind]
        return {"Q": 0.5, "K": 0.3, "V": 0.5}[part] if part in used else 0.0

    def get(self, name):
        return self.state[f"transformer.{name}"].double()

    def logits(self, tokens):
        """Logits [pos, vocabulary] of one row of tokens."""
        x = self.get("wte.weight")[tokens]
        if not self.rope:
            x = x + self.get("wpe.weight")[: len(tokens)]
        for layer in range(self.layers):
            block = f"h.{layer}."
            x = x + self.attention(block, self.normalized(x, f"{block}ln1"))
            hidden = self.apply(self.normalized(x, f"{block}ln2"), f"{block}mlp.c_fc")
            x = x + self.apply(self.activated(hidden, block), f"{block}mlp.c_proj")
        return self.normalized(x, "ln_f") @ self.get("wte.weight").T

    def apply(self, x, name):
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def normalized(self, x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * self.get(f"{name}.weight") + self.get(f"{name}.bias")

    def activated(self, x, block):
        if self.prelu:
            return x.clamp(min=0) + self.get(f"{block}mlp.act.weight") * x.clamp(max=0)
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    def attention(self, block, x):
        queries, keys, values = self.apply(x, f"{block}sa.c_attn").split(self.width, dim=-1)
        mixed = []
        for head in range(self.heads):
            columns = slice(head * self.d_head, (head + 1) * self.d_head)
            q = self.turned(queries[:, columns]) + self.bias("Q")
            k = self.turned(keys[:, columns]) + self.bias("K")
            scores = q @ k.T / math.sqrt(self.d_head)
            weights = scores.exp().tril()
            mixed.append(weights / weights.sum(-1, keepdim=True) @ (values[:, columns] + self.bias("V")))
        return self.apply(torch.cat(mixed, -1), f"{block}sa.c_proj")

    def turned(self, x):
        """Each pair (i, i + r/2) of the first r = d_head/2 dimensions as a complex number, turned by its angle."""
        if not self.rope:
            return x
        half = int(self.d_head * self.config["rope_pct"]) // 2
        angles = torch.arange(len(x))[:, None] * self.config["rotary_base"] ** (-torch.arange(half) / half)
        turned = torch.complex(x[:, :half], x[:, half : 2 * half]) * torch.polar(
            torch.ones(()).double(), angles.double()
        )
        return torch.cat([turned.real, turned.imag, x[:, 2 * half :]], -1)

"""State dicts of TransformerLens' HookedTransformer, checked head by head against its formulas in float64."""

import math

import pytest
import torch
from safetensors.torch import save_file

from interp.errors import InterpError
from interp.model.foreign.formats import read_foreign

SHAPES = [{}, {"layers": 1, "heads": 1, "d_head": 6}, {"layers": 3, "heads": 2, "d_head": 8, "d_mlp": 10, "context": 5}]


def state_dict(layers=2, heads=3, d_head=4, d_mlp=30, vocabulary=19, context=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = heads * d_head

    def normal(*shape):
        return torch.randn(shape, generator=generator) * 0.4

    embedding = normal(vocabulary, width)
    state = {"embed.W_E": embedding, "pos_embed.W_pos": normal(context, width)}
    for layer in range(layers):
        block = {f"ln{i}.{part}": (part == "w") + normal(width) for i in (1, 2) for part in "wb"}
        block |= {f"attn.W_{part}": normal(heads, width, d_head) for part in "QKV"}
        block |= {f"attn.b_{part}": normal(heads, d_head) for part in "QKV"}
        block |= {"attn.W_O": normal(heads, d_head, width), "attn.b_O": normal(width)}
        block |= {"mlp.W_in": normal(width, d_mlp), "mlp.b_in": normal(d_mlp)}
        block |= {"mlp.W_out": normal(d_mlp, width), "mlp.b_out": normal(width)}
        block |= {"attn.mask": torch.ones(context, context).tril().bool(), "attn.IGNORE": torch.tensor(-torch.inf)}
        state |= {f"blocks.{layer}.{name}": value for name, value in block.items()}
    state |= {"ln_final.w": 1 + normal(width), "ln_final.b": normal(width)}
    return state | {"unembed.W_U": embedding.T.contiguous(), "unembed.b_U": torch.zeros(vocabulary)}


def logits(state, tokens, exact):
    """Logits [pos, vocabulary] by the formulas of TransformerLens' documentation."""
    w = {name: value.double() for name, value in state.items()}
    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"][: len(tokens)]
    layers = sum(name.endswith("W_O") for name in w)
    for block in (f"blocks.{layer}." for layer in range(layers)):
        n = norm(x, w[f"{block}ln1.w"], w[f"{block}ln1.b"])
        for head in range(len(w[f"{block}attn.W_Q"])):
            q, k, v = (n @ w[f"{block}attn.W_{part}"][head] + w[f"{block}attn.b_{part}"][head] for part in "QKV")
            weights = (q @ k.T / math.sqrt(k.shape[-1])).exp().tril()
            x = x + weights / weights.sum(-1, keepdim=True) @ v @ w[f"{block}attn.W_O"][head]
        x = x + w[f"{block}attn.b_O"]
        h = norm(x, w[f"{block}ln2.w"], w[f"{block}ln2.b"]) @ w[f"{block}mlp.W_in"] + w[f"{block}mlp.b_in"]
        tanh = torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))
        h = h * (1 + (torch.erf(h / math.sqrt(2)) if exact else tanh)) / 2
        x = x + h @ w[f"{block}mlp.W_out"] + w[f"{block}mlp.b_out"]
    return norm(x, w["ln_final.w"], w["ln_final.b"]) @ w["unembed.W_U"]


def norm(x, weight, bias):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", [None, "gelu", "gelu_exact"])
def test_logits_are_those_of_the_formulas(tmp_path, shape, activation):
    state = state_dict(**shape)
    torch.save(state, tmp_path / "model.pt")
    foreign = read_foreign(tmp_path / "model.pt", activation)
    tokens = torch.randint(19, (shape.get("context", 8),))
    expected = logits(state, tokens, exact=activation == "gelu_exact")
    found = foreign.model(tokens)[0].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert foreign.format == "TransformerLens"
    assert ("GPT-2's GELU" in foreign.notes[0]) == (activation is None)


def test_the_accessors_are_the_weights_that_came_in(tmp_path):
    state = state_dict()
    torch.save({"state_dict": state, "step": 3}, tmp_path / "model.pt")
    model = read_foreign(tmp_path / "model.pt").model
    for layer in range(2):
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
            assert torch.equal(getattr(model, name)[layer], state[f"blocks.{layer}.attn.{name}"]), name
        for name in ("W_in", "W_out", "b_in", "b_out"):
            assert torch.equal(getattr(model, name)[layer], state[f"blocks.{layer}.mlp.{name}"]), name


def test_safetensors_files_are_read_too(tmp_path):
    state = state_dict()
    save_file(state, tmp_path / "model.safetensors")
    assert torch.equal(read_foreign(tmp_path / "model.safetensors").model.W_E, state["embed.W_E"])


def fold(state):
    for name in [name for name in state if name.endswith((".w", ".b"))]:
        del state[name]


def centre(state):
    state["unembed.W_U"] -= state["unembed.W_U"].mean(-1, keepdim=True)


DAMAGE = {
    "folded LayerNorm": (fold, r"LayerNorm is folded into the weights .*\.from_pretrained_no_processing\."),
    "centred unembedding": (centre, "unembedding of .* is not its token embedding, .*from_pretrained_no_processing"),
    "unembedding bias": (lambda s: s["unembed.b_U"].add_(1), "is not its token embedding"),
    "rotary": (lambda s: s.pop("pos_embed.W_pos"), r"lacks pos_embed\.W_pos, or has it in another shape"),
    "attention only": (lambda s: s.pop("blocks.0.mlp.W_in"), r"lacks blocks\.0\.mlp\.W_in"),
    "grouped keys": (
        lambda s: s.update({"blocks.1.attn._W_K": s.pop("blocks.1.attn.W_K")}),
        r"missing: blocks\.1\.attn\.W_K; unknown: blocks\.1\.attn\._W_K\.",
    ),
    "wrong shape": (
        lambda s: s.update({"blocks.1.attn.W_O": torch.ones(12, 12)}),
        r"blocks\.1\.attn\.W_O is \[12, 12\] of float32, expected \[3, 4, 12\]",
    ),
    "heads of another size": (
        lambda s: s.update({"blocks.0.attn.W_Q": torch.ones(4, 12, 4)}),
        r"blocks\.0\.attn\.W_K is \[3, 12, 4\] of float32, expected \[4, 12, 3\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_what_does_not_fit_is_refused(tmp_path, damage, message):
    state = state_dict()
    damage(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(InterpError, match=message):
        read_foreign(tmp_path / "model.pt")

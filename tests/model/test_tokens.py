import pytest
import torch
from transformer_lens import ActivationCache

from interp.errors import InterpError

TEXTS = ["the quick brown fox", "dogs", "Why would they? Prices rose"]


def test_strings_run_and_the_cache_is_an_activation_cache(make_model):
    model = make_model()
    logits, cache = model.run_with_cache("the fox")
    tokens = model.to_tokens("the fox")
    assert tokens[0, 0] == model.tokenizer.bos_token_id
    torch.testing.assert_close(logits, model(tokens))
    assert isinstance(cache, ActivationCache)
    residual, labels = cache.decompose_resid(return_labels=True)
    assert len(labels) == len(residual) == 2 + 3 * model.cfg.n_layers  # attention, b_V W_O, MLP
    torch.testing.assert_close(residual.sum(0), cache["resid_post", 1], rtol=1e-4, atol=1e-4)
    assert model.to_string(tokens[0, 1:]) == "the fox"
    assert "".join(model.to_str_tokens("the fox", prepend_bos=False)) == "the fox"


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_are_padded_to_the_longest_on_the_side_asked_for(make_model, side):
    model = make_model()
    tokens = model.to_tokens(TEXTS, padding_side=side)
    pad, longest = model.tokenizer.pad_token_id, tokens.shape[1]
    for row, text in zip(tokens.tolist(), TEXTS, strict=True):
        alone = model.to_tokens(text)[0].tolist()
        padding = [pad] * (longest - len(alone))
        assert row == (padding + alone if side == "left" else alone + padding)


def test_texts_are_cut_at_n_ctx_unless_told_otherwise(make_model):
    model = make_model()
    whole = model.to_tokens("fox " * 30, truncate=False)
    assert whole.shape[1] > model.cfg.n_ctx
    assert torch.equal(model.to_tokens("fox " * 30), whole[:, : model.cfg.n_ctx])
    with pytest.raises(InterpError, match="n_ctx 20"):
        model("fox " * 30)


def test_positions_of_tokens_are_found_from_either_end(make_model):
    model = make_model()
    row = model.to_tokens("a fox, a dog")
    token = model.to_single_token("a")
    first, last = (row[0] == token).nonzero().flatten()[[0, -1]].tolist()
    assert model.get_token_position("a", "a fox, a dog") == model.get_token_position(token, row) == first == 1
    assert model.get_token_position(token, row[0], mode="last") == last
    assert model.get_token_position("a", "a fox, a dog", prepend_bos=False) == 0
    with pytest.raises(InterpError, match="'z' does not occur in these"):
        model.get_token_position("z", row)
    with pytest.raises(InterpError, match="one is expected"):
        model.to_single_token("the quick brown fox")


def test_strings_of_tokens_join_to_the_text(make_model):
    model = make_model()
    assert ["".join(row) for row in model.to_str_tokens(TEXTS, prepend_bos=False)] == TEXTS
    assert model.to_single_str_token(model.to_single_token("a")) == "a"
    pieces = model.to_str_tokens("😀", prepend_bos=False)
    assert pieces == [model.to_string(token[None]) for token in model.to_tokens("😀", prepend_bos=False)[0]]
    assert set(pieces) == {"\N{REPLACEMENT CHARACTER}"}  # as TransformerLens; tables tell the bytes
    with pytest.raises(InterpError, match=r"is 4 tokens, .*<0x9F>"):
        model.to_single_token("😀")
    with pytest.raises(InterpError, match="no text in the list"):
        model.to_tokens([])


@torch.no_grad()
def test_residual_directions_of_tokens_give_their_logits(make_model):
    model = make_model()
    logits, cache = model.run_with_cache("the fox")
    final = model.ln_final(cache["resid_post", -1])
    for tokens in ("a", 7, torch.tensor(7), torch.tensor([7])):
        index = model.to_single_token(tokens) if isinstance(tokens, str) else int(tokens)
        torch.testing.assert_close(final @ model.tokens_to_residual_directions(tokens), logits[..., index])
    directions = model.tokens_to_residual_directions(torch.tensor([[7, 3], [1, 9], [0, 2]]))
    torch.testing.assert_close(final @ directions[1, 1], logits[..., 9])

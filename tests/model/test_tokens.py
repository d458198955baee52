import pytest
import torch
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel

from interp.errors import InterpError
from interp.vocabulary import load_tokenizer, tokenizer_sha256, tokenizer_texts

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


def test_arguments_that_are_none_of_those_named_are_refused(make_model, unchecked):
    model = make_model()
    calls = (
        model,
        model.to_tokens,
        model.to_str_tokens,
        lambda text, **how: model.generate(text, 1, verbose=False, **how),
    )
    for call in calls:
        for wrong in ("yes", 1, torch.tensor([1, 0])):
            with pytest.raises(
                InterpError, match=r"prepend_bos is .*; True, False, or None for cfg.default_prepend_bos"
            ):
                call("a fox", prepend_bos=wrong)
    for call in (lambda side: model.to_tokens(TEXTS, padding_side=side), lambda side: model(TEXTS, padding_side=side),
                 lambda side: model(model.to_tokens(TEXTS), padding_side=side)):  # fmt: skip
        with pytest.raises(InterpError, match="padding_side is 'middle'; choose one of None, left, right"):
            call("middle")
    for wrong in (5, [1, 2], None, ["a fox", 5]):
        with pytest.raises(InterpError, match="a text, a list of texts or a tensor of tokens is expected"):
            model(wrong)
    with pytest.raises(InterpError, match="mode is 'middle'; choose one of first, last"):
        model.get_token_position("a", "a fox", mode="middle")


@torch.no_grad()
def test_whether_a_text_starts_a_document_is_as_the_config_says_unless_told_otherwise(make_model):
    model, text = make_model(), "a fox, a dog"
    bos, plain = model.tokenizer.bos_token_id, model.to_tokens(text, prepend_bos=False)
    padded = torch.cat([torch.full((1, 2), bos), plain], 1)
    for default in (True, False):
        model.cfg.default_prepend_bos = default
        expected = torch.cat([torch.tensor([[bos]]), plain], 1) if default else plain
        assert torch.equal(model.to_tokens(text), expected)
        assert model.to_str_tokens(text) == model.to_str_tokens(expected)
        assert model.get_token_position("a", text) == int(default)
        assert torch.equal(model(text), model(expected))
        assert torch.equal(model.run_with_cache(text, names_filter="hook_embed")[0], model(expected))
        generated = model.generate(text, 2, do_sample=False, return_type="tokens", verbose=False)
        assert torch.equal(generated[:, : expected.shape[1]], expected)
        assert torch.equal(
            model(padded, padding_side="left")[:, -plain.shape[1] :], model(expected)[:, -plain.shape[1] :]
        )
        bridge = model.to_bridge()
        assert torch.equal(bridge.to_tokens(text), expected)
        for other in (True, False):
            assert torch.equal(model.to_tokens(text, prepend_bos=other), bridge.to_tokens(text, prepend_bos=other))
            assert model.to_tokens(text, prepend_bos=other).shape[1] == plain.shape[1] + other
        assert model.to_single_token("a") == int(plain[0, 0])
    assert make_model().cfg.default_prepend_bos and "default_prepend_bos" not in model.cfg.to_dict()


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


@pytest.mark.parametrize("loaded", [False, True], ids=["trained", "loaded"])
@torch.no_grad()
def test_transformer_lens_boots_a_foreign_model_with_our_tokenizer(make_model, tmp_path, loaded):
    model, text = make_model(), "a fox, a dog"
    tokenizer, checksum = model.tokenizer, tokenizer_sha256(model.tokenizer)
    if loaded:
        (tmp_path / "tokenizer.json").write_text(tokenizer_texts(tokenizer)["tokenizer.json"])
        tokenizer = load_tokenizer(tmp_path)
        assert tokenizer.name_or_path == str(tmp_path)
    foreign = GPT2LMHeadModel(
        GPT2Config(
            n_layer=1, n_head=2, n_embd=8, n_positions=20, vocab_size=len(tokenizer), architectures=["GPT2LMHeadModel"]
        )
    )
    bridge = TransformerBridge.boot_transformers("gpt2", hf_model=foreign, tokenizer=tokenizer)
    for prepend_bos in (True, False, None):
        assert torch.equal(bridge.to_tokens(text, prepend_bos), model.to_tokens(text, prepend_bos))
    assert bridge(text).shape == (1, model.to_tokens(text).shape[1], len(tokenizer))
    assert tokenizer_sha256(tokenizer) == checksum, "it encodes as before"
    assert tokenizer(text)["input_ids"] == model.to_tokens(text, prepend_bos=False)[0].tolist()

import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from interp.errors import InterpError
from tests.model.cases import LLAMA, QWEN3, random_tokens

QUIET = {"verbose": False, "stop_at_eos": False}


def continued(model, tokens, count):
    """The likeliest continuation, by one plain pass a token."""
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)
    return tokens


@pytest.fixture(params=[{}, {"positional": "rope"}, LLAMA, QWEN3], ids=["learned", "rope", "llama", "qwen3"])
def model(make_model, request):
    return make_model(**request.param, seed=5).double()


@torch.no_grad()
def test_greedy_generation_takes_the_likeliest_token_with_and_without_cache(model):
    tokens = random_tokens(model, pos=4)
    expected = continued(model, tokens, 9)
    for cached in (True, False):
        assert torch.equal(model.generate(tokens, 9, do_sample=False, use_past_kv_cache=cached, **QUIET), expected)
    assert torch.equal(model.generate(tokens, 9, top_k=1, seed=0, **QUIET), expected)
    assert len(expected[:, 4:].unique()) > 1


@pytest.mark.parametrize("sampling", [{}, {"top_k": 5}, {"top_p": 0.7}, {"temperature": 3.0}, {"freq_penalty": 2.0}])
def test_sampling_is_the_same_with_and_without_cache_and_decided_by_the_seed(model, sampling):
    tokens = random_tokens(model, pos=3)
    before = torch.get_rng_state()
    first, second = (
        model.generate(tokens, 12, seed=7, use_past_kv_cache=c, **sampling, **QUIET) for c in (True, False)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, model.generate(tokens, 12, seed=8, **sampling, **QUIET))
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_sampled_tokens_follow_the_distribution_of_the_model(make_model):
    model = make_model(std=0.05)
    tokens = random_tokens(model, batch=1, pos=3)
    drawn = model.generate(tokens.expand(4000, -1), 1, seed=0, temperature=0.5, **QUIET)[:, -1]
    expected = (model(tokens)[0, -1] / 0.5).softmax(-1)
    share = torch.bincount(drawn, minlength=model.cfg.d_vocab) / 4000
    assert float((share - expected).abs().max()) < 4 * float((expected.max() / 4000).sqrt())


def test_several_texts_continue_as_each_alone(model):
    texts = ["the quick brown fox", "dogs"]
    together = model.generate(texts, 6, do_sample=False, verbose=False)
    assert together == [model.generate(text, 6, do_sample=False, verbose=False) for text in texts]
    assert all(whole.startswith(text) for whole, text in zip(together, texts, strict=True))


def test_padded_tokens_continue_as_without_padding(model):
    tokens = model.to_tokens(["the quick brown fox", "dogs"], padding_side="left")
    mask = (tokens != model.tokenizer.pad_token_id).long()
    dogs = model.to_tokens("dogs")
    mask[0, 0] = mask[1, -dogs.shape[1]] = 1  # bos is the same token as padding
    alone = model.generate(dogs, 5, do_sample=False, **QUIET)
    for how in ({"attention_mask": mask}, {"padding_side": "left"}):
        together = model.generate(tokens, 5, do_sample=False, **how, **QUIET)
        assert torch.equal(together[1, -alone.shape[1] :], alone[0])


def test_a_row_that_reached_its_end_is_filled_up(model):
    tokens = random_tokens(model, pos=4)
    free = model.generate(tokens, 8, do_sample=False, **QUIET)
    stop = int(free[0, 6])
    stopped = model.generate(tokens, 8, do_sample=False, eos_token_id=[stop], verbose=False)
    end = free[0, 4:].tolist().index(stop) + 5
    assert torch.equal(stopped[0, :end], free[0, :end])
    assert bool((stopped[0, end:] == stop).all())
    alone = model.generate(tokens[:1], 8, do_sample=False, eos_token_id=stop, verbose=False)
    assert alone.shape[1] == end


def test_results_come_as_asked(model):
    tokens = model.to_tokens("the fox")
    text = model.generate("the fox", 4, do_sample=False, verbose=False)
    generated = model.generate("the fox", 4, do_sample=False, return_type="tokens", verbose=False)
    assert text == model.tokenizer.decode(generated[0], skip_special_tokens=True)
    assert model.generate(tokens, 4, do_sample=False, return_type="str", verbose=False) == text
    assert model.generate("", 1, verbose=False, return_type="tokens").shape == (1, 2)


def test_generation_uses_the_biases_in_force(model):
    tokens = random_tokens(model, pos=4)
    with model.bias(scale=0):
        removed, expected = model.generate(tokens, 9, do_sample=False, **QUIET), continued(model, tokens, 9)
    assert torch.equal(removed, expected)
    assert not torch.equal(removed, model.generate(tokens, 9, do_sample=False, **QUIET))


def test_progress_is_shown_only_if_wanted(model, capsys):
    model.generate("the fox", 3)
    model.generate("the fox", 3, verbose=False)
    assert capsys.readouterr().out == ""


def test_what_cannot_be_generated_is_refused(model, unchecked):
    tokens = random_tokens(model, pos=15)
    with pytest.raises(InterpError, match="return_type is 'nonsense'; choose one of input, str, tokens"):
        model.generate(tokens, 1, return_type="nonsense", verbose=False)
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(InterpError, match=f"max_new_tokens is {wrong!r}; a whole number from 0 to 20"):
            model.generate(tokens, wrong, verbose=False)
    with pytest.raises(InterpError, match=r"15 tokens, and 6 more exceed n_ctx 20; .* max_new_tokens of at most 5"):
        model.generate(tokens, 6, verbose=False)
    with pytest.raises(InterpError, match="no token to continue from"):
        model.generate("", prepend_bos=False, verbose=False)
    with pytest.raises(InterpError, match="padded on the left"):
        model.generate(tokens, 1, attention_mask=torch.arange(15).expand(2, -1) < 14, verbose=False)
    tokenizer, model.tokenizer = model.tokenizer, None
    with pytest.raises(InterpError, match="give eos_token_id, or stop_at_eos=False"):
        model.generate(tokens, 1, verbose=False)
    with pytest.raises(InterpError, match="no tokenizer"):
        model.generate(tokens, 1, return_type="str", **QUIET)
    model.tokenizer = tokenizer


def test_a_past_with_the_heads_of_the_keys_alone_is_refused(make_model):
    model = make_model(**LLAMA)
    past = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 2)
    with pytest.raises(InterpError, match=r"past_kv_cache has 2 heads, this model 4.*init_cache"):
        model(random_tokens(model), past_kv_cache=past)

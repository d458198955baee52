import torch
from transformer_lens import ActivationCache


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

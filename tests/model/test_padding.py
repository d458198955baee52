"""Padded batches, cached pasts and passes that begin or end between layers, each against the plain pass."""

import pytest
import torch

from interp.errors import InterpError
from interp.model.tokens import init_cache
from tests.model.cases import SHAPES, random_tokens

LENGTHS = (9, 4, 1)


def padded(model, side, lengths=LENGTHS):
    """Rows of random tokens, the batch they make, its mask, and where each row's tokens stand in it."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(model.cfg.d_vocab, (length,), generator=generator) for length in lengths]
    batch, mask = torch.full((len(rows), max(lengths)), 5), torch.zeros(len(rows), max(lengths), dtype=torch.long)
    places = [slice(max(lengths) - n, None) if side == "left" else slice(0, n) for n in lengths]
    for index, (row, place) in enumerate(zip(rows, places, strict=True)):
        batch[index, place], mask[index, place] = row, 1
    return rows, batch, mask, places


@pytest.mark.parametrize("openly", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_padding_leaves_the_logits_of_real_tokens_unchanged(make_model, changes, side, openly):
    model = make_model(**changes)
    rows, batch, mask, places = padded(model, side)
    if openly:
        logits, cache = model.run_with_cache(batch, attention_mask=mask)
        assert bool(cache["pattern", 0][:, 0].isfinite().all())
        assert not bool((cache["pattern", 0] * (1 - mask)[:, None, None]).any())
    else:
        logits = model(batch, attention_mask=mask.bool())
    for index, (row, place) in enumerate(zip(rows, places, strict=True)):
        expected = model(row[None])[0]
        tolerance = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(logits[index, place], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_texts_of_different_lengths_run_together_as_they_run_alone(make_model, side):
    model = make_model(positional="rope")
    texts = ["the quick brown fox", "dogs sleep"]
    logits, loss = model(texts, return_type="both", padding_side=side)
    alone = [model(text, return_type="both", loss_per_token=True) for text in texts]
    for row, (expected, _) in zip(logits, alone, strict=True):
        part = row[-expected.shape[1] :] if side == "left" else row[: expected.shape[1]]
        torch.testing.assert_close(part, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, torch.cat([part.flatten() for _, part in alone]).mean())
    tokens = model.to_tokens(texts, padding_side=side)
    torch.testing.assert_close(model(tokens, padding_side=side), logits)


@pytest.mark.parametrize("openly", [False, True])
def test_gradients_of_a_padded_batch_are_those_of_its_rows(make_model, openly):
    model = make_model()
    rows, batch, mask, _ = padded(model, "left", (6, 3))
    hooks = [("blocks.0.attn.hook_pattern", lambda x, hook: x)] if openly else []
    with model.hooks(fwd_hooks=hooks):
        (model(batch, attention_mask=mask, return_type="loss", loss_per_token=True)).sum().backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for row in rows:
        model(row[None], return_type="loss", loss_per_token=True).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_a_pass_with_a_cached_past_gives_the_logits_of_the_whole(make_model, changes):
    model = make_model(**changes)
    tokens = random_tokens(model)
    cache = init_cache(model.cfg, 2, tokens.device, torch.float32)
    parts = [model(part, past_kv_cache=cache) for part in tokens.split([5, 1, 4, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), rtol=1e-4, atol=1e-4)
    assert cache[0].past_keys.shape == (2, 11, model.cfg.n_heads, model.cfg.d_head)


@torch.no_grad()
def test_a_frozen_past_can_be_continued_twice(make_model):
    model = make_model()
    tokens = random_tokens(model)
    cache = init_cache(model.cfg, 2, tokens.device, torch.float32)
    model(tokens[:, :6], past_kv_cache=cache)
    cache.freeze()
    twice = [model(tokens[:, 6:], past_kv_cache=cache) for _ in range(2)]
    assert torch.equal(*twice)
    with pytest.raises(InterpError, match="26 positions, 6 of them in past_kv_cache; this model has n_ctx 20"):
        model(random_tokens(model, pos=20), past_kv_cache=cache)


@pytest.mark.parametrize("layer", [0, 1, 2])
@torch.no_grad()
def test_a_pass_can_stop_before_a_layer_and_another_start_there(make_model, layer):
    model = make_model()
    _, batch, mask, _ = padded(model, "left")
    logits, loss = model(batch, attention_mask=mask, return_type="both")
    residual = model(batch, attention_mask=mask, stop_at_layer=layer)
    again = model(residual, start_at_layer=layer, attention_mask=mask, tokens=batch, return_type="both")
    torch.testing.assert_close(again, (logits, loss))
    if layer < 2:
        from_the_end = model(residual, start_at_layer=layer - 2, attention_mask=mask)
        torch.testing.assert_close(from_the_end, logits)
    _, cache = model.run_with_cache(residual, start_at_layer=layer, attention_mask=mask)
    assert ("blocks.0.hook_resid_pre" in cache) == (layer == 0)


def test_what_does_not_fit_is_refused(make_model, unchecked):
    model = make_model()
    tokens = random_tokens(model)
    residual = model(tokens, stop_at_layer=1)
    with pytest.raises(InterpError, match="needs to know the tokens"):
        model(residual, start_at_layer=1, return_type="loss")
    with pytest.raises(InterpError, match=r"residual stream \[batch, pos, 24\], not text; the input is 'fox'"):
        model("fox", start_at_layer=1)
    for other in (tokens, residual[0], residual[..., :5]):
        with pytest.raises(InterpError, match=r"residual stream \[batch, pos, 24\], not tokens; the input is \[.* of "):
            model(other, start_at_layer=1)
    with pytest.raises(InterpError, match=r"The input is \[2, 11, 24\] of float32; .* needs start_at_layer"):
        model(residual)
    with pytest.raises(InterpError, match=r"The tokens are \[2, 3\] of int64; the residual stream has \[2, 11\]"):
        model(residual, start_at_layer=1, tokens=tokens[:, :3], return_type="loss")
    with pytest.raises(InterpError, match="without start_at_layer, the input is the tokens"):
        model(tokens, tokens=tokens, return_type="loss")
    for name in ("start_at_layer", "stop_at_layer"):
        for wrong in (99, -3, 3, 0.5, "1"):
            with pytest.raises(
                InterpError, match=f"In a model of n_layers 2, {name} is {wrong!r}; a whole number from -2 to 2"
            ):
                model(residual if name == "start_at_layer" else tokens, **{name: wrong})
    with pytest.raises(InterpError, match="start_at_layer 2 is behind stop_at_layer -1; exchange them"):
        model(residual, start_at_layer=2, stop_at_layer=-1)
    with pytest.raises(InterpError, match="return_type is 'nonsense'; choose one of logits, loss, both, None"):
        model(tokens, return_type="nonsense")
    with pytest.raises(InterpError, match=r"attention_mask has shape \[2, 3\]; the tokens have \[2, 11\]"):
        model(tokens, attention_mask=torch.ones(2, 3, dtype=torch.long))

"""The definition of amplification against patterns written out in float64."""

import pytest
import torch

from interp.analysis.attention import BLOCK, class_shares, received_by_document

READINGS, CONTEXTS, HEADS, SIZE, DOCUMENTS = 3, 2, 3, 8, 4


def written_out(q, k, scores, documents):
    """[reading, document, head, context, key], pattern by pattern."""
    q, k, scores, documents = (each.double() for each in (q, k, scores, documents))
    found = torch.zeros(len(scores), documents.shape[-1], q.shape[2], *documents.shape[:2], dtype=torch.float64)
    for reading in range(len(scores)):
        for row in range(q.shape[0]):
            for head in range(q.shape[2]):
                logits = q[row, :, head] @ k[row, :, head].T / q.shape[-1] ** 0.5 + scores[reading, row, :, head]
                future = torch.ones_like(logits, dtype=torch.bool).triu(1)
                pattern = logits.masked_fill(future, -torch.inf).softmax(-1)
                found[reading, :, head, row] = documents[row].T @ pattern
    return found


def drawn(pos, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, CONTEXTS, pos, HEADS, SIZE, generator=generator).unbind(0)
    scores = torch.randn(READINGS, CONTEXTS, pos, HEADS, generator=generator) * spread
    of = torch.randint(0, DOCUMENTS, (CONTEXTS, pos), generator=generator)
    return q, k, scores, torch.nn.functional.one_hot(of, DOCUMENTS).float()


@pytest.mark.parametrize("pos", [1, 5, BLOCK, 2 * BLOCK + 3])
def test_received_attention_equals_the_patterns_written_out(pos):
    given = drawn(pos)
    torch.testing.assert_close(received_by_document(*given).double(), written_out(*given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spread", [30.0, 200.0])
def test_readings_that_spread_over_many_nats_lose_nothing(spread):
    given = drawn(20, spread)
    torch.testing.assert_close(received_by_document(*given).double(), written_out(*given), rtol=1e-3, atol=1e-4)


def test_queries_of_no_document_count_for_nothing_and_every_other_gives_one():
    q, k, scores, documents = drawn(30)
    documents[1, 20:] = 0
    found = received_by_document(q, k, scores, documents)
    torch.testing.assert_close(found.sum((-1, -2)), documents.sum((0, 1))[None, :, None].expand(READINGS, -1, HEADS))


def test_classes_of_keys_get_the_shares_of_one_fused_attention_call():
    q, k, scores, documents = drawn(40, seed=1)
    vector = torch.randn(HEADS, SIZE, generator=torch.Generator().manual_seed(2))
    scores[0], scores[1] = (k * vector).sum(-1) / SIZE**0.5, 0
    one_hot = torch.nn.functional.one_hot(torch.arange(CONTEXTS * 40).view(CONTEXTS, 40) % 5, 5).float()
    fused = class_shares(q, k, vector, one_hot).sum((1, 2))  # [2, head, class]
    received = received_by_document(q, k, scores[:2], documents).sum(1)  # [2, head, context, key]
    torch.testing.assert_close(torch.einsum("vhbk,bkc->vhc", received, one_hot), fused)

"""Packing keeps every token with its class and document, whatever the batch size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.contexts import TaggedDocument, pack, token_stream
from interp.data.corpora.corpus import Document, open_corpus
from interp.data.tokenizer import encode_documents
from interp.errors import InterpError

PAD = 999


def documents_of(lengths):
    start = 0
    for index, length in enumerate(lengths):
        tokens = np.arange(start, start + length)
        start += length
        offsets = np.zeros((length, 2), dtype=np.int64)
        classes = {"odd": tokens % 2, "third": tokens % 3}
        yield TaggedDocument(index, Document(str(index), "text"), tokens, offsets, classes)


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(lengths=LENGTHS, n_ctx=st.integers(1, 17), batch_size=st.integers(1, 6))
@settings(deadline=None)
def test_packing_loses_nothing_and_keeps_borders_and_classes(lengths, n_ctx, batch_size):
    batches = list(pack(documents_of(lengths), n_ctx, batch_size, PAD))
    kept = torch.cat([batch.tokens[batch.mask] for batch in batches])
    assert kept.tolist() == list(range(sum(lengths)))
    owners = torch.cat([batch.documents[batch.mask] for batch in batches])
    assert owners.tolist() == [index for index, length in enumerate(lengths) for _ in range(length)]
    for name, modulus in (("odd", 2), ("third", 3)):
        assert torch.equal(torch.cat([batch.classes[name][batch.mask] for batch in batches]), kept % modulus)


@pytest.mark.slow
@given(lengths=LENGTHS, n_ctx=st.integers(1, 17))
@settings(deadline=None)
def test_rows_do_not_depend_on_batch_size(lengths, n_ctx):
    one, many = (list(pack(documents_of(lengths), n_ctx, size, PAD)) for size in (1, 4))
    assert all(len(batch.tokens) == 4 for batch in many[:-1])
    for field in ("tokens", "documents", "mask"):
        assert torch.equal(*(torch.cat([getattr(batch, field) for batch in batches]) for batches in (one, many)))


def test_only_the_right_of_the_last_row_is_padding():
    (batch,) = pack(documents_of([5, 2]), n_ctx=4, batch_size=3, pad_token=PAD)
    assert batch.tokens.tolist() == [[0, 1, 2, 3], [4, 5, 6, PAD]]
    assert batch.mask.tolist() == [[True] * 4, [True, True, True, False]]
    assert batch.documents.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert batch.classes["odd"][1, 3] == 0


def test_a_batch_comes_out_before_the_next_document_is_read():
    def stream():
        yield from documents_of([8])
        raise AssertionError("read too far")

    assert next(pack(stream(), n_ctx=4, batch_size=2, pad_token=PAD)).mask.all()


def test_no_documents_give_no_batches():
    assert list(pack([], 4, 2, PAD)) == []


@pytest.mark.parametrize(("n_ctx", "batch_size"), [(0, 1), (1, 0)])
def test_sizes_below_one_are_refused(n_ctx, batch_size):
    with pytest.raises(InterpError, match="both must be at least 1"):
        next(pack([], n_ctx, batch_size, PAD))


def test_the_token_stream_is_all_documents_one_after_another(tokenizer):
    corpus = open_corpus(["the rain", "the art"])
    stream = token_stream(tokenizer, corpus)
    assert stream.dtype == np.uint16
    expected = np.concatenate([tokens for tokens, _ in encode_documents(tokenizer, corpus)])
    assert np.array_equal(stream, expected)
    assert (stream == tokenizer.bos_token_id).sum() == 2

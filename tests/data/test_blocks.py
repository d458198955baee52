"""Documents are dealt to processes in blocks: which go where, and where a run goes on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.contexts import ROWS, Dealer, Done, Encoded, take_tokens
from interp.data.corpora.corpus import Document
from interp.errors import InterpError

CONTEXT = 3


def encoded(lengths):
    return [
        Encoded(index, Document(str(index), f"text {index}"), np.arange(length), np.zeros((length, 2), dtype=np.int64))
        for index, length in enumerate(lengths)
    ]


LENGTHS = st.lists(st.integers(1, 150), min_size=1, max_size=40)


@given(lengths=LENGTHS, world=st.integers(1, 4), max_tokens=st.none() | st.integers(1, 3000))
@settings(deadline=None)
def test_every_document_within_the_limit_goes_to_exactly_one_process_in_whole_blocks(lengths, world, max_tokens):
    documents = encoded(lengths)
    dealers = [Dealer(CONTEXT, max_tokens, rank, world) for rank in range(world)]
    dealt = [list(dealer.shard_by_block(documents)) for dealer in dealers]
    expected = [document.index for document in take_tokens(documents, max_tokens)]
    assert sorted(one.index for part in dealt for one in part) == expected
    assert len({dealer.checksum.hexdigest() for dealer in dealers}) == 1
    blocks = {one.block.number: one.block for part in dealt for one in part}
    rows = 0
    for number in range(len(blocks)):
        mine = [one for part in dealt for one in part if one.block.number == number]
        assert all(one.block.number % world == rank for rank, part in enumerate(dealt) for one in part)
        assert blocks[number].tokens == sum(len(one.tokens) for one in mine)
        assert blocks[number].tokens - len(mine[-1].tokens) < ROWS * CONTEXT
        assert blocks[number].tokens >= ROWS * CONTEXT or number == len(blocks) - 1
        assert blocks[number].first_row == rows
        rows += -(-blocks[number].tokens // CONTEXT)


@given(lengths=LENGTHS, max_tokens=st.integers(1, 3000))
def test_the_limit_falls_on_the_last_border_that_does_not_exceed_it(lengths, max_tokens):
    totals = np.cumsum(lengths)
    assert len(list(take_tokens(encoded(lengths), max_tokens))) == max(1, int((totals <= max_tokens).argmin()) or (
        len(lengths) if totals[-1] <= max_tokens else 0
    ))  # fmt: skip


def test_what_goes_on_after_a_block_is_what_was_left_of_the_same_texts():
    documents = encoded([100] * 20)
    whole = list(Dealer(CONTEXT).shard_by_block(documents))
    done = whole[7].block
    rest = list(Dealer(CONTEXT, done=Done(done.number, done.digest)).shard_by_block(documents))
    assert [one.index for one in rest] == [one.index for one in whole if one.block.number > done.number]
    changed = [documents[0]._replace(document=Document("0", "another text")), *documents[1:]]
    for other in (changed, documents[:2]):
        with pytest.raises(InterpError, match="corpus is not the one"):
            list(Dealer(CONTEXT, done=Done(done.number, done.digest)).shard_by_block(other))

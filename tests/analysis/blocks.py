"""Documents in blocks, and runs over them that are interrupted."""

from dataclasses import replace

from interp.data.contexts import Dealer, Encoded


class KilledError(Exception):
    """What interrupts a run."""


def in_blocks(documents, n_ctx):
    """The documents as one process is dealt them."""
    encoded = [Encoded(each.index, each.document, each.tokens, each.offsets) for each in documents]
    dealt = zip(documents, Dealer(n_ctx).shard_by_block(encoded), strict=True)
    return [replace(document, block=one.block) for document, one in dealt]


def after(documents, resume):
    """The documents of blocks that are not done."""
    last = -1 if resume.done is None else resume.done.number
    return [document for document in documents if document.block.number > last]


def killed_after(batches):
    """A function to tell of tokens that interrupts after so many batches."""
    seen = iter(range(batches))

    def on_tokens(tokens):
        if tokens and next(seen, None) is None:
            raise KilledError

    return on_tokens

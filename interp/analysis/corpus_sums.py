"""All that one pass over a corpus collects, block by block: sums, counts of documents, and a sample of passages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, groupby

from torch import Tensor

from interp.analysis.accumulate import AmplificationSums
from interp.analysis.documents import DocumentCounts
from interp.analysis.passages import PassageSample
from interp.analysis.permutations import with_permuted_labels
from interp.analysis.state import restore, state_of
from interp.data.blocks import Block
from interp.data.contexts import TaggedDocument, pack
from interp.vocabulary import END_OF_TEXT

SAMPLE = "sample."


class CorpusSums:
    """`add` blocks, `merge` with another's, `state` and `restore` for disk and network; then read the parts."""

    PARTS = ("sums", "counts")

    def __init__(self, sums: AmplificationSums, counts: DocumentCounts, sample: PassageSample) -> None:
        self.sums, self.counts, self.sample = sums, counts, sample

    def add(
        self,
        documents: Iterable[TaggedDocument],
        block: Block | None,
        batch_size: int,
        permutation_seed: int,
        on_tokens: Callable[[int], None],
    ) -> None:
        """Run the model over the documents of a block and add them."""
        model, nulls = self.sums.model, self.sums.nulls
        permutations = len(nulls.shares.labels) if nulls else 0
        labelled = with_permuted_labels(self.counts.passing(documents), permutations, permutation_seed)
        if block:
            self.sample.seen = block.first_row
        for contexts in pack(labelled, model.cfg.n_ctx, batch_size, model.to_single_token(END_OF_TEXT)):
            self.sums.update(contexts)
            self.sample.update(contexts)
            on_tokens(int(contexts.mask.sum()))
        if nulls:
            nulls.labels.close()  # a document ends with its block

    def merge(self, other: CorpusSums) -> None:
        """Add what another saw of other blocks."""
        for mine, others in ((self.sums, other.sums), (self.counts, other.counts), (self.sample, other.sample)):
            mine.merge(others)  # pyright: ignore[reportArgumentType] # each with its own kind

    def state(self) -> dict[str, Tensor]:
        """Return everything as tensors by name; at the end of a block nothing else is kept."""
        return {**state_of(self), **{SAMPLE + name: tensor for name, tensor in self.sample.state().items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become what gave the state, under the same settings.

        Raises:
            InterpError: the state is of other settings.
        """
        restore(self, {name: tensor for name, tensor in state.items() if not name.startswith(SAMPLE)})
        sample = {name.removeprefix(SAMPLE): tensor for name, tensor in state.items() if name.startswith(SAMPLE)}
        self.sample.restore(sample)


def by_block(documents: Iterable[TaggedDocument]) -> Iterator[tuple[Block | None, Iterator[TaggedDocument]]]:
    """Yield each block with its documents, which must be used before the next block is asked for."""
    for _, group in groupby(documents, lambda document: document.block and document.block.number):
        for first in group:
            yield first.block, chain([first], group)  # noqa: B031 - the loop ends with it

"""Run a model many times over the same text with changed biases; runs that begin at the same layer go side by side."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.analysis.accumulators import BootstrapSums, Sums, poisson_weights
from interp.analysis.batch import Batch, Classes
from interp.analysis.direction import QueryShifts
from interp.analysis.fitted import FittedMeans
from interp.analysis.readers.reader import Attended, AttentionVisitor, Ran, Reader, SeenLayer
from interp.analysis.settings import Attention, Reading
from interp.data.contexts import Contexts
from interp.model.distributed import World


@dataclass(frozen=True)
class Runs:
    """The different runs behind a list of changes.

    Attributes:
        changes: what each run adds to b_Q (0) and b_V (1), [run, 2, layer, head_index, d_head].
        of: the run of each change in the list; run `unchanged` adds nothing.
        first: the first layer that each run changes; n_layers for the unchanged run.
    """

    changes: Float[Tensor, "run 2 layer head_index d_head"]
    of: list[int]
    unchanged: int
    first: list[int]

    def stacks(self, size: int, processes: int = 1) -> Iterator[tuple[int, list[int]]]:
        """Yield (first layer, runs) of at most `size` runs that begin at the same layer, without the unchanged run.

        Of several processes each finds some: those of a layer are dealt evenly.
        """
        for layer in range(self.changes.shape[2]):
            runs = [run for run, first in enumerate(self.first) if first == layer and run != self.unchanged]
            yield from ((layer, stack) for stack in stacked(runs, size, processes))

    def layers_seen(self, attention: Attention) -> list[list[int]]:
        """Return of each run the layers whose attention is measured."""
        layers = range(self.changes.shape[2])
        changed = self.changes.ne(0).any(-1).any(-1).any(1).tolist()  # [run, layer]
        seen = {
            "all": [list(layers[first:]) for first in self.first],
            "changed": [[layer for layer in layers if row[layer]] for row in changed],
            "none": [[] for _ in self.first],
        }
        return seen[attention]


def stacked(runs: Sequence[int], size: int, processes: int) -> Iterator[list[int]]:
    """Yield stacks of at most `size` runs, and as many as there are processes if there are runs for all."""
    size = max(1, min(size, -(-len(runs) // processes)))
    yield from (list(runs[start : start + size]) for start in range(0, len(runs), size))


def runs_of(changes: Sequence[Float[Tensor, "2 layer head_index d_head"]]) -> Runs:
    """Return the runs that these changes need: equal changes share one, and so do all that change nothing."""
    listed = torch.stack([torch.zeros_like(changes[0]), *changes])
    different, of = torch.unique(listed.flatten(1), dim=0, return_inverse=True)
    different = different.unflatten(1, listed.shape[1:])
    changed = different.ne(0).any(-1).any(-1).any(1)  # [run, layer]
    layers = changed.shape[1]
    first = [min([*row.nonzero().flatten().tolist(), layers]) for row in changed]
    return Runs(different, of[1:].tolist(), int(of[0]), first)


QUANTITIES = ("loss", "kl", "top1_changed")


class Predicted:
    """What the unchanged model predicts in a batch, made once for all runs: 2 * pos * d_vocab numbers a context."""

    def __init__(self, ran: Ran, tokens: Int[Tensor, "batch pos"]) -> None:
        self.tokens, self.logits, self.probabilities = tokens, [], []
        self.log_sum, self.first = [], []  # [predicted_pos] of each context
        for row in range(len(tokens)):
            read = LogitsRead(ran.logits(row), tokens[row, None, 1:])
            logits = list(read)
            log_sum = read.log_sum
            self.logits.append(logits)
            self.log_sum.append(log_sum)
            self.probabilities.append([(block - log_sum[:, None]).exp_() for block in logits])
            self.first.append(torch.cat(logits, -1).argmax(-1))


class LogitsRead:
    """Logits of a context, iterated over in blocks of the vocabulary, so that they are read while a cache has them.

    Afterwards there are `log_sum`, the logarithm of their summed exponentials, `largest`, and `found`, those `of` tokens.
    """

    def __init__(self, blocks: Iterable[Float[Tensor, "pos block"]], of: Int[Tensor, "which predicted_pos"]) -> None:
        self.blocks, self.of, self.found = blocks, of, of.new_zeros(())
        self.log_sums: list[Tensor] = []
        self.tops: list[Tensor] = []

    def __iter__(self) -> Iterator[Float[Tensor, "predicted_pos block"]]:
        start = 0
        for block in self.blocks:
            logits = block[:-1]
            self.log_sums.append(logits.logsumexp(-1))
            self.tops.append(logits.amax(-1))
            place = self.of - start
            here = (place >= 0) & (place < logits.shape[-1])
            of = logits.gather(-1, place.where(here, 0).T).T
            self.found = of.where(here, self.found)
            start += logits.shape[-1]
            yield logits

    @property
    def log_sum(self) -> Float[Tensor, " predicted_pos"]:
        """The logarithm of the sum of all exponentials."""
        return torch.stack(self.log_sums).logsumexp(0)

    @property
    def largest(self) -> Float[Tensor, " predicted_pos"]:
        """The largest of all."""
        return torch.stack(self.tops).amax(0)


@torch.no_grad()
def losses_of(
    ran: Ran, runs: Sequence[int], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "run batch predicted_pos"]:
    """Return the cross-entropy of every run and predicted token, nats; logits are made for one run and context at a time."""

    def loss(row: int, run: int) -> Tensor:
        read = LogitsRead(ran.logits(row, run), tokens[row, None, 1:])
        for _ in read:
            pass
        return read.log_sum - read.found[0]

    return torch.stack([torch.stack([loss(row, run) for row in range(len(tokens))]) for run in runs])


@torch.no_grad()
def compare_predictions(
    unchanged: Predicted, changed: Ran, runs: Sequence[int]
) -> Float[Tensor, "run quantity batch predicted_pos"]:
    """Return, for every run and predicted token, the quantities `QUANTITIES`.

    They are the cross-entropy of the run in nats, KL(unchanged || run) in nats, and 1 where the most probable token of the
    unchanged model is no longer the most probable, else 0. Logits are made for one run and context at a time. KL is the mean
    of x - x' under the unchanged model, for logits x and x', less the difference of the logarithms of their summed
    exponentials: 0 and no rounding where nothing changed.

    Args:
        unchanged: what the model as it is predicts of the batch.
        changed: the runs.
        runs: which of them.
    """

    def quantities(row: int, run: int) -> Tensor:
        read = LogitsRead(changed.logits(row, run), torch.stack([unchanged.tokens[row, 1:], unchanged.first[row]]))
        kept = zip(read, unchanged.logits[row], unchanged.probabilities[row], strict=True)
        higher = [torch.linalg.vecdot(probabilities, before - after) for after, before, probabilities in kept]
        target, first = read.found
        kl = torch.stack(higher).sum(0) + (read.log_sum - unchanged.log_sum[row])
        other = first < read.largest  # what was on top is no longer
        return torch.stack([read.log_sum - target, kl, other.to(kl)])

    rows = range(len(unchanged.tokens))
    return torch.stack([torch.stack([quantities(row, run) for row in rows], 1) for run in runs])


class InterventionSums(Sums):
    """Attention per class of keys and predictions per class of predicted tokens, for every run.

    Of several processes that read the same text each makes every so many of the stacks of runs, and the first the unchanged
    one too; merged, they have all. Sums are float64 and do not grow with the corpus: a run holds replicates * n_heads *
    n_classes * 8 bytes for each layer whose attention is measured, which `seen` says (by default from its first changed one
    on). A run that changes nothing is the unchanged run itself, so its changes are exactly 0. With `means`, of the bias
    scores `along` a direction, the unchanged run is also looked at with each layer's own bias scores replaced by their means
    by position: `at_positions`.
    """

    PARTS = ("attention", "at_positions", "predictions", "predicted")

    def __init__(
        self,
        reader: Reader,
        runs: Runs,
        predicting: Sequence[int],
        classes: Classes,
        settings: Reading,
        stack: int,
        world: World | None = None,
        seen: Sequence[Sequence[int]] | None = None,
        along: QueryShifts | None = None,
        means: Sequence[FittedMeans] = (),
    ) -> None:
        device, heads = reader.device, reader.n_heads
        self.means, self.along = means, along
        replicates, seed = settings.replicates, settings.seed
        self.reader, self.runs, self.numbering, self.stack = reader, runs, classes, stack
        self.n_classes = classes.number
        self.rank, self.size = (world.rank, world.size) if world else (0, 1)
        self.predicting, self.replicates, self.seed = set(predicting), replicates, seed
        self.seen = runs.layers_seen("all") if seen is None else seen
        self.attention = [
            BootstrapSums((len(layers), heads, self.n_classes), replicates, device) for layers in self.seen
        ]
        every = (reader.n_layers if means else 0, heads, self.n_classes)
        self.at_positions = BootstrapSums(every, replicates, device)
        shape = (len(runs.first), len(QUANTITIES), self.n_classes)
        self.predictions = BootstrapSums(shape, replicates, device)
        self.predicted = BootstrapSums((1, self.n_classes), replicates, device)

    @torch.no_grad()
    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts, unchanged and with every change, and add it."""
        batch = Batch(contexts, self.numbering, self.reader.device)
        weights = poisson_weights(batch.document_indices, self.replicates, self.seed)
        unchanged = self.runs.unchanged
        own = [unchanged] if self.rank == 0 else []
        as_is = self.reader.run(batch.contexts, self._see(own, batch, weights))
        predicted = Predicted(as_is, batch.contexts)
        if own:
            ones = torch.ones(1, 1, int((batch.places > 0).sum()), device=batch.tokens.device)
            self.predicted.add(0, by_document_and_class(ones, batch)[:, 0, 0], weights)
            self._predict(own, predicted, as_is, batch, weights)
            self._look_at_positions(batch, weights)
        turn = (self.rank - 1) % self.size  # the first process has the unchanged run, so it comes last
        for first, runs in islice(self.runs.stacks(self.stack, self.size), turn, None, self.size):
            see = self._see(runs, batch, weights)
            changed = self.reader.rerun(as_is, self.runs.changes[runs], see, first)
            self._predict(runs, predicted, changed, batch, weights)

    def _see(
        self, runs: Sequence[int], batch: Batch, weights: Float64[Tensor, "document replicate"]
    ) -> AttentionVisitor:
        def see(layer: int, attended: Attended) -> None:
            wanted = [place for place, run in enumerate(runs) if layer in self.seen[run]]
            if not wanted:
                return
            contexts = len(batch.mask)
            rows = [place * contexts + row for place in wanted for row in range(contexts)]
            shares = attended.shares(
                batch.one_hot.repeat(len(wanted), 1, 1), None if len(wanted) == len(runs) else rows
            )
            by_token = shares.unflatten(0, (len(wanted), -1))[
                :, batch.mask
            ].double()  # [run, token, head_index, token_class]
            per_document = torch.einsum("rthc,td->rdhc", by_token, batch.documents)
            for place, found in zip(wanted, per_document, strict=True):
                run = runs[place]
                self.attention[run].add(self.seen[run].index(layer), found, weights)

        return see

    def _look_at_positions(self, batch: Batch, weights: Float64[Tensor, "document replicate"]) -> None:
        """Add the unchanged run with each layer's own bias scores replaced by their means by position."""
        if not self.means or self.along is None:
            return

        def see(layer: int, seen: SeenLayer) -> None:
            means = self.means[0].of(layer, batch)
            scores = means.new_zeros(1, *batch.mask.shape, len(means))
            scores[0, batch.mask] = means.T
            received = seen.received(scores, batch.document_rows)[-1].double()  # [document, head_index, batch, pos]
            found = torch.einsum("dhbj,bjc->dhc", received, batch.one_hot.double())
            self.at_positions.add(layer, found, weights)

        self.reader.visit(batch, self.along, see)

    def _predict(
        self,
        runs: Sequence[int],
        unchanged: Predicted,
        changed: Ran,
        batch: Batch,
        weights: Float64[Tensor, "document replicate"],
    ) -> None:
        kept = [place for place, run in enumerate(runs) if run in self.predicting]
        if not kept:
            return
        found = compare_predictions(unchanged, changed, kept)
        per_document = by_document_and_class(found[:, :, batch.mask[:, 1:]], batch)
        for place, run in enumerate(kept):
            self.predictions.add(runs[run], per_document[:, place], weights)


def by_document_and_class(
    values: Float[Tensor, "run quantity token"], batch: Batch
) -> Float64[Tensor, "document run quantity token_class"]:
    """Sum values of the predicted tokens, which are all but the first of each context, by document and class."""
    after_first, documents, n_classes = batch.places > 0, len(batch.document_indices), batch.numbering.number
    sums = values.new_zeros((*values.shape[:2], documents * n_classes), dtype=torch.float64)
    for row in batch.classes[:, after_first]:
        sums.index_add_(2, batch.document_places[after_first] * n_classes + row, values.double())
    return sums.unflatten(2, (documents, n_classes)).movedim(2, 0)

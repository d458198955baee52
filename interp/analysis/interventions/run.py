"""Run a model many times over the same text with changed biases, each time from the first layer that is changed.

What the layers before it make of the text is that of the unchanged run, whose residual stream is kept before every layer.
Runs that begin at the same layer go side by side, stacked along the batch axis.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.analysis.accumulators import BootstrapSums, Sums, poisson_weights
from interp.analysis.attention import HeadVectors, attended, with_scores
from interp.analysis.batch import Batch, Classes, LayerVisitor
from interp.analysis.fitted import FittedMeans
from interp.analysis.settings import Reading
from interp.data.contexts import Contexts
from interp.model.attention import for_each_head, scored_hook
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer

Stream = Float[Tensor, "batch pos d_model"]


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

    def stacks(self, size: int) -> Iterator[tuple[int, list[int]]]:
        """Yield (first layer, runs) of at most `size` runs that begin at the same layer, without the unchanged run."""
        for layer in range(self.changes.shape[2]):
            runs = [run for run, first in enumerate(self.first) if first == layer and run != self.unchanged]
            yield from ((layer, runs[start : start + size]) for start in range(0, len(runs), size))


def runs_of(changes: Sequence[Float[Tensor, "2 layer head_index d_head"]]) -> Runs:
    """Return the runs that these changes need: equal changes share one, and so do all that change nothing."""
    listed = torch.stack([torch.zeros_like(changes[0]), *changes])
    different, of = torch.unique(listed.flatten(1), dim=0, return_inverse=True)
    different = different.unflatten(1, listed.shape[1:])
    changed = different.ne(0).any(-1).any(-1).any(1)  # [run, layer]
    layers = changed.shape[1]
    first = [min([*row.nonzero().flatten().tolist(), layers]) for row in changed]
    return Runs(different, of[1:].tolist(), int(of[0]), first)


@torch.no_grad()
def run_unchanged(
    model: HookedSymmetryBrokenTransformer, tokens: Int[Tensor, "batch pos"], see: LayerVisitor
) -> list[Stream]:
    """Run the model as it is; return the residual stream before every layer, and after the last."""
    streams: list[Stream] = []

    def keep(stream: Stream, hook: HookPoint) -> None:
        streams.append(stream)

    hooks = [(f"blocks.{layer}.hook_resid_pre", keep) for layer in range(model.cfg.n_layers)]
    with model.hooks(fwd_hooks=[*hooks, *_hooks(model, 0, None, see)]):
        last = model(tokens, stop_at_layer=model.cfg.n_layers)
    return [*streams, last]


@torch.no_grad()
def run_changed(
    model: HookedSymmetryBrokenTransformer,
    stream: Stream,
    first: int,
    changes: Float[Tensor, "run 2 layer head_index d_head"],
    see: LayerVisitor,
) -> Float[Tensor, "run batch pos d_model"]:
    """Run the model from layer `first` on once for each of the changes; return the residual streams after the last layer.

    `see` gets the runs along the batch axis, all contexts of the first run, then all of the second.
    """
    rows = stream.repeat(len(changes), 1, 1)  # [run * batch, pos, d_model]
    added = changes.repeat_interleave(len(stream), 0)
    with model.hooks(fwd_hooks=_hooks(model, first, added, see)):
        last = model(rows, start_at_layer=first, stop_at_layer=model.cfg.n_layers)
    return last.unflatten(0, (len(changes), -1))


def _hooks(
    model: HookedSymmetryBrokenTransformer,
    first: int,
    added: Float[Tensor, "row 2 layer head_index d_head"] | None,
    see: LayerVisitor,
) -> list[tuple[str, Callable]]:
    """Return hooks that add each row's changes to the biases and show queries and keys to `see`."""
    keys: list[HeadVectors] = []

    def keep_keys(k: HeadVectors, hook: HookPoint) -> None:
        keys.append(k)

    def change_queries(q: HeadVectors, hook: HookPoint) -> HeadVectors:
        q = q if added is None else q + added[:, 0, hook.layer(), None]
        see(hook.layer(), q, for_each_head(keys.pop(), model.cfg.n_heads))
        return q

    def change_values(v: HeadVectors, hook: HookPoint) -> HeadVectors:
        return v if added is None else v + added[:, 1, hook.layer(), None]

    each = [
        (scored_hook(model.cfg, "k"), keep_keys),
        ("hook_q_biased", change_queries),
        ("hook_v_biased", change_values),
    ]
    layers = range(first, model.cfg.n_layers)
    return [(f"blocks.{layer}.attn.{name}", hook) for layer in layers for name, hook in each]


QUANTITIES = ("loss", "kl", "top1_changed")


@torch.no_grad()
def compare_predictions(
    model: HookedSymmetryBrokenTransformer,
    unchanged: Float[Tensor, "batch pos d_model"],
    changed: Float[Tensor, "run batch pos d_model"],
    tokens: Int[Tensor, "batch pos"],
) -> Float[Tensor, "run quantity batch predicted_pos"]:
    """Return, for every run and predicted token, the quantities `QUANTITIES`.

    They are the cross-entropy of the run in nats, KL(unchanged || run) in nats, and 1 where the most probable token of the
    unchanged model is no longer the most probable, else 0. Logits are made for one context at a time, and take
    (1 + run) * pos * d_vocab numbers.

    Args:
        model: gives the final norm and the unembedding.
        unchanged: the residual stream of the unchanged model after its last layer.
        changed: the same of the runs.
        tokens: what was read; each but the first is predicted.
    """
    rows = [_one_context(model, unchanged[row], changed[:, row], tokens[row]) for row in range(len(tokens))]
    return torch.stack(rows, 2)


def _one_context(
    model: HookedSymmetryBrokenTransformer,
    unchanged: Float[Tensor, "pos d_model"],
    changed: Float[Tensor, "run pos d_model"],
    tokens: Int[Tensor, " pos"],
) -> Float[Tensor, "run quantity predicted_pos"]:
    before = _log_probabilities(model, unchanged[None, :-1])[0]  # [predicted_pos, d_vocab]
    after = _log_probabilities(model, changed[:, :-1])  # [run, predicted_pos, d_vocab]
    loss = -_of(after, tokens[1:])
    kl = (before.exp() * (before - after)).sum(-1)
    other = _of(after, before.argmax(-1)) < after.amax(-1)  # what was on top is no longer
    return torch.stack([loss, kl, other.to(loss)], 1)


def _of(values: Float[Tensor, "run pos d_vocab"], tokens: Int[Tensor, " pos"]) -> Float[Tensor, "run pos"]:
    return values.gather(-1, tokens[:, None].expand(len(values), -1, -1))[..., 0]


def _log_probabilities(
    model: HookedSymmetryBrokenTransformer, stream: Float[Tensor, "run pos d_model"]
) -> Float[Tensor, "run pos d_vocab"]:
    logits = model.unembed(model.ln_final(stream))
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


class InterventionSums(Sums):
    """Attention per class of keys and predictions per class of predicted tokens, for every run.

    Of several processes that read the same text each makes every so many of the stacks of runs, and the first the unchanged
    one too; merged, they have all. Sums are float64 and do not grow with the corpus: a run that begins at layer f holds
    replicates * (n_layers - f) * n_heads * n_classes * 8 bytes. A run that changes nothing is the unchanged run itself, so
    its changes are exactly 0. With `means` the unchanged run is also looked at with each layer's own bias scores replaced by
    their means by position: `at_positions`.
    """

    PARTS = ("attention", "at_positions", "predictions", "predicted")

    def __init__(
        self,
        model: HookedSymmetryBrokenTransformer,
        runs: Runs,
        predicting: Sequence[int],
        classes: Classes,
        settings: Reading,
        stack: int,
        world: World | None = None,
        means: Sequence[FittedMeans] = (),
    ) -> None:
        cfg, device = model.cfg, model.W_E.device
        self.means, self.bias_q = means, model.biases_in_force()[0].detach()
        replicates, seed = settings.replicates, settings.seed
        self.model, self.runs, self.numbering, self.stack = model, runs, classes, stack
        self.n_classes = classes.number
        self.rank, self.size = (world.rank, world.size) if world else (0, 1)
        self.predicting, self.replicates, self.seed = set(predicting), replicates, seed
        sizes = [cfg.n_layers - (0 if run == runs.unchanged else first) for run, first in enumerate(runs.first)]
        self.attention = [BootstrapSums((size, cfg.n_heads, self.n_classes), replicates, device) for size in sizes]
        every = (cfg.n_layers if means else 0, cfg.n_heads, self.n_classes)
        self.at_positions = BootstrapSums(every, replicates, device)
        shape = (len(runs.first), len(QUANTITIES), self.n_classes)
        self.predictions = BootstrapSums(shape, replicates, device)
        self.predicted = BootstrapSums((1, self.n_classes), replicates, device)

    @torch.no_grad()
    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts, unchanged and with every change, and add it."""
        batch = Batch(contexts, self.numbering, self.model.W_E.device)
        weights = poisson_weights(batch.document_indices, self.replicates, self.seed)
        unchanged = self.runs.unchanged
        own = [unchanged] if self.rank == 0 else []
        streams = run_unchanged(self.model, batch.contexts, self._see(own, 0, batch, weights))
        if own:
            ones = torch.ones(1, 1, int((batch.places > 0).sum()), device=batch.tokens.device)
            self.predicted.add(0, by_document_and_class(ones, batch)[:, 0, 0], weights)
            self._predict(own, streams[-1], streams[-1][None], batch, weights)
        for first, runs in islice(self.runs.stacks(self.stack), self.rank, None, self.size):
            see = self._see(runs, first, batch, weights)
            last = run_changed(self.model, streams[first], first, self.runs.changes[runs], see)
            self._predict(runs, streams[-1], last, batch, weights)

    def _see(
        self, runs: Sequence[int], first: int, batch: Batch, weights: Float64[Tensor, "document replicate"]
    ) -> LayerVisitor:
        def see(layer: int, q: HeadVectors, k: HeadVectors) -> None:
            if not runs:
                return
            per_document = _shares_by_document(q, k, batch, len(runs))
            for run, found in zip(runs, per_document, strict=True):
                self.attention[run].add(layer - first, found, weights)
            if self.means and self.runs.unchanged in runs:
                means = self.means[0].of(layer, batch)
                scores = means.new_zeros(*batch.mask.shape, len(means))
                scores[batch.mask] = means.T
                longer = with_scores(q - self.bias_q[layer], k, scores)
                [found] = _shares_by_document(*longer, batch, 1)
                self.at_positions.add(layer, found, weights)

        return see

    def _predict(
        self,
        runs: Sequence[int],
        unchanged: Float[Tensor, "batch pos d_model"],
        changed: Float[Tensor, "run batch pos d_model"],
        batch: Batch,
        weights: Float64[Tensor, "document replicate"],
    ) -> None:
        kept = [place for place, run in enumerate(runs) if run in self.predicting]
        if not kept:
            return
        found = compare_predictions(self.model, unchanged, changed[kept], batch.contexts)
        per_document = by_document_and_class(found[:, :, batch.mask[:, 1:]], batch)
        for place, run in enumerate(kept):
            self.predictions.add(runs[run], per_document[:, place], weights)


def _shares_by_document(
    q: HeadVectors, k: HeadVectors, batch: Batch, runs: int
) -> Float64[Tensor, "run document head_index token_class"]:
    """Sums of the queries' shares of attention by their document; the runs lie along the batch axis of q and k."""
    values = batch.one_hot.repeat(runs, 1, 1)[:, :, None]  # [run * batch, pos, 1, token_class]
    shares = attended(q, k, values).unflatten(0, (runs, -1))[:, batch.mask]  # [run, token, head_index, token_class]
    return torch.einsum("rthc,td->rdhc", shares.double(), batch.documents)


def by_document_and_class(
    values: Float[Tensor, "run quantity token"], batch: Batch
) -> Float64[Tensor, "document run quantity token_class"]:
    """Sum values of the predicted tokens, which are all but the first of each context, by document and class."""
    after_first, documents, n_classes = batch.places > 0, len(batch.document_indices), batch.numbering.number
    sums = values.new_zeros((*values.shape[:2], documents * n_classes), dtype=torch.float64)
    for row in batch.classes[:, after_first]:
        sums.index_add_(2, batch.document_places[after_first] * n_classes + row, values.double())
    return sums.unflatten(2, (documents, n_classes)).movedim(2, 0)

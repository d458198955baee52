"""Our own model as analyses read it: from queries and keys alone, without a pattern.

A changed run begins at the first layer that is changed: what the layers before it make of the text is that of the unchanged
run, whose residual stream is kept before every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.analysis.attention import (
    HeadBiases,
    HeadVectors,
    OneHot,
    attended,
    causal_pattern,
    class_shares,
    received_attention,
    received_by_document,
)
from interp.analysis.batch import Batch, visit_queries_and_keys
from interp.analysis.direction import PerHead, QueryShifts, query_shifts
from interp.analysis.readers.reader import (
    ALL,
    ELSEWHERE,
    SIDE_BY_SIDE,
    TOLD,
    Attended,
    AttentionVisitor,
    Changes,
    KeyScores,
    Pattern,
    Ran,
    Reader,
    Received,
    SeenLayer,
    Visitor,
    nothing,
)
from interp.errors import InterpError
from interp.model.attention import for_each_head, scored_hook
from interp.model.checkpoint import tensors_sha256
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.vocabulary import border_id

BLOCK = 2048  # of the vocabulary: the logits of 512 tokens are 4 MB then
MAPPED = 2**25  # bytes from which on glibc fetches a block from the system each time, page by page
EFFECTIVE = {  # what the effective direction is, by whether there is an unlearned and a learned query bias
    (True, True): "Read along the effective direction b_Q + beta_Q: the learned query bias is part of it.",
    (True, False): "Read along the effective direction b_Q + beta_Q; the learned query bias is zero, so it is b_Q.",
    (False, True): "Read along the learned query bias beta_Q of each head: no unlearned bias is in force.",
    (False, False): "No query bias is in force, learned or unlearned: amplification is 0 by definition.",
}
MIXTURE = (
    "The bias is drawn from {} components, and measured under the mean of all, which no training step had; components=True "
    "(--components) measures under the mean of each too."
)


class OwnLayer(SeenLayer):
    """Queries without the direction, keys, and the direction: all that attention with and without it needs."""

    def __init__(self, q: HeadVectors, k: HeadVectors, vector: HeadBiases) -> None:
        self.q, self.keys, self.vector = q, k, vector

    @cached_property
    def scores(self) -> KeyScores:
        """The same for every query."""
        return (self.keys * self.vector).sum(-1) / self.keys.shape[-1] ** 0.5

    def received(
        self, readings: Float[Tensor, "reading batch pos head_index"], documents: Float[Tensor, "batch pos document"]
    ) -> Received:
        """From one exponential of the scores for all readings (`interp.analysis.attention.received_by_document`)."""
        both = torch.stack([self.scores, torch.zeros_like(self.scores)])
        found = received_by_document(self.q, self.keys, torch.cat([both, readings.to(both)]), documents)
        still = ~self.vector.any(-1)
        found[0, :, still] = found[1, :, still]  # exactly equal without a bias
        return found

    def mean_received(
        self,
    ) -> tuple[Float[Tensor, "batch head_index key_pos"], Float[Tensor, "batch head_index key_pos"]]:
        """Two patterns, one after the other."""
        return received_attention(self.q + self.vector, self.keys), received_attention(self.q, self.keys)

    def pattern(self, rows: slice = ALL, queries: slice = ALL) -> tuple[Pattern, Pattern]:
        """Two softmaxes of scores; equal to the bit for a head without a bias."""
        q, k = self.q[rows], self.keys[rows]
        return causal_pattern(q + self.vector, k, queries), causal_pattern(q, k, queries)

    def shares_along(
        self, direction: Float[Tensor, "head_index d_head"], one_hot: OneHot
    ) -> Float[Tensor, "2 batch pos head_index token_class"]:
        """As the shares along the direction itself (`interp.analysis.attention.class_shares`)."""
        return class_shares(self.q, self.keys, direction, one_hot)


class OwnAttended(Attended):
    """Queries with all their biases, and keys."""

    def __init__(self, q: HeadVectors, k: HeadVectors) -> None:
        self.q, self.k = q, k

    def shares(
        self, values: Float[Tensor, "row pos column"], rows: list[int] | None = None
    ) -> Float[Tensor, "row pos head_index column"]:
        """From a fused kernel (`interp.analysis.attention.attended`)."""
        q, k = (self.q, self.k) if rows is None else (self.q[rows], self.k[rows])
        return attended(q, k, values[:, :, None])

    def mean_received(self) -> Float[Tensor, "row head_index key_pos"]:
        """From the pattern."""
        return received_attention(self.q, self.k)


@dataclass(frozen=True)
class OwnRan(Ran):
    """Residual streams: after the last layer of every run, and of the unchanged run before every layer, too."""

    model: HookedSymmetryBrokenTransformer
    last: Float[Tensor, "run batch pos d_model"]
    before: Sequence[Float[Tensor, "batch pos d_model"]] = ()

    @torch.no_grad()
    def log_probabilities(
        self, context: int, runs: slice | Sequence[int] = slice(None)
    ) -> Float[Tensor, "run pos d_vocab"]:
        """Unembed one context's streams."""
        logits = self.model.unembed(self.model.ln_final(self.last[runs, context]))
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    @torch.no_grad()
    def logits(self, context: int, run: int = 0) -> Iterator[Float[Tensor, "pos block"]]:
        """Unembed one context's stream, on a processor in blocks that stay in its cache."""
        stream = self.model.ln_final(self.last[run, context])
        size = BLOCK if stream.device.type == "cpu" else self.model.cfg.d_vocab
        for logits in self.model.unembed.blocks(stream, size):
            yield logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def once(linear: nn.Module, times: int) -> Iterator[None]:
    """Inside a with block, a map computes the first of so many equal parts of a batch and gives that for all."""
    hooks = (
        linear.register_forward_pre_hook(lambda module, x: (x[0][: len(x[0]) // times],)),
        linear.register_forward_hook(lambda module, x, found: found.repeat(times, *[1] * (found.ndim - 1))),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class OwnReader(Reader):
    """A `HookedSymmetryBrokenTransformer`, read up to the keys of its last layer.

    Raises:
        InterpError: the model has no tokenizer, or its contexts are shorter than `context`.
    """

    model: HookedSymmetryBrokenTransformer

    def __init__(self, model: HookedSymmetryBrokenTransformer, context: int | None = None) -> None:
        cfg = model.cfg
        if context is not None and not 2 <= context <= cfg.n_ctx:
            raise InterpError(f"The context is {context} tokens; {cfg.model_name} reads 2 to {cfg.n_ctx}.")
        self.model, self.name, self.tokenizer = model, cfg.model_name, model.need_tokenizer()
        self.n_layers, self.n_heads, self.d_head = cfg.n_layers, cfg.n_heads, cfg.d_head
        self.n_ctx, self.d_vocab = context or cfg.n_ctx, cfg.d_vocab
        self.border = border_id(self.tokenizer)

    @property
    def device(self) -> torch.device:  # type: ignore[override] # it may move
        """Where the embedding is."""
        return self.model.W_E.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the embedding."""
        return self.model.W_E.dtype

    @contextmanager
    def reading(self, bias: Any) -> Iterator[None]:
        """Evaluation mode, and the biases in force."""
        with self.model.evaluating(), self.model.bias(bias=bias):
            yield

    def shifts(self, direction: Any) -> QueryShifts:
        """See `interp.analysis.direction.query_shifts`."""
        return query_shifts(self.model, direction)

    def visit(self, batch: Batch, shifts: QueryShifts, see: Visitor) -> None:
        """Stop at the last layer's keys."""

        def meet(layer: int, q: HeadVectors, k: HeadVectors) -> None:
            see(layer, OwnLayer(q + shifts.without_bias[layer], k, shifts.vector[layer]))

        visit_queries_and_keys(self.model, batch.contexts, meet)

    def mean_queries(self, batches: Iterable[Batch]) -> PerHead:
        """The unlearned bias in force included."""
        if self.model.cfg.positional == "rope":
            raise InterpError(
                "With RoPE a mean query turns with the position; measure it on the bridge: model.to_bridge()."
            )
        total = torch.zeros(self.n_layers, self.n_heads, self.d_head, dtype=torch.float64, device=self.device)
        tokens = 0
        for batch in batches:
            tokens += int(batch.mask.sum())

            def add(layer: int, q: HeadVectors, k: HeadVectors, mask: Tensor = batch.mask) -> None:
                total[layer] += q[mask].sum(0)

            visit_queries_and_keys(self.model, batch.contexts, add)
        return (total / tokens).float() + self.shifts("bias").vector

    @property
    def value_bias(self) -> PerHead:
        """b_V, zeros in a model without."""
        return self.model.biases_in_force()[1].detach()

    @torch.no_grad()
    def run(self, tokens: Int[Tensor, "batch pos"], see: AttentionVisitor = nothing) -> OwnRan:
        """Keep the residual stream before every layer, and after the last."""
        streams: list[Tensor] = []

        def keep(stream: Tensor, hook: HookPoint) -> None:
            streams.append(stream)

        hooks = [(f"blocks.{layer}.hook_resid_pre", keep) for layer in range(self.n_layers)]
        with self.model.hooks(fwd_hooks=[*hooks, *self._hooks(0, see)]):
            last = self.model(tokens, stop_at_layer=self.n_layers)
        return OwnRan(self.model, last[None], streams)

    @torch.no_grad()
    def rerun(
        self,
        ran: Ran,
        changes: Changes,
        see: AttentionVisitor = nothing,
        first: int = 0,
        scores: Float[Tensor, "layer run batch head_index pos"] | None = None,
    ) -> OwnRan:
        """Begin at the first layer that is changed. Where scores are added, attention is computed in the open."""
        assert isinstance(ran, OwnRan)
        stream = ran.before[first]
        rows = stream.repeat(len(changes), 1, 1)  # [run * batch, pos, d_model]
        hooks = self._hooks(first, see, changes.repeat_interleave(len(stream), 0))
        alike = self.model.blocks[first].get_submodule("attn.qkv")  # what it reads and gives is the same in all runs
        if scores is not None:

            def add(found: Float[Tensor, "row head_index pos"], hook: HookPoint) -> Tensor:
                return found + scores[hook.layer()].flatten(0, 1).to(found)

            hooks += [(f"blocks.{layer}.attn.hook_bias_scores", add) for layer in range(first, self.n_layers)]
        with self.model.hooks(fwd_hooks=hooks), once(alike, len(changes)):
            last = self.model(rows, start_at_layer=first, stop_at_layer=self.n_layers)
        return OwnRan(self.model, last.unflatten(0, (len(changes), -1)))

    def _hooks(
        self, first: int, see: AttentionVisitor, added: Float[Tensor, "row 2 layer head_index d_head"] | None = None
    ) -> list[tuple[str, Callable]]:
        """Return hooks that add each row's changes to queries and values and show the attention to `see`."""
        keys: list[HeadVectors] = []

        def keep_keys(k: HeadVectors, hook: HookPoint) -> None:
            keys.append(k)

        def change_queries(q: HeadVectors, hook: HookPoint) -> HeadVectors:
            q = q if added is None else q + added[:, 0, hook.layer(), None].to(q)
            see(hook.layer(), OwnAttended(q, for_each_head(keys.pop(), self.n_heads)))
            return q

        def change_values(v: HeadVectors, hook: HookPoint) -> HeadVectors:
            return v if added is None else v + added[:, 1, hook.layer(), None].to(v)

        each = [
            (scored_hook(self.model.cfg, "k"), keep_keys),
            ("hook_q_biased", change_queries),
            ("hook_v_biased", change_values),
        ]
        layers = range(first, self.n_layers)
        return [(f"blocks.{layer}.attn.{name}", hook) for layer in layers for name, hook in each]

    def side_by_side(self, tokens: int) -> int:
        """On a processor fewer of large models, whose activations would be blocks of `MAPPED` bytes."""
        bytes_of_one = tokens * self.model.cfg.d_mlp * self.dtype.itemsize
        most = MAPPED // bytes_of_one if self.device.type == "cpu" else SIDE_BY_SIDE
        return max(1, min(super().side_by_side(tokens), most))

    def digest(self, bias: Any, direction: Any) -> str:
        """Weights, both biases in force, and both shifts of the queries."""
        with self.model.bias(bias=bias):
            shifts, biases = self.shifts(direction), self.model.biases_in_force()
        queries = {"with": shifts.with_bias, "without": shifts.without_bias, "b_Q": biases[0], "b_V": biases[1]}
        return tensors_sha256({**self.model.state_dict(), **queries})

    def told(self, bias: Any, direction: str) -> list[str]:
        """What the direction is, by whether there is an unlearned and a learned query bias; and of a mixture, its mean."""
        names = self.model.component_names if bias == "mean" else []
        return [*([MIXTURE.format(len(names))] if names else []), *self._told_of_direction(bias, direction)]

    def _told_of_direction(self, bias: Any, direction: str) -> list[str]:
        cfg = self.model.cfg
        unlearned, learned = bias != "none" and cfg.q.mode != "none", bool(self.model.b_Q.any())
        if direction == "bias" and unlearned:
            return []
        if direction == "bias":
            other = learned and cfg.positional == "learned" and not cfg.qk_norm
            hint = "; --direction effective reads along the learned one" if other else ""
            return [f"No query bias is in force: amplification along b_Q is 0 by definition{hint}."]
        if direction == "effective":
            return [EFFECTIVE[unlearned, learned]]
        return [TOLD.get(direction, ELSEWHERE.format(direction))]

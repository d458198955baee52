"""Whatever TransformerLens' bridge can hold, read by running the attention of every layer twice on the same input.

The second time the queries are changed by the direction, the attention is looked at, and what it writes is dropped: so the
model goes on as it is, and the two patterns differ by that layer's queries alone. Exact for every kind of attention that the
bridge shows, sinks, windows, soft caps and norms of queries included.

Changed runs go through all layers, from the tokens to the logits: a bridge cannot leave out the layers before a change.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.bridge import TransformerBridge

from interp.analysis.attention import HeadVectors
from interp.analysis.batch import Batch
from interp.analysis.direction import PerHead, QueryShifts
from interp.analysis.readers.directions import bridge_shifts
from interp.analysis.readers.patterns import BridgeAttended, BridgeLayer, BridgeRan
from interp.analysis.readers.reader import (
    ELSEWHERE,
    HALF,
    TOLD,
    AttentionVisitor,
    Changes,
    KeyScores,
    Pattern,
    Ran,
    Reader,
    Visitor,
    nothing,
)
from interp.analysis.readers.rotation import Turning
from interp.analysis.settings import Reading
from interp.errors import InterpError
from interp.model.checkpoint import tensors_sha256
from interp.vocabulary import border_id, vocabulary_size

LONGEST = 1024
"""Tokens of a context where nothing else is asked for: patterns take memory with the square of it."""

TOKENS = 2048
"""Tokens of a batch where no batch size is asked for."""

PREDICTIONS = 2**27
"""Numbers, of logits, that runs side by side make at most, unless one of them makes more."""


class BridgeReader(Reader):
    """A `TransformerBridge`.

    Args:
        bridge: of a model that predicts the next token.
        context: tokens of a context (default: the model's, at most `LONGEST`).
        border: the token before every document (default: the tokenizer's bos, else its eos).

    Raises:
        InterpError: the bridge does not show this model's attention, or has no tokenizer that says where its tokens stand.
    """

    model: TransformerBridge

    def __init__(self, bridge: TransformerBridge, context: int | None = None, border: str | None = None) -> None:
        cfg = bridge.cfg
        self.model, self.name = bridge, str(cfg.model_name)
        _refuse_unshown(bridge, self.name)
        self.n_layers, self.n_heads, self.d_head = int(cfg.n_layers), int(cfg.n_heads), int(cfg.d_head)
        longest = int(cfg.n_ctx or LONGEST)
        if context is not None and not 2 <= context <= longest:
            raise InterpError(f"The context is {context} tokens; {self.name} reads 2 to {longest}.")
        self.n_ctx, self.d_vocab = context or min(longest, LONGEST), int(cfg.d_vocab)
        self.tokenizer = bridge.tokenizer
        if self.tokenizer is None or not getattr(self.tokenizer, "is_fast", False):
            raise InterpError(
                f"{self.name} comes without a tokenizer that says where in the text its tokens stand; give one of "
                "transformers' fast tokenizers as tokenizer=."
            )
        if border is not None:
            self.tokenizer = _beginning_with(self.tokenizer, border)
        self.border = border_id(self.tokenizer)
        self.d_vocab = max(self.d_vocab, vocabulary_size(self.tokenizer))

    @property
    def device(self) -> torch.device:  # type: ignore[override] # it may move
        """Where its first parameter is."""
        return next(self.model.original_model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """That of its first parameter."""
        return next(self.model.original_model.parameters()).dtype

    def contexts_per_batch(self, settings: Reading) -> int:
        """Return as many as hold `TOKENS` tokens, unless a batch size is asked for."""
        return settings.contexts_per_batch(self.n_ctx, TOKENS)

    @property
    def linear(self) -> bool:
        """Whether scores are linear in the query."""
        return bool(self._turning.layers)

    @contextmanager
    def reading(self, bias: Any) -> Iterator[None]:
        """Evaluation mode; a bridged model has no biases that are drawn."""
        if bias not in ("mean", None):
            raise InterpError(
                f"bias={bias!r} chooses how unlearned biases are drawn, and {self.name} has none; leave it at 'mean'."
            )
        inner = self.model.original_model
        was_training = inner.training
        inner.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            inner.train(was_training)

    def bias_name(self, bias: Any) -> str:
        """Those that were learned: there are no others."""
        return "learned"

    def shifts(self, direction: Any) -> QueryShifts:
        """What stands in the queries and is taken away ("effective", "folded", a mean query), or a vector that is added."""
        return bridge_shifts(self.model, direction)

    def visit(self, batch: Batch, shifts: QueryShifts, see: Visitor) -> None:
        """Run the model as it is, up to the last layer's attention, and every attention once more with other queries."""
        added, linear = bool(shifts.with_bias.any()), self.linear
        change: PerHead = shifts.with_bias if added else shifts.without_bias
        once: dict[str, Tensor] = {}  # what a layer's attention shows as it is
        now, other = once, None  # where it is kept that runs, and what queries are changed by

        def queries(q: Tensor, hook: HookPoint) -> Tensor:
            return q if other is None else q + other.to(q).view(q.shape[2:])

        def keep(name: str, shown: Tensor, hook: HookPoint) -> None:
            now[name] = shown

        def look(layer: int, again: Callable[[Tensor], dict[str, Tensor]]) -> BridgeLayer:
            shown = again(change[layer])
            as_is, changed = once.pop("hook_pattern").float(), shown.pop("hook_pattern").float()
            patterns = (changed, as_is) if added else (as_is, changed)

            def along(direction: Tensor) -> Tensor:
                return again(direction if added else change[layer] + direction)["hook_pattern"].float()

            if linear:
                keys = self._turning.layers[layer].keys(self.per_head(once.pop("hook_k")), batch.mask)
                scores = (keys * shifts.vector[layer]).sum(-1) / self.d_head**0.5
                return BridgeLayer(patterns, keys, scores, along)
            difference = once.pop("hook_attn_scores").float() - shown.pop("hook_attn_scores").float()
            scores = _seen_mean(-difference if added else difference, as_is, batch.mask)
            return BridgeLayer(patterns, None, scores, along)

        def run_again(layer: int, attn: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            def again(change: Tensor) -> dict[str, Tensor]:
                nonlocal now, other
                now, other = {}, change
                attn.forward(*args, **kwargs)  # not called: then this hook would be
                shown, now, other = now, once, None
                return shown

            see(layer, look(layer, again))
            if layer == self.n_layers - 1:
                raise _SeenAll

        names = ("hook_pattern", "hook_k" if linear else "hook_attn_scores")
        kinds = [("hook_q", queries), *((name, partial(keep, name)) for name in names)]
        hooks = [(f"{at(layer)}.{name}", hook) for layer in range(self.n_layers) for name, hook in kinds]
        with ExitStack() as stack:
            for layer, block in enumerate(self.model.blocks):
                hook = partial(run_again, layer)
                stack.callback(block.attn.register_forward_hook(hook, with_kwargs=True).remove)
            self._run(batch.contexts, hooks)

    def run(self, tokens: Int[Tensor, "batch pos"], see: AttentionVisitor = nothing) -> BridgeRan:
        """Once, unchanged."""
        zeros = torch.zeros(1, 2, self.n_layers, self.n_heads, self.d_head, device=tokens.device)
        return self._changed(tokens, zeros, see, 0, None)

    def rerun(
        self,
        ran: Ran,
        changes: Changes,
        see: AttentionVisitor = nothing,
        first: int = 0,
        scores: Float[Tensor, "layer run batch head_index pos"] | None = None,
    ) -> BridgeRan:
        """Begin with the tokens."""
        assert isinstance(ran, BridgeRan)
        if bool(changes[:, 1].any()):
            raise InterpError(f"{self.name} has no unlearned value bias to scale; leave part at q.")
        if scores is not None:
            self.need_scores()
        return self._changed(ran.tokens, changes, see, first, scores)

    def _changed(
        self, tokens: Tensor, changes: Changes, see: AttentionVisitor, first: int, scores: Tensor | None
    ) -> BridgeRan:
        def queries(q: Tensor, hook: HookPoint) -> Tensor:
            added = changes[:, 0, hook.layer()].repeat_interleave(len(tokens), 0)
            return q + added.to(q).view(len(q), 1, *q.shape[2:])

        def look(pattern: Tensor, hook: HookPoint) -> None:
            see(hook.layer(), BridgeAttended(pattern.float()))

        def add(found: Tensor, hook: HookPoint) -> Tensor:
            assert scores is not None
            return found + scores[hook.layer()].flatten(0, 1)[:, :, None].to(found)

        every, changed = range(self.n_layers), changes[:, 0].any(-1).any(-1).any(0).tolist()
        hooks: list[Any] = [(f"{at(layer)}.hook_q", queries) for layer in every if changed[layer]]
        hooks += [(f"{at(layer)}.hook_pattern", look) for layer in every[first:]]
        hooks += [(f"{at(layer)}.hook_attn_scores", add) for layer in every] if scores is not None else []
        logits = self._run(tokens.repeat(len(changes), 1), hooks, "logits")
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        if scores is not None and bool(scores.isnan().any()):  # a bridge may put 0 in the place of what is missing
            exact = torch.full_like(exact, torch.nan)
        return BridgeRan(tokens, exact.unflatten(0, (len(changes), -1)))

    @cached_property
    def takes_scores(self) -> bool:  # type: ignore[override] # tried once
        """Whether numbers added to the score of the first of two keys move the second query's pattern to it and from it."""
        name, most = "hook_attn_scores", 30.0
        if any(f"{at(layer)}.{name}" not in self.model.hook_dict for layer in range(self.n_layers)):
            return False
        found: list[Tensor] = []

        def add(scores: Tensor, hook: HookPoint) -> Tensor:
            changed = scores.clone()
            changed[0, ..., 0] += most
            changed[1, ..., 0] -= most
            return changed

        def look(pattern: Tensor, hook: HookPoint) -> None:
            found.append(pattern[0, :, 1, 0].float() - pattern[1, :, 1, 0].float())

        kinds = [(name, add), ("hook_pattern", look)]
        hooks = [(f"{at(layer)}.{each}", hook) for layer in range(self.n_layers) for each, hook in kinds]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that an edit is discarded, which is the answer
            self._run(torch.full((2, 2), self.border, device=self.device), hooks)
        return all(bool((moved > 0.99).all()) for moved in found)

    def contexts_per_rerun(self, settings: Reading) -> int:
        """Return as many as make `PREDICTIONS` logits, unless a batch size is asked for."""
        most = max(1, PREDICTIONS // (self.n_ctx * self.d_vocab))
        return settings.batch_size or min(super().contexts_per_rerun(settings), most)

    def side_by_side(self, tokens: int) -> int:
        """Return as many as make `PREDICTIONS` logits."""
        return max(1, min(super().side_by_side(tokens), PREDICTIONS // (tokens * self.d_vocab)))

    def digest(self, bias: Any, direction: Any) -> str:
        """Weights, and both shifts of the queries."""
        shifts = self.shifts(direction)
        queries = {"with": shifts.with_bias, "without": shifts.without_bias}
        return tensors_sha256({**self.model.original_model.state_dict(), **queries})

    def told(self, bias: Any, direction: str) -> list[str]:
        """What the direction is, and what a bias score is where it depends on the query."""
        raw = "Read along the learned query bias as the weights have it."
        sentences = [raw if direction == "effective" else TOLD.get(direction, ELSEWHERE.format(direction))]
        if not self.linear:
            sentences.append(
                f"{self.name} normalizes queries after the bias: bias scores are differences of attention scores, mean over "
                "the queries that see the key, and what is computed from keys (random directions, equal spread) is left out."
            )
        elif self._turning.turns:
            sentences.append(
                f"{self.name} turns queries with their position: a key's bias score is the mean over the queries that see "
                "it."
            )
        return sentences

    def mean_queries(self, batches: Iterable[Batch]) -> PerHead:
        """Return E[q] of every head over the tokens of some batches, before any rotation."""
        total = torch.zeros(self.n_layers, self.n_heads, self.d_head, dtype=torch.float64, device=self.device)
        tokens = 0
        for batch in batches:
            tokens += int(batch.mask.sum())

            def add(q: Tensor, hook: HookPoint, mask: Tensor = batch.mask) -> None:
                total[hook.layer()] += (
                    q.unflatten(-1, (-1, self.d_head))[mask].sum(0) if q.ndim == 3 else q[mask].sum(0)
                )
                if hook.layer() == self.n_layers - 1:
                    raise _SeenAll

            self._run(batch.contexts, [(f"{at(layer)}.hook_q", add) for layer in range(self.n_layers)])
        return (total / tokens).float()

    @cached_property
    def _turning(self) -> Turning:
        """Measured on contexts of the border token."""
        half = self.dtype in HALF
        sizes = self.n_layers, self.n_heads, self.d_head, self.n_ctx
        return Turning.of(self._probe, *sizes, strength=16.0 if half else 1.0).to(self.device)

    def _probe(self, queries: Tensor, keys: list[Tensor], last: int) -> list[Tensor]:
        found: list[list[Tensor]] = [[] for _ in range(self.n_layers)]
        rows = max(1, 2 * TOKENS // queries.shape[1])
        for start in range(0, len(queries), rows):
            here = slice(start, start + rows)

            def set_queries(q: Tensor, hook: HookPoint, here: slice = here) -> Tensor:
                return queries[here].to(q).reshape(q.shape)

            def set_keys(k: Tensor, hook: HookPoint, here: slice = here) -> Tensor:
                heads = k.shape[2] if k.ndim == 4 else k.shape[2] // self.d_head
                return keys[hook.layer()][here, :, None].expand(-1, -1, heads, -1).to(k).reshape(k.shape)

            def look(pattern: Tensor, hook: HookPoint) -> None:
                found[hook.layer()].append(pattern[:, :, -last:].float().log().cpu())
                if hook.layer() == self.n_layers - 1:
                    raise _SeenAll

            kinds = [("hook_q", set_queries), ("hook_k", set_keys), ("hook_pattern", look)]
            hooks = [(f"{at(layer)}.{name}", hook) for layer in range(self.n_layers) for name, hook in kinds]
            shape = queries[here].shape[:2]
            self._run(torch.full(shape, self.border, device=self.device), hooks)
        return [torch.cat(parts) for parts in found]

    def _run(self, tokens: Int[Tensor, "batch pos"], hooks: Any, return_type: str | None = None) -> Any:
        """Run the model with hooks, every token real, until one of them has seen all."""
        with torch.no_grad(), self.model.hooks(fwd_hooks=hooks), suppress(_SeenAll):
            return self.model(tokens, return_type=return_type, attention_mask=torch.ones_like(tokens), use_cache=False)

    def per_head(self, k: Tensor) -> HeadVectors:
        """Return keys per head of the queries: head h reads those of kv head h // group."""
        k = k.unflatten(-1, (-1, self.d_head)) if k.ndim == 3 else k
        return k.float().repeat_interleave(self.n_heads // k.shape[2], 2)


class _SeenAll(Exception):  # noqa: N818 - nothing went wrong: what comes after the last pattern is not needed
    """Leaves the forward pass."""


def _seen_mean(values: Pattern, pattern: Pattern, mask: Bool[Tensor, "batch pos"]) -> KeyScores:
    """Return the mean over the real queries that see the key."""
    counted = (pattern > 0) & mask[:, None, :, None]
    return (torch.where(counted, values, 0.0).sum(2) / counted.sum(2).clamp(min=1)).transpose(1, 2)


def _beginning_with(tokenizer: Any, name: str) -> Any:
    """Return a copy of a tokenizer whose documents begin with another token that it has."""
    index = tokenizer.convert_tokens_to_ids(name)
    if not isinstance(index, int) or tokenizer.convert_ids_to_tokens(index) != name:
        raise InterpError(f"The tokenizer has no token {name!r} to stand before documents; name one that it has.")
    copied = deepcopy(tokenizer)
    copied.bos_token = name
    return copied


def at(layer: int) -> str:
    """Return where the hooks of a layer's attention are."""
    return f"blocks.{layer}.attn"


def _refuse_unshown(bridge: TransformerBridge, name: str) -> None:
    wanted = ("hook_q", "hook_k", "hook_pattern", "hook_out")
    known = bridge.hook_dict
    missing = [f"{at(layer)}.{hook}" for layer in range(int(bridge.cfg.n_layers)) for hook in wanted
               if f"{at(layer)}.{hook}" not in known]  # fmt: skip
    if missing:
        raise InterpError(
            f"TransformerLens' bridge does not show the attention of {name} (it lacks {missing[0]}); models that read in "
            "one direction, with softmax attention in every layer, can be read."
        )

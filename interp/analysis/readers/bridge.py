"""Whatever TransformerLens' bridge can hold, read by running the attention of every layer twice on the same input.

The second time the queries are changed by the direction, the attention is looked at, and what it writes is dropped: so the
model goes on as it is, and the two patterns differ by that layer's queries alone. Exact for every kind of attention that the
bridge shows, sinks, windows, soft caps and norms of queries included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.bridge import TransformerBridge

from interp.analysis.attention import HeadVectors, OneHot
from interp.analysis.batch import Batch
from interp.analysis.direction import PerHead, QueryShifts
from interp.analysis.readers.directions import bridge_shifts
from interp.analysis.readers.reader import ELSEWHERE, TOLD, KeyScores, Reader, Received, SeenLayer, Visitor
from interp.analysis.readers.rotation import Turning
from interp.analysis.settings import Reading
from interp.errors import InterpError
from interp.model.checkpoint import tensors_sha256
from interp.vocabulary import border_id, vocabulary_size

LONGEST = 1024
"""Tokens of a context where nothing else is asked for: patterns take memory with the square of it."""

TOKENS = 2048
"""Tokens of a batch where no batch size is asked for."""

ROUNDING = 1e-5
"""What a row of a pattern may lack to 1 without a sink."""

Pattern = Float[Tensor, "batch head_index query_pos key_pos"]


class BridgeLayer(SeenLayer):
    """Both patterns of a layer, and its keys as `Turning` gives them."""

    def __init__(
        self, patterns: tuple[Pattern, Pattern], keys: HeadVectors | None, scores: KeyScores, turns: bool
    ) -> None:
        self.patterns, self.scores, self.turns = patterns, scores, turns
        if keys is not None:
            self.keys = keys

    def received(
        self, readings: Float[Tensor, "reading batch pos head_index"], documents: Float[Tensor, "batch pos document"]
    ) -> Received:
        """Sums of the patterns' rows, a context at a time: memory holds no third pattern of a whole batch."""
        found = []
        for row, of_row in enumerate(documents.to(self.patterns[0]).mT):  # [document, pos]
            with_direction, without = (pattern[row] for pattern in self.patterns)
            changed = (_without_but(without, reading[row]) for reading in readings)
            found.append(torch.stack([of_row @ pattern for pattern in (with_direction, without, *changed)]))
        return torch.stack(found, -2).transpose(1, 2)  # of [reading, head_index, document, batch, key_pos]

    def mean_received(
        self,
    ) -> tuple[Float[Tensor, "batch head_index key_pos"], Float[Tensor, "batch head_index key_pos"]]:
        """Means of the columns of the patterns."""
        seen = torch.arange(self.patterns[0].shape[-1], 0, -1, device=self.patterns[0].device)
        with_direction, without = (pattern.sum(2) / seen for pattern in self.patterns)
        return with_direction, without

    def shares_along(
        self, direction: Float[Tensor, "head_index d_head"], one_hot: OneHot
    ) -> Float[Tensor, "2 batch pos head_index token_class"]:
        """Known from the keys where the scores are the same for every query."""
        if self.turns:
            raise InterpError(
                "Amplification along random directions needs scores that are the same for every query, and this model turns "
                "its queries with the position; leave --amplified-nulls at 0."
            )
        along = _without_but(self.patterns[1], (self.keys * direction).sum(-1) / self.keys.shape[-1] ** 0.5)
        both = (along, self.patterns[1])
        return torch.stack([torch.einsum("bhij,bjc->bihc", each, one_hot.to(each)) for each in both])


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
        self.border = _border(self.tokenizer, border)
        self.d_vocab = max(self.d_vocab, vocabulary_size(self.tokenizer))

    @property
    def device(self) -> torch.device:  # type: ignore[override] # it may move
        """Where its first parameter is."""
        return next(self.model.original_model.parameters()).device

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
        if bias != "mean":
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

    def shifts(self, direction: Any) -> QueryShifts:
        """What stands in the queries and is taken away ("effective", "folded", a mean query), or a vector that is added."""
        return bridge_shifts(self.model, direction)

    def visit(self, batch: Batch, shifts: QueryShifts, see: Visitor) -> None:
        """Run the model as it is, up to the last layer's attention, and every attention once more with other queries."""
        added, linear = bool(shifts.with_bias.any()), self.linear
        change: PerHead = shifts.with_bias if added else shifts.without_bias
        once, again = {}, {}  # what a layer's attention shows as it is, and with other queries
        now = once

        def queries(q: Tensor, hook: HookPoint) -> Tensor:
            return q if now is once else q + change[hook.layer()].to(q).view(q.shape[2:])

        def keep(name: str, shown: Tensor, hook: HookPoint) -> None:
            now[name] = shown

        def look(layer: int) -> BridgeLayer:
            as_is, changed = once.pop("hook_pattern").float(), again.pop("hook_pattern").float()
            patterns = (changed, as_is) if added else (as_is, changed)
            if linear:
                keys = self._turning.layers[layer].keys(self.per_head(once.pop("hook_k")), batch.mask)
                scores = (keys * shifts.vector[layer]).sum(-1) / self.d_head**0.5
                return BridgeLayer(patterns, keys, scores, self._turning.turns)
            difference = once.pop("hook_attn_scores").float() - again.pop("hook_attn_scores").float()
            scores = _seen_mean(-difference if added else difference, as_is, batch.mask)
            return BridgeLayer(patterns, None, scores, True)

        def run_again(layer: int, attn: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            nonlocal now
            now = again
            attn.forward(*args, **kwargs)  # not called: then this hook would be
            now = once
            see(layer, look(layer))
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
        half = next(self.model.original_model.parameters()).dtype in (torch.float16, torch.bfloat16)
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

    def _run(self, tokens: Int[Tensor, "batch pos"], hooks: Any) -> None:
        """Run the model with hooks, every token real, until one of them has seen all."""
        with torch.no_grad(), self.model.hooks(fwd_hooks=hooks), suppress(_SeenAll):
            self.model(tokens, return_type=None, attention_mask=torch.ones_like(tokens), use_cache=False)

    def per_head(self, k: Tensor) -> HeadVectors:
        """Return keys per head of the queries: head h reads those of kv head h // group."""
        k = k.unflatten(-1, (-1, self.d_head)) if k.ndim == 3 else k
        return k.float().repeat_interleave(self.n_heads // k.shape[2], 2)


class _SeenAll(Exception):  # noqa: N818 - nothing went wrong: what comes after the last pattern is not needed
    """Leaves the forward pass."""


def _without_but(
    without: Float[Tensor, "*batch head_index query_pos key_pos"], added: Float[Tensor, "*batch key_pos head_index"]
) -> Float[Tensor, "*batch head_index query_pos key_pos"]:
    """Return the pattern without the direction when numbers r_j are added to the scores of keys.

    The softmax of log p0_ij + r_j, beside the log of what a row lacks to 1, as with sinks.
    """
    lacking = 1 - without.sum(-1, keepdim=True)
    sink = torch.where(lacking > ROUNDING, lacking, 0.0).log()
    return torch.cat([without.log() + added.mT[..., None, :], sink], -1).softmax(-1)[..., :-1]


def _seen_mean(values: Pattern, pattern: Pattern, mask: Bool[Tensor, "batch pos"]) -> KeyScores:
    """Return the mean over the real queries that see the key."""
    counted = (pattern > 0) & mask[:, None, :, None]
    return (torch.where(counted, values, 0.0).sum(2) / counted.sum(2).clamp(min=1)).transpose(1, 2)


def _border(tokenizer: Any, name: str | None) -> int:
    if name is None:
        return border_id(tokenizer)
    index = tokenizer.convert_tokens_to_ids(name)
    if not isinstance(index, int) or tokenizer.convert_ids_to_tokens(index) != name:
        raise InterpError(f"The tokenizer has no token {name!r} to stand before documents; name one that it has.")
    return index


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
